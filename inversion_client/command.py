"""`inversion submit PHOTO...`, also as `inversion-submit` where the library is not installed.

Ids go to stdout, one a line; everything else to stderr. An error is one line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Never, cast

from tqdm import tqdm

from inversion_client.client import InversionClient
from inversion_client.connection import DEFAULT_URL, KEY_VARIABLE
from inversion_client.errors import ClientError, KeyRefused, ServiceUnreachable
from inversion_client.folders import folders
from inversion_client.models import Event, Inversion
from inversion_client.plan import Retries
from inversion_client.results import RESULTS, Kind, result_of
from inversion_client.uploading import Options

EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130
FETCHED = ("aligned", "image", "npy", "strip")
"""What is downloaded where nothing else is said; the files are called as those of `inversion invert`."""
RETRIES = Retries(times=3, first_s=0.25)
"""A person waits for the first answer: two seconds are enough to say that nobody is there."""
EPILOG = """Prints the id of each photo once it is accepted. With --wait, the results of each photo go into a folder
DIR/NAME (the file name without its extension): aligned.png, reconstruction.png, latents.npy and strip.png,
or whatever --get lists.

Exit status: 0 success, 1 an inversion failed, 2 the command or a photo was refused or the service is
unreachable, 130 interrupted. Accepted inversions keep running in any case."""


def main(argv: Sequence[str] | None = None, prog: str = "inversion-submit") -> int:
    """Run the command; `argv` is without the program's name, None takes the process's own."""
    args = build_parser(prog).parse_args(argv)
    try:
        with InversionClient(args.url, api_key=args.key, retries=RETRIES) as client:
            return _submit_all(client, args, _options(args))
    except (ClientError, ValueError) as error:
        _complain(error)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        print("interrupted; accepted inversions keep running", file=sys.stderr)
        return EXIT_INTERRUPTED


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The whole command line, without running anything."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Send photos of faces to a running service.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    parser.add_argument("--url", default=DEFAULT_URL, help="address of the service (default: %(default)s)")
    parser.add_argument(
        "--key", help=f"API key; visible to other users, so prefer the variable {KEY_VARIABLE} (the default)"
    )
    _add_options(parser)
    parser.add_argument("--wait", action="store_true", help="wait for the results and download them")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results; implies --wait (default: .)")
    parser.add_argument(
        "--get",
        default=",".join(FETCHED),
        metavar="LIST",
        help=f"what to download, separated by commas: {', '.join(RESULTS)} (default: %(default)s)",
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds to wait per photo (default: no limit)")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", metavar="N", help="steps of the code (default: the pack's)")
    parser.add_argument("--detail-steps", metavar="N", help="steps of detail, 0 for none (default: the pack's)")
    parser.add_argument("--optimizer", metavar="NAME", help="an optimizer that the pack offers")
    parser.add_argument("--start", metavar="START", help="start code: encoder, mean or random")
    parser.add_argument("--pack", metavar="NAME", help="a pack that the service offers")
    parser.add_argument("--face", metavar="N", help="which face of the photo, from 0 (default: the largest)")
    parser.add_argument(
        "--quad", metavar="X,Y,...", help="crop corners instead: top left, bottom left, bottom right, top right"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="any other option of the API; repeatable"
    )


def _options(args: argparse.Namespace) -> Options:
    """As text: the service checks them, and knows those of its own version."""
    chosen = {
        name: getattr(args, name) for name in ("steps", "detail_steps", "optimizer", "start", "pack", "face", "quad")
    }
    for option in args.option:
        name, sign, value = option.partition("=")
        if not sign or not name:
            raise ValueError(f"--option {option}: it takes NAME=VALUE, such as seed=7")
        chosen[name] = value
    return cast(Options, {name: value for name, value in chosen.items() if value is not None})


def _submit_all(client: InversionClient, args: argparse.Namespace, options: Options) -> int:
    kinds = [cast(Kind, kind.strip()) for kind in args.get.split(",") if kind.strip()]
    for kind in kinds:
        result_of(kind)
    status = 0
    accepted: list[tuple[Path, Path, Inversion]] = []
    for photo, folder in folders(args.photos, args.out or Path()):
        try:
            inversion = client.submit(photo, **options)
        except (KeyRefused, ServiceUnreachable):
            raise  # the next photo would fare no better
        except (ClientError, OSError) as error:
            _complain(error, photo)
            status = EXIT_REFUSED
        else:
            print(inversion.id, flush=True)
            accepted.append((photo, folder, inversion))
    if args.wait or args.out is not None:
        results = [_fetch(client, *each, kinds, args.timeout) for each in accepted]
        status = max(status, *results, 0)
    return status


def _fetch(
    client: InversionClient,
    photo: Path,
    folder: Path,
    inversion: Inversion,
    kinds: Sequence[Kind],
    timeout_s: float | None,
) -> int:
    """Follow one to its end, and download its results; the exit status."""
    try:
        _show(client, photo, inversion, timeout_s)
        ended = client.wait(inversion, timeout_s=timeout_s)
        folder.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            client.download(ended, kind, to=folder)
    except (ClientError, OSError) as error:
        _complain(error, photo)
        return EXIT_FAILED
    loss = "" if ended.best_loss is None else f": loss {ended.best_loss:.5f} at step {ended.best_step}"
    print(f"{folder}{loss}", file=sys.stderr)
    return 0


def _show(client: InversionClient, photo: Path, inversion: Inversion, timeout_s: float | None) -> None:
    """A progress bar until the inversion has ended; none where nobody looks."""
    bar: tqdm[Never]
    with tqdm(total=inversion.steps, desc=photo.name, unit="step", disable=None) as bar:
        for event in client.events(inversion, timeout_s=timeout_s):
            if event.kind == "started" and event.steps is not None:
                bar.total = event.steps
            _advance(bar, event)


def _advance(bar: tqdm[Never], event: Event) -> None:
    if event.step is not None and event.kind == "frame":
        bar.update(event.step - bar.n)
    if event.loss is not None:
        bar.set_postfix(loss=f"{event.loss:.4f}")


def _complain(error: Exception, photo: Path | None = None) -> None:
    """One line, whatever the message holds."""
    told = " ".join(str(error).split()) or type(error).__name__
    print(f"error: {photo}: {told}" if photo is not None else f"error: {told}", file=sys.stderr)

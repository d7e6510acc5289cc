"""SOURCE: whose latent a command takes: a photo, a code, the folder of an earlier result, or `seed:7`.

Suffixes: L style layer, D latent w.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from inversion_core.editing import Code, own_codes
from inversion_core.errors import OptionInvalid
from inversion_core.faces import Aligned, align, find_faces, no_face_found
from inversion_core.inverter import BestSteps, Step, invert
from inversion_core.latents import Latent
from inversion_core.options import InvertConfig
from inversion_core.packs import Pack
from inversion_core.pictures import centre_crop, load_photo, to_tensor
from inversion_core.progress import progress

SOURCE_HELP = "a photo, a code (.npy, .safetensors), the folder of an earlier result, or seed:7"
SEED = "seed:"
CODE_NAMES = ("latents.safetensors", "latents.npy")
"""The files of a result, the one that holds most first."""
CODE_SUFFIXES = (".npy", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One latent and, where it was found just now, the photo that it was found for."""

    latent: Latent
    photo: Image.Image | None = None
    aligned: Aligned | None = None


def add_inverting(parser: argparse.ArgumentParser) -> None:
    """Options for sources that are photos."""
    group = parser.add_argument_group("photos")
    group.add_argument("--steps", type=int, metavar="N", help="optimization steps (default: the pack's)")
    group.add_argument("--detail-steps", type=int, metavar="N", help="steps of detail after them (default: the pack's)")
    group.add_argument("--face", type=int, default=0, metavar="N", help="which one, from 0, largest first (default: 0)")
    group.add_argument("--no-align", action="store_true", help="use the centre of the photo, without detecting a face")


def read_source(pack: Pack, text: str, args: argparse.Namespace) -> Source:
    """What a SOURCE stands for.

    Raises:
        OptionInvalid, PictureInvalid, NoFaceFound: there is no such thing, or it is not of this pack.
    """
    if text.startswith(SEED):
        return Source(latent=own_codes(pack)(Code(seed=_seed(text))))
    path = Path(text)
    if path.is_dir():
        return Source(latent=read_latent(pack, _code_in(path)))
    if path.suffix.lower() in CODE_SUFFIXES:
        return Source(latent=read_latent(pack, path))
    return _inverted(pack, path, args)


def read_latent(pack: Pack, file: Path) -> Latent:
    """A code (.npy) or a latent (.safetensors) of one image.

    Raises:
        OptionInvalid: it is none, or of another pack.
    """
    try:
        if file.suffix.lower() == ".safetensors":
            return pack.check_latent(Latent.from_bytes(file.read_bytes()))
        w_LD = np.asarray(np.load(file, allow_pickle=False), dtype=np.float32)
        return pack.check_latent(torch.from_numpy(w_LD).reshape(1, *w_LD.shape[-2:]))
    except KeyError as error:
        raise OptionInvalid(f"{file} holds no {error}; give the latents of an earlier result") from error
    except (OSError, ValueError, EOFError, SafetensorError) as error:
        raise OptionInvalid(f"{file}: {error}. Give a code of this pack, such as latents.npy of a result") from error


def write_latent(file: Path, latent: Latent) -> None:
    """As `.npy`, the code alone, or `.safetensors`, everything."""
    if file.suffix.lower() == ".safetensors":
        file.write_bytes(latent.to_bytes())
    else:
        np.save(file, latent.w_BLD[0].cpu().numpy())


def parse_layers(text: str) -> tuple[int, int]:
    """`4-9`, or `4`, as the first and the last layer; for argparse, which reports the ValueError."""
    first, sign, last = text.partition("-")
    return int(first), int(last if sign else first)


def _seed(text: str) -> int:
    number = text.removeprefix(SEED)
    if not number.isdecimal() or len(number) > 15:
        raise OptionInvalid(f"{text} names no seed; write a whole number after the colon, such as seed:7")
    return int(number)


def _code_in(folder: Path) -> Path:
    for name in CODE_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise OptionInvalid(f"{folder} has neither {' nor '.join(CODE_NAMES)}; give the folder of a result")


@dataclass(frozen=True, kw_only=True)
class Crop:
    """What is inverted of a photo."""

    photo: Image.Image
    aligned: Aligned | None
    crop: Image.Image


def aligned_crop(pack: Pack, photo: Path, args: argparse.Namespace) -> Crop:
    """A photo, and its face as FFHQ frames it, or its centre.

    Raises:
        OptionInvalid, PictureInvalid, NoFaceFound: there is no such photo or face.
    """
    image = load_photo(photo)
    aligned = None if args.no_align else _aligned(pack, image, args.face)
    return Crop(
        photo=image, aligned=aligned, crop=centre_crop(image, pack.resolution) if aligned is None else aligned.image
    )


def _inverted(pack: Pack, photo: Path, args: argparse.Namespace) -> Source:
    found = aligned_crop(pack, photo, args)
    latent = search(invert(pack, to_tensor(found.crop), config(args)), photo.name)
    return Source(latent=latent, photo=found.photo, aligned=found.aligned)


def config(args: argparse.Namespace) -> InvertConfig:
    """What `add_inverting` asked for."""
    return InvertConfig(num_steps=args.steps, detail_steps=args.detail_steps)


def search(steps: Iterable[Step], label: str) -> Latent:
    """The best latent among the steps of an inversion, with a progress bar."""
    best = BestSteps()
    for step in progress(steps, desc=label, unit="step"):
        best.update(step)
    return best.latent


def _aligned(pack: Pack, image: Image.Image, number: int) -> Aligned:
    found = find_faces(image)
    if not found:
        raise no_face_found(image)
    if not 0 <= number < len(found):
        raise OptionInvalid(f"--face is {number}, and {len(found)} faces were found; they count from 0, largest first")
    return align(image, found[number], pack.resolution)

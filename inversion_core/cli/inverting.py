"""What `inversion invert` does: each photo is a request to one engine, and Ctrl-C keeps what there is.

Suffixes: L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import argparse
import io
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from inversion_core.cli.folders import folders
from inversion_core.cli.kept import Frames, Kept, Row, read_kept
from inversion_core.cli.threads import use_threads
from inversion_core.course import course_of
from inversion_core.engine import Engine, EngineConfig, ImageStep, Request, StopReason, StopRules
from inversion_core.engine.capacity import default_slots, thread_counts
from inversion_core.errors import InversionError, NoFaceFound, OptionInvalid
from inversion_core.faces import Aligned, Face, align, find_faces, mask_of_crop, no_face_found
from inversion_core.faces.frame import Floats
from inversion_core.inverter import make_optimizer
from inversion_core.latents import Latent
from inversion_core.options import InvertConfig
from inversion_core.packs import Pack, load_pack
from inversion_core.packs.load import check_device
from inversion_core.pictures import centre_crop, load_photo, to_image, to_tensor
from inversion_core.progress import progress
from inversion_pictures.errors import PictureRefused
from inversion_pictures.masks import read_mask

EXIT_REFUSED, EXIT_INTERRUPTED = 2, 130
NPY_MAGIC = b"\x93NUMPY"
NO_FACE_REMEDY = "Or give --no-align to take the centre of the picture as it is."


class Outcome(Enum):
    """What became of a photo."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    """By Ctrl-C; what there was is kept."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done to every photo."""

    pack: Pack
    config: InvertConfig
    rules: StopRules
    start: Latent | None
    """A batch of one."""
    mask: Path | None
    align: bool
    face: int | None
    frame_every: int
    resume: bool

    @property
    def steps(self) -> int:
        """Updates of a photo, where no rule ends it earlier."""
        return course_of(self.pack, self.config, self.start).total


def run(args: argparse.Namespace) -> int:
    """The command; returns its exit status."""
    check_device(name := _device(args.device))
    device = torch.device(name)
    if args.threads is not None:
        use_threads(args.threads, name)
    plan = _plan(args, device)
    slots = min(len(args.photos), args.batch or default_slots([plan.pack], device))
    args.out.mkdir(parents=True, exist_ok=True)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is a Ctrl-C
    counts = thread_counts(device) if args.threads is None else ()
    with Engine(EngineConfig(slots=slots, threads=counts)) as engine:
        outcomes = _run_all(engine, plan, folders(args.photos, args.out), slots)
    return _status(outcomes)


def _device(name: str) -> str:
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise OptionInvalid(f"--{name} is {value}; it must be at least 1")


def _plan(args: argparse.Namespace, device: torch.device) -> Plan:
    """Everything that can be refused before the first photo is.

    Raises:
        OptionInvalid, PackNotFound, PackInvalid: what it is, and what to do; also where `--out` is a file.
    """
    _at_least_one("frame-every", args.frame_every)
    if args.batch is not None:
        _at_least_one("batch", args.batch)
    if args.face is not None and (args.face < 0 or args.no_align):
        raise OptionInvalid(f"--face is {args.face}; it counts from 0, largest first, and does not go with --no-align")
    if args.mask is not None and len(args.photos) > 1:
        raise OptionInvalid(f"--mask belongs to one photo, and {len(args.photos)} are given; invert them one by one")
    if args.out.exists() and not args.out.is_dir():
        raise OptionInvalid(f"--out {args.out} is a file; name a folder")
    config = InvertConfig(
        num_steps=args.steps, detail_steps=args.detail_steps, detail_px=args.detail_px, optimizer=args.optimizer,
        learning_rate=args.learning_rate, start=args.start, seed=args.seed, regulariser_weight=args.regulariser,
        focus=args.focus,
    )  # fmt: skip
    rules = StopRules(
        target_loss=args.target_loss, max_seconds=args.max_seconds, plateau_steps=args.plateau_steps
    )  # fmt: skip
    pack = load_pack(args.pack, device=device)
    start = _start(args.start_code, pack)
    if start is not None and args.start is not None:
        raise OptionInvalid("--start and --start-code exclude each other; leave one out")
    make_optimizer(pack, config, start=start)
    course_of(pack, config, start)
    return Plan(pack=pack, config=config, rules=rules, start=start, mask=args.mask,
                align=not args.no_align, face=args.face, frame_every=args.frame_every, resume=args.resume)  # fmt: skip


def _start(file: Path | None, pack: Pack) -> Latent | None:
    if file is None:
        return None
    try:
        data = file.read_bytes()
        return pack.check_latent(_of_npy(data) if data.startswith(NPY_MAGIC) else Latent.from_bytes(data))
    except (ValueError, KeyError, EOFError, SafetensorError) as error:
        raise OptionInvalid(
            f"--start-code {file}: {error}. Give a code of this pack, such as the latents.npy or latents.safetensors "
            f"of an earlier run"
        ) from error


def _of_npy(data: bytes) -> Latent:
    code = np.load(io.BytesIO(data), allow_pickle=False)
    return Latent(w_BLD=torch.from_numpy(np.asarray(code, dtype=np.float32)).reshape(1, *code.shape[-2:]))


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is inverted of a photo."""

    image: Image.Image
    mask_HW: Tensor | None


def _mask(file: Path | None, photo: Image.Image, quad: Floats | None, side_px: int) -> Tensor | None:
    """The mask cut out as the photo was. Raises: OptionInvalid."""
    if file is None:
        return None
    try:
        mask_HW = mask_of_crop(read_mask(file.read_bytes(), photo.size), quad, side_px)
    except (PictureRefused, OSError) as error:
        raise OptionInvalid(f"--mask {file}: {error}") from error
    if not mask_HW.any():
        raise OptionInvalid(f"--mask {file} is black all over the crop that is inverted; make white what must agree")
    return mask_HW


# -- all photos ----------------------------------------------------------------------------------------------


def _run_all(engine: Engine, plan: Plan, photos: Iterator[tuple[Path, Path]], at_once: int) -> list[Outcome]:
    """Each photo in a thread: it is aligned and its files are written while the engine computes others."""
    stop, listed = Event(), list(photos)
    label = listed[0][0].name if len(listed) == 1 else "photos"
    with (
        progress(total=len(listed) * (plan.steps + 1), desc=label, unit="step") as bar,
        ThreadPoolExecutor(at_once) as pool,
    ):
        worker = PhotoRun(engine, plan, stop, bar)
        futures = [pool.submit(worker, photo, folder) for photo, folder in listed]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            stop.set()
            return _outcomes_after_stop(futures)


def _outcomes_after_stop(futures: list[Future[Outcome]]) -> list[Outcome]:
    for future in futures:
        future.cancel()
    return [Outcome.STOPPED if future.cancelled() else future.result() for future in futures]


def _status(outcomes: list[Outcome]) -> int:
    failed = outcomes.count(Outcome.FAILED)
    if failed and len(outcomes) > 1:
        print(f"error: {failed} of {len(outcomes)} photos failed", file=sys.stderr)
    if Outcome.STOPPED in outcomes:
        print("interrupted: the best code so far is kept. Repeat the command with --resume to go on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_REFUSED if failed else 0


# -- one photo -----------------------------------------------------------------------------------------------


class PhotoRun:
    """Call it with a photo and its folder; several threads may."""

    def __init__(self, engine: Engine, plan: Plan, stop: Event, bar: Any) -> None:
        self._engine, self._plan, self._stop, self._bar = engine, plan, stop, bar

    def __call__(self, photo: Path, folder: Path) -> Outcome:
        if self._stop.is_set():
            return Outcome.STOPPED
        try:
            return self._inverted(photo, folder)
        except (InversionError, OSError) as error:
            remedy = f" {NO_FACE_REMEDY}" if isinstance(error, NoFaceFound) else ""
            self._say(f"error: {photo}: {error}{remedy}")
            return Outcome.FAILED

    def _inverted(self, photo: Path, folder: Path) -> Outcome:
        before = read_kept(folder) if self._plan.resume else None
        if before is not None and before.is_done:
            self._bar.update(self._plan.steps + 1)
            self._say(f"{folder}: done before")
            return Outcome.DONE
        prepared = self._prepared(photo)
        kept, last = self._steps(prepared, before)
        if last is None:  # stopped before its first step: what an earlier run wrote stays
            return Outcome.STOPPED
        kept.write(folder, last.checkpoint() if last.reason is None else None)
        if last.reason is StopReason.NONFINITE:
            self._say(f"{photo.name}: the loss became infinite or NaN; the best step before that is kept")
        self._say(f"{folder}: loss {kept.best.loss:.5f} at step {kept.best.index}", is_result=True)
        return Outcome.STOPPED if last.reason is None else Outcome.DONE

    def _prepared(self, photo: Path) -> Prepared:
        """The face as FFHQ frames it, or the photo's centre, and the part of the mask that belongs to it."""
        image, side_px = load_photo(photo), self._plan.pack.resolution
        aligned = self._aligned(photo, image) if self._plan.align else None
        return Prepared(
            image=centre_crop(image, side_px) if aligned is None else aligned.image,
            mask_HW=_mask(self._plan.mask, image, None if aligned is None else aligned.quad, side_px),
        )

    def _aligned(self, photo: Path, image: Image.Image) -> Aligned:
        faces = find_faces(image)
        if not faces:
            raise no_face_found(image)
        face = self._chosen(photo, faces)
        for warning in face.warnings:
            self._say(f"{photo}: {warning.sentence}")
        return align(image, face, self._plan.pack.resolution)

    def _chosen(self, photo: Path, faces: list[Face]) -> Face:
        wanted = self._plan.face
        if wanted is None:
            if len(faces) > 1:
                self._say(f"{photo}: {len(faces)} faces, the largest was taken; --face 1 takes the next")
            return faces[0]
        if wanted >= len(faces):
            raise OptionInvalid(f"--face is {wanted}, and the photo has {len(faces)}; they count from 0, largest first")
        return faces[wanted]

    def _steps(self, prepared: Prepared, before: Kept | None) -> tuple[Kept, ImageStep | None]:
        """Everything up to the last step, or to Ctrl-C; with the step that came last."""
        kept = before or Kept(frames=Frames([prepared.image]))
        last: ImageStep | None = None
        with self._engine.submit(self._request(prepared, before)) as ticket:
            for step in ticket:
                last = step
                self._note(kept, step)
                if self._stop.is_set():
                    ticket.cancel()
        return kept, last

    def _request(self, prepared: Prepared, before: Kept | None) -> Request:
        plan = self._plan
        return Request(
            pack=plan.pack, target_CHW=to_tensor(prepared.image)[0], mask_HW=prepared.mask_HW, config=plan.config,
            rules=plan.rules, start_LD=plan.start, frame_every=plan.frame_every,
            resume=None if before is None else before.checkpoint,
            losses_before=() if before is None else [(row.step, row.loss) for row in before.rows[:-1]],
        )  # fmt: skip

    def _note(self, kept: Kept, step: ImageStep) -> None:
        row = Row(step=step.index, loss=step.loss, pixel=step.pixel, perceptual=step.perceptual)
        is_new = not kept.rows or step.index > kept.rows[-1].step  # a run that goes on repeats its last step
        if is_new:
            kept.rows.append(row)
            if step.frame_HWC is not None:
                kept.frames.images.append(Image.fromarray(step.frame_HWC.numpy()))
        if kept.improves(step.loss):
            latent = step.latent.mapped(lambda x_B: x_B.cpu().clone())
            kept.take(step.index, step.loss, latent, to_image(step.image_CHW))
        self._bar.update()
        self._bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)

    def _say(self, text: str, *, is_result: bool = False) -> None:
        self._bar.write(text, file=sys.stdout if is_result else sys.stderr)

"""`inversion pack convert`: a pack from whatever files there are. It finds out what each of them is by keys and shapes.

Each architecture reads its own generator (`models/generators/`). A generator alone makes a pack that maps and
synthesizes; encoder and perceptual network are used where a file has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import GeneratorConfig, VGG16Features
from inversion_core.models.encoders.base import PictureEncoder
from inversion_core.models.encoders.published import read_encoder
from inversion_core.models.encoders.published import recognised as recognised_encoder
from inversion_core.models.generators import ARCHITECTURES, Beside, Found
from inversion_core.models.perceptual import IMAGENET_MEAN_BGR
from inversion_core.models.source import Source
from inversion_core.packs.checkpoint import Checkpoint
from inversion_core.packs.contents import Part, parts_of
from inversion_core.packs.convert import convert_encoder, convert_vgg
from inversion_core.packs.digests import digest
from inversion_core.packs.foreign import is_ours
from inversion_core.packs.imagenet import MEAN_BGR, convert_torchvision
from inversion_core.packs.manifest import NO_PERCEPTUAL, PackManifest, PerceptualSpec
from inversion_core.packs.save import check_target, save_pack

LICENCE = (
    "Not stated when the pack was made: that of the converted files. Networks that NVIDIA published are for "
    "non-commercial use alone (NVIDIA Source Code License)."
)
TORCHVISION_VGG = r"features\.\d+\.(weight|bias)$"
UNUSED = (
    (r"styles\.\d+\.convs\.", "an encoder of pSp or ReStyle with another body than IR-SE-50"),
    (r"output_layer\.\d+\.|input_layer\.|body\.\d+\.", "a network of face recognition or another encoder"),
    (r"(hypernet|refinement_blocks|w_encoder)\.", "a hypernetwork of HyperStyle"),
)
"""What is known and not used."""
MOST_NAMED = 6

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """One state dict of one file, and what it was recognised as."""

    checkpoint: Checkpoint
    part: Part
    kind: str
    """ "generator", "encoder", "pyramid", "vgg", "torchvision" or "" for what is not used."""
    what: str

    @property
    def name(self) -> str:
        """Where it lies, for people."""
        return f"{self.checkpoint.path}{f' [{self.part.place}]' if self.part.place else ''}"

    def mean(self) -> Tensor | None:
        """The mean w that lies beside it."""
        if self.part.mean is None:
            return None
        return self.checkpoint.tensors({"mean": self.part.mean})["mean"]

    def source(self) -> Source:
        return Source(Path(self.name), self.checkpoint.tensors(self.part.handles))


def convert_files(
    files: Sequence[str | Path], folder: str | Path, *, name: str | None = None, version: str = "1.0.0",
    licence: str | None = None, label: int = 0, half: bool = False, overwrite: bool = False,
    say: Say = lambda line: None,
) -> PackManifest:  # fmt: skip
    """Convert published files into a pack folder.

    Args:
        files: at least one of them holds a generator.
        name: of the pack; None: from the generator's file name.
        licence: terms of the weights, for the pack; None: says that they were not stated.
        label: the class to draw, of class-conditional generators.
        half: store float16 (half the size, and no longer exactly the published weights).
        say: is told, line by line, what was found, what is used and what is not.
    Raises:
        PackInvalid: a file is damaged, holds code, or is none that can be used; the message says what to do.
        FileExistsError, ValueError: as `save_pack` and `PackManifest`.
    """
    check_target(Path(folder).absolute(), overwrite)  # now, not after all the reading
    pieces = [piece for file in files for piece in _pieces(Checkpoint.read(file))]
    chosen = _generator_of(pieces)
    found = _read(chosen, label)
    config = found.generator.config
    say(f"{chosen.name}: {found.what}, {config.resolution} px, codes {config.num_layers}x{config.w_dim}; used")
    for note in (*chosen.part.details, *found.notes):
        say(f"  {note}")
    if found.ignored:
        say(f"  constants, not needed: {_some(found.ignored)}")
    used = [chosen]
    encoder: PictureEncoder | None = None
    perceptual, spec = None, NO_PERCEPTUAL
    for piece in pieces:
        what = piece.what
        if piece.kind == "encoder" and isinstance(config, GeneratorConfig) and encoder is None:
            encoder = convert_encoder(piece.source(), config)
        elif piece.kind == "pyramid" and encoder is None:
            read = read_encoder(piece.source(), piece.part.options, piece.mean(), config)
            encoder, what = read.encoder, read.what
        elif piece.kind in ("vgg", "torchvision") and perceptual is None:
            perceptual, spec = _perceptual(piece)
        else:
            if piece is not chosen:
                say(f"{piece.name}: {piece.what}; ignored")
            continue
        used.append(piece)
        say(f"{piece.name}: {what}; used")
    if perceptual is None:
        say("no perceptual network: before you invert, give the pack one with `inversion pack use-imagenet-vgg`")
    manifest = PackManifest(
        name=_name(chosen.checkpoint.path, config.resolution) if name is None else name,
        version=version,
        description=f"{found.what[0].upper()}{found.what[1:]} at {config.resolution} px, converted.",
        licence=LICENCE if licence is None else licence,
        provenance="Converted from "
        + "; ".join(
            dict.fromkeys(f"{p.checkpoint.path.name} (SHA-256 {digest(p.checkpoint.path)}): {p.what}" for p in used)
        ),
        generator=config,
        encoder=encoder.config if encoder else None,
        perceptual=spec,
    )
    return save_pack(
        folder, manifest, generator=found.generator, encoder=encoder, perceptual=perceptual, half=half,
        overwrite=overwrite,
    )  # fmt: skip


def _pieces(checkpoint: Checkpoint) -> list[_Piece]:
    pieces = [
        _Piece(checkpoint=checkpoint, part=part, kind=kind, what=what)
        for part in parts_of(checkpoint)
        for kind, what in (_recognised(part),)
    ]
    if not pieces:
        raise PackInvalid(
            f"{checkpoint.path} holds no tensors by name. Give the file as its publisher has it, or save the state "
            f"dict: torch.save(model.state_dict(), file)."
        )
    return pieces


def _recognised(part: Part) -> tuple[str, str]:
    """What a state dict is used for, and what to call it."""
    keys = list(part.handles)
    for room in ARCHITECTURES.values():
        if (text := room.refused(keys)) is not None:
            return "refused", text
        if (what := room.recognised(keys)) is not None:
            return "generator", what
    for kind, what in (("encoder", "IDInvert's encoder"), ("vgg", "VGG-16")):
        if is_ours(keys, kind):
            return kind, what
    if any(re.match(TORCHVISION_VGG, key) for key in keys):
        return "torchvision", "torchvision's VGG-16"
    if recognised_encoder(keys):
        return "pyramid", "an encoder of pSp, e4e or ReStyle"
    for mark, what in UNUSED:
        if any(re.match(mark, key) for key in keys):
            return "", f"{what}, which is not used"
    return "", f"{len(keys)} tensors that are no generator ({_some(keys, 3)})"


def _generator_of(pieces: Sequence[_Piece]) -> _Piece:
    """The generator that makes the best pictures: an averaged one, and one by itself before a decoder."""
    generators = sorted((piece for piece in pieces if piece.kind == "generator"), key=lambda piece: piece.part.rank)
    if not generators:
        for piece in pieces:
            if piece.kind == "refused":
                raise PackInvalid(f"{piece.name} is {piece.what}")
        piece = max(pieces, key=lambda piece: len(piece.part.handles))
        raise PackInvalid(
            f"{piece.name} holds no generator ({_some(list(piece.part.handles), 3)}). Give a StyleGAN2 network as "
            f"NVIDIA (.pkl), rosinality, genforce, MMGeneration or PTI save it, a checkpoint of e4e, pSp or ReStyle, "
            f"or IDInvert's generator."
        )
    return generators[0]


def _read(piece: _Piece, label: int) -> Found:
    if piece.part.fault:
        raise PackInvalid(f"{piece.name} {piece.part.fault}.")
    beside = Beside(mean_D=piece.mean(), conv_clamp=piece.part.conv_clamp, label=label)
    source = piece.source()
    found = next(each for room in ARCHITECTURES.values() if (each := room.read(source, beside)) is not None)
    if label and not getattr(found.generator.config, "labels", 0):
        raise OptionInvalid(f"--label is {label}, and the generator of {piece.name} knows no classes; leave it out")
    return found


def _perceptual(piece: _Piece) -> tuple[nn.Module, PerceptualSpec]:
    if piece.kind == "vgg":
        args, note = list(IMAGENET_MEAN_BGR), "Caffe weights, as published."
        network = convert_vgg(piece.source())
    else:
        args, note = MEAN_BGR, "ImageNet weights of torchvision, in our channel order and scale."
        network = VGG16Features(mean_bgr=MEAN_BGR)
        network.load_state_dict(convert_torchvision(piece.source().tensors))
    return network, PerceptualSpec(kind="vgg16", layer="relu4_3", args={"mean_bgr": args}, note=note)


def _name(file: Path, resolution: int) -> str:
    """A pack's name: that of the file, in the letters that names have."""
    stem = re.sub(r"[^a-z0-9._]+", "-", file.stem.lower()).strip("-._")
    return (stem or f"generator-{resolution}")[:64]


def _some(keys: Sequence[str], most: int = MOST_NAMED) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{', '.join(keys[:most])}{more}"

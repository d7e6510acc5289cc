"""What pack.json says, read with care: every fault is a PackInvalid that names the file, the key and the remedy."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from inversion_core.errors import PackInvalid
from inversion_core.latents import detail_shape
from inversion_core.loss import PERCEPTUAL_WEIGHT
from inversion_core.models import Architecture
from inversion_core.models.encoders.base import EncoderArchitecture
from inversion_core.models.encoders.kinds import DEFAULT_ENCODER, ENCODERS
from inversion_core.models.generators import ARCHITECTURES, DEFAULT_KIND
from inversion_core.optimizers import CLASSIC, OPTIMIZERS, build_optimizer
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.options import check_focus
from inversion_core.packs.by_start import TRAINED_STARTS, is_by_start
from inversion_core.packs.detail import DetailSpec, read_detail
from inversion_core.packs.directions import DIRECTIONS_FILE, DirectionSpec, read_spec, spec_fields
from inversion_core.packs.learned import Variant, read_variants, variants
from inversion_core.packs.reader import REMEDY, Reader

MANIFEST_FILE = "pack.json"
FORMAT = 1
"""Version of this layout; a reader refuses what it does not know."""
PERCEPTUAL_KINDS = ("vgg16", "discriminator", "none")
WEIGHT_FILES = {
    "generator": "generator.safetensors",
    "encoder": "encoder.safetensors",
    "perceptual": "perceptual.safetensors",
    "detail_predictor": "detail.safetensors",
}
MAX_FILE_BYTES = 4 * 2**20
"""Longest pack.json that is read."""

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class PerceptualSpec:
    """Which network F a pack carries, and how much its term counts."""

    kind: str
    """"vgg16" (up to relu4_3), "discriminator" (a middle layer of the pack's own: feature matching), or "none"."""
    layer: str
    """Name of the layer whose output is compared, for people."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """vgg16: `mean_bgr`, what is subtracted from 0..255. discriminator: `resolution`, `channels`, `until` (pixels)."""
    weight: float = PERCEPTUAL_WEIGHT
    """lambda_vgg of equation 1."""
    note: str = ""
    """What a person should know of it."""


NO_PERCEPTUAL = PerceptualSpec(kind="none", layer="", weight=0.0, note="The pack has no perceptual network.")
"""What a generator alone has: it maps and synthesizes, and nothing can be inverted yet."""


@dataclass(frozen=True, kw_only=True)
class PackManifest:
    """Everything about a pack but its weights."""

    name: str
    version: str
    generator: Architecture
    perceptual: PerceptualSpec
    encoder: EncoderArchitecture | None = None
    description: str = ""
    licence: str = ""
    """Under which terms the weights may be used."""
    provenance: str = ""
    """Where the weights come from: data, program, command."""
    optimizers: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"adam": {"learning_rate": 0.01}})
    """Name of an optimizer -> the settings that suit this pack, or start -> such settings, see `offered` and
    `by_start.py`; of a learned one: start -> settings of the weights that were trained for it."""
    default_optimizer: str = "adam"
    focus: float = 0.0
    """How much more the middle of the face counts than the rim where nobody says (`inversion_core.loss.focus_map`)."""
    detail: DetailSpec | None = None
    """Where detail is added and how it is found; None: see `detail_or_default`."""
    directions: tuple[DirectionSpec, ...] = ()
    """Editing directions; their tensors lie in directions.safetensors."""
    shared_weights: Mapping[str, str] = field(default_factory=dict)
    """Weights that have no file of their own -> those whose file holds them, under the same keys beside others'
    ("learned-lbfgs-any": "learned-residual-any"): nothing is stored twice."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path inside the pack -> SHA-256 of the file; filled in when the pack is saved."""
    extends: str = ""
    """Of an extension (`extension.py`) the name of the pack that it adds to, which all else here is of."""

    def __post_init__(self) -> None:
        """Raises ValueError, with the key's name first, where the parts do not fit together."""
        check_name_and_version(self.name, self.version)
        if self.default_optimizer not in self.offered:
            raise ValueError(
                f"default_optimizer is {self.default_optimizer!r}; this pack offers {', '.join(sorted(self.offered))}"
            )
        if self.perceptual.kind not in PERCEPTUAL_KINDS:
            raise ValueError(
                f"perceptual.kind is {self.perceptual.kind!r}; it must be one of {', '.join(PERCEPTUAL_KINDS)}"
            )
        if not 0 <= self.perceptual.weight < math.inf:
            raise ValueError(f"perceptual.weight is {self.perceptual.weight}; it must be 0 or more")
        check_focus(self.focus)
        try:
            detail_shape(self.generator, self.detail_or_default.px)
        except ValueError as error:
            raise ValueError(f"detail.px is impossible: {error}") from error
        if self.encoder is not None and (self.encoder.resolution, self.encoder.w_dim) != (self.resolution, self.w_dim):
            raise ValueError(
                f"encoder makes codes of width {self.encoder.w_dim} from {self.encoder.resolution} px, "
                f"and the generator needs {self.w_dim} and {self.resolution} px"
            )
        if self.encoder is not None and self.encoder.num_layers != self.num_layers:
            raise ValueError(
                f"encoder makes codes of {self.encoder.num_layers} rows, and the generator takes {self.num_layers}"
            )
        names = [spec.name for spec in self.directions]
        if len(set(names)) != len(names):
            raise ValueError(f"directions have two of one name; the names are {', '.join(names)}")
        check_shared(self.shared_weights, self.learned)

    @property
    def resolution(self) -> int:
        return self.generator.resolution

    @property
    def detail_or_default(self) -> DetailSpec:
        """The pack's own; where it says nothing, at half its resolution, and only on request."""
        return self.detail or DetailSpec(px=self.resolution // 2)

    @property
    def num_layers(self) -> int:
        """Number L of style layers."""
        return self.generator.num_layers

    @property
    def w_dim(self) -> int:
        return self.generator.w_dim

    @property
    def z_dim(self) -> int:
        return self.generator.z_dim

    @property
    def has_encoder(self) -> bool:
        return self.encoder is not None

    @property
    def has_perceptual(self) -> bool:
        return self.perceptual.kind != NO_PERCEPTUAL.kind

    @property
    def has_detail_predictor(self) -> bool:
        return self.detail is not None and self.detail.predictor is not None

    @property
    def starts(self) -> tuple[str, ...]:
        """Start codes that the pack can make, the default first."""
        return ("encoder", "mean", "random") if self.has_encoder else ("mean", "random")

    @property
    def offered(self) -> dict[str, Mapping[str, Any]]:
        """Name -> settings of every optimizer that can be chosen: all classic ones; where `optimizers` has no settings
        for one, its built-in ones hold."""
        return {name: {} for name in CLASSIC} | dict(self.optimizers)

    @property
    def weight_files(self) -> dict[str, str]:
        """Network -> file, for those that this pack has."""
        has = {
            "generator": True, "encoder": self.has_encoder, "perceptual": self.has_perceptual,
            "detail_predictor": self.has_detail_predictor,
        }  # fmt: skip
        return {network: file for network, file in WEIGHT_FILES.items() if has[network]}

    @property
    def learned(self) -> dict[Variant, Mapping[str, Any]]:
        """The sets of weights of learned optimizers, and the settings of each."""
        return variants(self.optimizers)

    def learned_file(self, variant: Variant) -> str:
        """The file that holds the weights of a learned optimizer."""
        return f"{self.shared_weights.get(str(variant), variant)}.safetensors"

    @property
    def tensor_files(self) -> list[str]:
        """Every file that must be there."""
        directions = [DIRECTIONS_FILE] if self.directions else []
        learned = dict.fromkeys(map(self.learned_file, self.learned))
        return [*self.weight_files.values(), *learned, *directions]

    def to_json(self) -> str:
        """The text of pack.json."""
        fields = dataclasses.asdict(self) | {"directions": [spec_fields(spec) for spec in self.directions]}
        shape = {"resolution": self.resolution, "num_layers": self.num_layers, "w_dim": self.w_dim}
        order = ("name", "version", "description", "licence", "provenance")
        for key in ("focus", "detail", "shared_weights", "extends"):  # programs of before do not know them
            if not fields[key]:
                del fields[key]
        if self.generator.kind != DEFAULT_KIND:
            fields["generator"] = {"kind": self.generator.kind} | fields["generator"]
        if self.detail is not None and self.detail.predictor is None:
            del fields["detail"]["predictor"]
        if self.encoder is not None:
            if self.encoder.kind != DEFAULT_ENCODER:
                fields["encoder"] = {"kind": self.encoder.kind} | fields["encoder"]
            if fields["encoder"].get("blocks_per_size") == 1:  # programs of before do not know the key
                del fields["encoder"]["blocks_per_size"]
        head = {"format": FORMAT} | {key: fields.pop(key) for key in order}
        return json.dumps(head | shape | fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def check_name_and_version(name: str, version: str) -> None:
    """ValueError where they are none."""
    if not NAME.fullmatch(name):
        raise ValueError(f"name is {name!r}; use up to 64 small letters, digits, '.', '_' and '-'")
    if not VERSION.fullmatch(version):
        raise ValueError(f"version is {version!r}; use up to 64 letters, digits, '.', '+', '_' and '-'")


def check_shared(shared_weights: Mapping[str, str], learned: Iterable[Variant]) -> None:
    """ValueError where weights are said to lie with others that do not exist, or that have no file either."""
    names = set(map(str, learned))
    for name, holder in shared_weights.items():
        if name not in names or holder not in names or holder in shared_weights:
            raise ValueError(
                f"shared_weights has {name!r}: {holder!r}; both must be learned optimizers of the pack, and the second "
                f"one must have a file"
            )


def read_bytes(folder: Path) -> bytes:
    """The bytes of `folder`/pack.json.

    Raises:
        PackInvalid: it is missing, or too long to be one.
    """
    file = folder / MANIFEST_FILE
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PackInvalid(
            f"{file} cannot be read: {error.strerror or error}. A pack is a folder with a {MANIFEST_FILE} in it."
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise PackInvalid(f"{file} is longer than {MAX_FILE_BYTES} bytes, so it is no {MANIFEST_FILE} of a pack.")
    return data


def read_json(data: bytes, file: Path, remedy: str = REMEDY) -> Reader:
    """The object that the bytes of a pack.json hold; `file` is named in messages, which end with `remedy`.

    Raises:
        PackInvalid: it is no JSON, or of another format.
    """
    try:
        top = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or a number of too many digits
        raise PackInvalid(f"{file} is truncated or no JSON ({error}). Copy the pack again.") from error
    reader = Reader(file, "", top, remedy)
    if reader.number("format") != FORMAT:
        raise reader.fault(
            "format", f"is {top['format']!r}, and this program reads format {FORMAT}; update the one that is older"
        )
    return reader


def parse_manifest(data: bytes, file: Path, remedy: str = REMEDY) -> PackManifest:
    """Check the bytes of a pack.json, see `read_json`.

    Raises:
        PackInvalid: it is no JSON, of another format, or a key is missing, unknown or wrong.
    """
    return build_manifest(read_json(data, file, remedy))


def build_manifest(reader: Reader) -> PackManifest:
    """The manifest of a whole pack; PackInvalid as `parse_manifest`."""
    manifest = _build(reader)
    for weights in manifest.tensor_files:
        if weights not in manifest.files:
            raise reader.fault("files", f"does not list {weights}")
    for key in ("resolution", "num_layers", "w_dim"):
        if (stated := reader.integer(key)) != getattr(manifest, key):
            raise reader.fault(key, f"is {stated}, and the generator's settings make it {getattr(manifest, key)}")
    reader.end()
    return manifest


def _build(reader: Reader) -> PackManifest:
    parts: dict[str, Any] = {
        key: reader.text(key)
        for key in ("name", "version", "description", "licence", "provenance", "default_optimizer")
    }
    parts["generator"] = _generator(reader.section("generator"))
    parts["encoder"] = _encoder(reader.section("encoder")) if reader.has("encoder") else None
    parts["perceptual"] = _perceptual(reader.section("perceptual"))
    parts["optimizers"] = read_optimizers(reader)
    parts["shared_weights"] = read_shared(reader)
    parts["directions"] = tuple(map(read_spec, reader.sections("directions")))
    parts["files"] = read_files(reader)
    if reader.states("focus"):  # packs without one do not say so: programs of before would not know the key
        parts["focus"] = reader.number("focus")
    if reader.states("detail"):
        parts["detail"] = read_detail(reader.section("detail"))
    try:
        return PackManifest(**parts)
    except ValueError as error:
        key = str(error).split(" ", 1)[0]
        raise reader.fault(key, str(error).removeprefix(key + " ")) from error


def _generator(reader: Reader) -> Architecture:
    kind = reader.text("kind") if reader.states("kind") else DEFAULT_KIND
    if kind not in ARCHITECTURES:
        raise reader.fault("kind", f"is {kind!r}; this program knows {', '.join(ARCHITECTURES)}")
    config: Architecture = _config(reader, ARCHITECTURES[kind].config)
    return config


def _encoder(reader: Reader) -> EncoderArchitecture:
    kind = reader.text("kind") if reader.states("kind") else DEFAULT_ENCODER
    if kind not in ENCODERS:
        raise reader.fault("kind", f"is {kind!r}; this program knows {', '.join(ENCODERS)}")
    config: EncoderArchitecture = _config(reader, ENCODERS[kind].config)
    return config


def _config(reader: Reader, config_class: type[C]) -> C:
    """A network's config from its JSON object: the same keys, each of the kind that its field has."""
    take: dict[str, Callable[[str], Any]] = {
        "int": reader.width, "float": reader.number, "bool": reader.boolean, "tuple[int, ...]": reader.widths,
    }  # fmt: skip
    fields = {entry.name: str(entry.type) for entry in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    values = {key: take[kind](key) for key, kind in reader.expected(fields).items()}
    reader.end()
    try:
        return config_class(**values)
    except ValueError as error:
        raise reader.fault(str(error).split(" ", 1)[0], str(error)) from error


def _perceptual(reader: Reader) -> PerceptualSpec:
    args = reader.section("args")
    kind = reader.text("kind")
    values: dict[str, Any]
    if kind == "vgg16":
        values = {"mean_bgr": args.numbers("mean_bgr", 3)}
    elif kind == NO_PERCEPTUAL.kind:
        values = {}
    else:
        values = {
            "resolution": args.width("resolution"),
            "channels": list(args.widths("channels")),
            "until": args.width("until"),
        }
    args.end()
    spec = PerceptualSpec(
        kind=kind, layer=reader.text("layer"), args=values, weight=reader.number("weight"), note=reader.text("note")
    )
    reader.end()
    return spec


def read_optimizers(reader: Reader) -> dict[str, dict[str, Any]]:
    """The key "optimizers"."""
    section = reader.section("optimizers")
    return {name: _settings(section, name) for name in section.every_key()}


def read_shared(reader: Reader) -> dict[str, str]:
    """The key "shared_weights", which need not be there."""
    if not reader.states("shared_weights"):
        return {}
    section = reader.section("shared_weights")
    return {key: section.text(key) for key in section.every_key()}


def _settings(reader: Reader, name: str) -> dict[str, Any]:
    section = reader.section(name)
    if name in DESIGNS:
        return read_variants(section, name)
    if name not in OPTIMIZERS:
        known = ", ".join(sorted([*OPTIMIZERS, *DESIGNS]))
        raise reader.fault(name, f"is an optimizer that this program does not know (it knows {known})")
    keys = section.every_key()
    if not is_by_start(dict.fromkeys(keys)):
        return _classic_settings(reader, name, name)
    if unknown := sorted(set(keys) - {*TRAINED_STARTS}):
        raise section.fault(unknown[0], f"stands beside settings by start, which are {', '.join(TRAINED_STARTS)}")
    return {start: _classic_settings(section, start, name) for start in keys}


def _classic_settings(reader: Reader, key: str, name: str) -> dict[str, Any]:
    """Settings of the optimizer `name`, which stand under `key`."""
    section = reader.section(key)
    settings: dict[str, Any] = {key: section.scalar(key) for key in section.every_key()}
    try:
        build_optimizer(name, settings)
    except (TypeError, ValueError) as error:
        raise reader.fault(key, f"has settings that it does not take: {error}") from error
    return settings


def read_files(top: Reader) -> dict[str, str]:
    """The key "files"."""
    reader = top.section("files")
    files = {key: reader.text(key) for key in reader.every_key()}
    for key, digest in files.items():
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts or "\\" in key or "\0" in key or key == MANIFEST_FILE:
            raise reader.fault(key, "is no path inside the pack")
        if not SHA256.fullmatch(digest):
            raise reader.fault(key, "must be a SHA-256: 64 hexadecimal digits")
    return files

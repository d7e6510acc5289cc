"""Extensions: a folder that names a pack and adds learned optimizers to it, so that nobody need have both.

Its pack.json has the pack's name under "extends", the SHA-256 of that pack's generator, and besides the texts and
"files" of its own "optimizers" alone. It is loaded as a pack is, by name or folder: the networks come from the pack
that it extends.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs.learned import variants
from inversion_core.packs.manifest import (
    FORMAT,
    MANIFEST_FILE,
    SHA256,
    PackManifest,
    build_manifest,
    check_name_and_version,
    read_bytes,
    read_files,
    read_json,
    read_optimizers,
    read_shared,
)
from inversion_core.packs.reader import REMEDY, Reader

TEXTS = ("name", "version", "description", "licence", "provenance", "extends", "generator_sha256")


@dataclass(frozen=True, kw_only=True)
class ExtensionManifest:
    """What the pack.json of an extension says."""

    name: str
    version: str
    extends: str
    """Name of the pack that it adds to."""
    generator_sha256: str
    """SHA-256 of that pack's generator: of another one the optimizers are of no use."""
    description: str = ""
    licence: str = ""
    provenance: str = ""
    optimizers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Design -> start -> settings, as in `PackManifest`; learned ones alone."""
    shared_weights: Mapping[str, str] = field(default_factory=dict)
    """As in `PackManifest`; the second ones may be the pack's."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path inside the folder -> SHA-256 of the file; filled in when it is saved."""

    def __post_init__(self) -> None:
        """Raises ValueError, with the key's name first, where a part is not valid by itself."""
        check_name_and_version(self.name, self.version)
        if not SHA256.fullmatch(self.generator_sha256):
            raise ValueError("generator_sha256 must be a SHA-256: 64 hexadecimal digits")
        if classic := sorted(set(self.optimizers) - set(DESIGNS)):
            raise ValueError(f"optimizers has {classic[0]!r}; an extension adds learned ones: {', '.join(DESIGNS)}")

    @property
    def tensor_files(self) -> list[str]:
        """Every file that must lie in the folder."""
        return [variant.file for variant in variants(self.optimizers) if str(variant) not in self.shared_weights]

    def over(self, base: PackManifest) -> PackManifest:
        """The manifest of both together.

        Raises:
            ValueError: both have the same optimizer, or what is shared is nowhere.
        """
        if twice := sorted(map(str, set(variants(self.optimizers)) & set(base.learned))):
            raise ValueError(f"optimizers has {twice[0]}, and so has {base.name}; leave it out of one of them")
        optimizers = {
            name: {**base.optimizers.get(name, {}), **self.optimizers.get(name, {})}
            for name in (*base.optimizers, *self.optimizers)
        }
        texts = {key: getattr(self, key) for key in TEXTS if key != "generator_sha256"}
        return dataclasses.replace(
            base, **texts, optimizers=optimizers, files={**base.files, **self.files},
            shared_weights={**base.shared_weights, **self.shared_weights},
        )  # fmt: skip

    def to_json(self) -> str:
        """The text of pack.json."""
        fields = dataclasses.asdict(self)
        if not self.shared_weights:
            del fields["shared_weights"]
        return json.dumps({"format": FORMAT} | fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


AnyManifest = PackManifest | ExtensionManifest


def read_own(folder: Path) -> AnyManifest:
    """What `folder`/pack.json says by itself.

    Raises:
        PackInvalid: it is missing, no JSON, of another format, or a key is missing, unknown or wrong.
    """
    return parse_own(read_bytes(folder), folder / MANIFEST_FILE)


def parse_own(data: bytes, file: Path, remedy: str = REMEDY) -> AnyManifest:
    """Check the bytes of a pack.json of either kind; `file` is named in messages, which end with `remedy`.

    Raises:
        PackInvalid: as `read_own`.
    """
    reader = read_json(data, file, remedy)
    return _build(reader) if reader.states("extends") else build_manifest(reader)


def _build(reader: Reader) -> ExtensionManifest:
    parts: dict[str, Any] = {key: reader.text(key) for key in TEXTS}
    parts["optimizers"], parts["shared_weights"] = read_optimizers(reader), read_shared(reader)
    parts["files"] = read_files(reader)
    try:
        manifest = ExtensionManifest(**parts)
    except ValueError as error:
        key = str(error).split(" ", 1)[0]
        raise reader.fault(key, str(error).removeprefix(key + " ")) from error
    for weights in manifest.tensor_files:
        if weights not in manifest.files:
            raise reader.fault("files", f"does not list {weights}")
    reader.end()
    return manifest

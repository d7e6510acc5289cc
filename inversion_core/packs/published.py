"""A published IDInvert file, from which tensors are taken one by one; what is wrong with it is named."""

from __future__ import annotations

from pathlib import Path

from inversion_core.errors import PackInvalid
from inversion_core.models.source import Source
from inversion_core.packs.foreign import OURS, describe, is_ours
from inversion_core.packs.unpickle import read_tensors

WRAPPER = "module."
"""What torch's DataParallel puts before every key."""


class Published(Source):
    """A published IDInvert file."""

    @classmethod
    def read(cls, file: str | Path, wanted: str) -> Published:
        """A file of `wanted`: "generator", "encoder" or "vgg". Keys that all begin with "module." are taken without.

        Raises:
            PackInvalid: as `read_tensors`, or the file is of another kind; the message says of which.
        """
        tensors = read_tensors(file)
        if all(key.startswith(WRAPPER) for key in tensors):
            tensors = {key.removeprefix(WRAPPER): tensor for key, tensor in tensors.items()}
        if not is_ours(tensors, wanted):
            raise PackInvalid(f"{file} is no {OURS[wanted].what.split()[-1]} of IDInvert: {describe(tensors)}")
        return cls(Path(file), tensors)

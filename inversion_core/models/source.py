"""A state dict of somebody else's program, from which tensors are taken one by one; what is wrong with it is named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from inversion_core.errors import PackInvalid

REMEDY = "Take the file as it was published, or one saved by the public code with the same settings."


@dataclass
class Source:
    """Tensors by key, with their file's name; each is checked when it is taken."""

    file: Path
    tensors: dict[str, Tensor]
    taken: set[str] = field(default_factory=set)

    def take(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that key as float32; PackInvalid where it is missing, of another shape, or not finite."""
        tensor = self.tensors.get(key)
        if tensor is None:
            raise PackInvalid(f"{self.file}: key {key!r} is missing. {REMEDY}")
        if tuple(tensor.shape) != shape:
            raise PackInvalid(
                f"{self.file}: key {key!r} has shape {tuple(tensor.shape)}, and {shape} is needed. {REMEDY}"
            )
        if not tensor.isfinite().all():
            raise PackInvalid(f"{self.file}: key {key!r} holds a number that is infinite or NaN. {REMEDY}")
        self.taken.add(key)
        return tensor.float()

    def finish(self, unused: str) -> None:
        """Refuse keys that nobody took, but those that the pattern `unused` names."""
        left = [key for key in self.tensors if key not in self.taken and not re.fullmatch(unused, key)]
        if left:
            more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
            raise PackInvalid(f"{self.file}: key {left[0]!r} is unknown{more}: these weights would be lost. {REMEDY}")

    def fault(self, key: str, what: str) -> PackInvalid:
        return PackInvalid(f"{self.file}: key {key!r} {what}. {REMEDY}")

    def usual(self, sizes: Iterable[tuple[str, int]], first: str) -> int:
        """The size that most of these keys agree on, each given with the axis it is read from.

        One key of a wrong shape must not decide the architecture, or all the others would be blamed.
        """
        found = Counter(
            self.tensors[key].shape[axis]
            for key, axis in sizes
            if key in self.tensors and self.tensors[key].ndim > max(axis, -1)
        )
        if not found:
            raise PackInvalid(f"{self.file}: key {first!r} is missing. {REMEDY}")
        return found.most_common(1)[0][0]

    def count(self, pattern: str) -> int:
        """One more than the highest number that `pattern` catches in the keys."""
        numbers = [int(match[1]) for key in self.tensors if (match := re.match(pattern, key))]
        return max(numbers, default=-1) + 1

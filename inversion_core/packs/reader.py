"""One JSON object of a pack.json, read with care: every fault is a PackInvalid that names file, key and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inversion_core.errors import PackInvalid

MAX_WIDTH = 2**16
"""Widest layer that is believed; a larger number is a damaged file."""
DEPTHS = ("mapping_layers", "blocks_per_size", "depth", "num_layers")
"""Fields that count layers."""
MAX_DEPTH = 64
"""Most of them that are believed: a network's layers are built one by one to be compared with its file."""
LATER = ("blocks_per_size", "side_px", "beta1")
"""Fields that came later: where a pack does not state them, their defaults hold."""
REMEDY = "Copy the pack again, or make it anew with the program that wrote it."
"""What every fault of a pack ends with."""


class Reader:
    """One JSON object and where it stands; every method checks one key and remembers that it was asked for."""

    def __init__(self, file: Path, where: str, value: object, remedy: str = REMEDY):
        self._file, self._where, self._remedy = file, where, remedy
        if not isinstance(value, dict):
            raise PackInvalid(f"{file}: {f'key {where!r}' if where else 'the whole'} must be a JSON object. {remedy}")
        self._value: dict[str, Any] = value
        self._taken: set[str] = set()

    def fault(self, key: str, what: str) -> PackInvalid:
        return PackInvalid(f"{self._file}: key {self._path(key)!r} {what}. {self._remedy}")

    def every_key(self) -> list[str]:
        if not all(map(_is_unicode, self._value)):
            raise PackInvalid(f"{self._file}: key {self._where!r} has a key that is no text. {self._remedy}")
        self._taken.update(self._value)
        return list(self._value)

    def states(self, key: str) -> bool:
        """Whether the key is there, whatever it holds."""
        return key in self._value

    def expected(self, kinds: Mapping[str, str]) -> dict[str, str]:
        """The fields, with their kinds, that must be there: all but those of LATER that are not stated."""
        return {key: kind for key, kind in kinds.items() if key not in LATER or self.states(key)}

    def has(self, key: str) -> bool:
        """Whether the key holds something; null counts as nothing, but the key must be there."""
        return self._take(key) is not None

    def end(self) -> None:
        unknown = sorted(set(self._value) - self._taken)
        if unknown:
            raise self.fault(unknown[0], "is unknown")

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str) or not _is_unicode(value):
            raise self.fault(key, "must be a text")
        return value

    def boolean(self, key: str) -> bool:
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.fault(key, "must be true or false")
        return value

    def integer(self, key: str) -> int:
        value = self._take(key)
        if type(value) is not int:
            raise self.fault(key, "must be a whole number")
        return value

    def width(self, key: str) -> int:
        value = self.integer(key)
        if key in DEPTHS and value > MAX_DEPTH:
            raise self.fault(key, f"is {value}; at most {MAX_DEPTH} are believed")
        return self._bounded(key, value, least=0)

    def widths(self, key: str) -> tuple[int, ...]:
        values = self.sequence(key)
        if not all(type(value) is int for value in values):
            raise self.fault(key, "must be a list of whole numbers")
        return tuple(self._bounded(key, value, least=1) for value in values)

    def number(self, key: str) -> float:
        return self._finite(key, self._take(key))

    def numbers(self, key: str, count: int) -> list[float]:
        values = self.sequence(key)
        if len(values) != count:
            raise self.fault(key, f"must be a list of {count} numbers")
        return [self._finite(key, value) for value in values]

    def scalar(self, key: str) -> str | bool | int | float:
        value = self._take(key)
        if isinstance(value, str | bool):
            return value
        return value if type(value) is int and abs(value) < 2**53 else self._finite(key, value)

    def sequence(self, key: str) -> list[Any]:
        value = self._take(key)
        if not isinstance(value, list):
            raise self.fault(key, "must be a list")
        return value

    def section(self, key: str) -> Reader:
        return Reader(self._file, self._path(key), self._take(key), self._remedy)

    def sections(self, key: str) -> list[Reader]:
        values = enumerate(self.sequence(key))
        return [Reader(self._file, f"{self._path(key)}.{k}", value, self._remedy) for k, value in values]

    def _take(self, key: str) -> Any:
        self._taken.add(key)
        try:
            return self._value[key]
        except KeyError:
            raise self.fault(key, "is missing") from None

    def _path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def _bounded(self, key: str, value: int, *, least: int) -> int:
        if not least <= value <= MAX_WIDTH:
            raise self.fault(key, f"is {value}; it must be from {least} to {MAX_WIDTH}")
        return value

    def _finite(self, key: str, value: object) -> float:
        if type(value) not in (int, float) or not abs(value) < 1e300:  # type: ignore[arg-type]
            raise self.fault(key, "must be a finite number")
        return float(value)  # type: ignore[arg-type]


def _is_unicode(text: str) -> bool:
    """False for half a surrogate pair, which JSON can spell and no file or terminal can."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)

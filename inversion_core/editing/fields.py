"""One JSON object of an edit list, read with care: every fault is an OptionInvalid that names place and remedy."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, TypeGuard

from inversion_core.errors import OptionInvalid

SHOWN = 60
"""Most letters of a wrong value that a message repeats."""


class Fields:
    """One object and where it stands; every method checks one key and remembers that it was asked for."""

    def __init__(self, where: str, value: object) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise OptionInvalid(f"{where} is {shown(value)}; it must be a JSON object")
        self._value: dict[str, Any] = value
        self._taken: set[str] = set()

    def fault(self, key: str, what: str) -> OptionInvalid:
        return OptionInvalid(f"{self.where}.{key} {what}")

    def has(self, key: str) -> bool:
        return key in self._value

    def one_of(self, keys: Collection[str]) -> str:
        """The one of `keys` that is there."""
        found = [key for key in keys if key in self._value]
        if len(found) != 1:
            said = f"has {' and '.join(map(repr, found))}" if found else "says not what it is"
            raise OptionInvalid(f"{self.where} {said}; give exactly one of {', '.join(map(repr, keys))}")
        return found[0]

    def take(self, key: str) -> Any:
        self._taken.add(key)
        if key not in self._value:
            raise self.fault(key, "is missing")
        return self._value[key]

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        if default is not None and not self.has(key):
            return default
        return self.a_number(key, self.take(key), low, high)

    def a_number(self, key: str, value: object, low: float, high: float) -> float:
        if not is_number(value) or not low <= value <= high:
            raise self.fault(key, f"is {shown(value)}; give a number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, key: str, count: int, low: float, high: float) -> tuple[float, ...]:
        value = self.take(key)
        if not isinstance(value, list | tuple) or len(value) != count:
            raise self.fault(key, f"is {shown(value)}; give a list of {count} numbers from {low:g} to {high:g}")
        return tuple(self.a_number(f"{key}[{index}]", each, low, high) for index, each in enumerate(value))

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.take(key)
        if type(value) is not int or not low <= value <= high:
            raise self.fault(key, f"is {shown(value)}; give a whole number from {low} to {high}")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self.take(key) if self.has(key) else default
        if not isinstance(value, bool):
            raise self.fault(key, f"is {shown(value)}; give true or false")
        return value

    def text(self, key: str, most: int) -> str:
        return self.a_text(key, self.take(key), most)

    def a_text(self, key: str, value: object, most: int) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= most:
            raise self.fault(key, f"is {shown(value)}; give a text of at most {most} letters")
        return value

    def texts(self, key: str, most: int, letters: int) -> tuple[str, ...]:
        """Different texts; none where the key is not there."""
        value = self.take(key) if self.has(key) else []
        if not isinstance(value, list | tuple) or len(value) > most:
            raise self.fault(key, f"is {shown(value)}; give a list of at most {most} texts")
        found = tuple(self.a_text(f"{key}[{index}]", each, letters) for index, each in enumerate(value))
        if len(set(found)) < len(found):
            raise self.fault(key, f"is {shown(value)}; name each once")
        return found

    def end(self) -> None:
        """Refuse every key that nobody asked for."""
        if unknown := sorted(set(self._value) - self._taken, key=str):
            known = ", ".join(sorted(self._taken))
            raise OptionInvalid(f"{self.where} has the unknown key {shown(unknown[0])}; known here are {known}")


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an int or a float, neither infinite nor NaN, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def shown(value: object) -> str:
    """A value as it is written in JSON, shortened for a message."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = f"of the kind {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"

"""JSON from strangers: its shape is counted before anything is built of it.

`[],` in the place of a code is three bytes for a list of 56: a parser that is asked for it fills the memory first and
is refused afterwards. Counting brackets, commas and quotes takes no memory to speak of, a few milliseconds for each
mebibyte, and tells how many values there will be and how deep. A key that comes twice in one object is found by the
same count: there are more colons than keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pydantic_core import from_json


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a JSON text may hold."""

    values: int
    """Most values, of all lists and objects together."""
    texts: int = 1024
    """Most texts, keys among them."""
    depth: int = 8
    """Most lists and objects within each other."""
    backslashes: int = 1_000_000
    """Most characters that are escaped: some programs write every `/` of base64 as `\\/`."""


def read_json(data: bytes, limits: Limits) -> Any:
    """The value of a JSON text in UTF-8, whose numbers are finite. Raises: ValueError that says what is wrong."""
    colons = _check_shape(data, limits)
    try:
        found = from_json(data, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise ValueError(str(error)[:200]) from error
    if colons != _keys(found):
        json.loads(data, object_pairs_hook=_refuse_repeated)
        raise ValueError("it holds a key twice in one object")
    return found


def _check_shape(data: bytes, limits: Limits) -> int:
    """The colons outside of texts, of what is within the limits; whether it is JSON at all is not looked at."""
    if data.count(b"\\") > limits.backslashes:
        raise ValueError(f"it has more than {limits.backslashes:,} escaped characters")
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    if unescaped.count(b'"') > 2 * limits.texts:
        raise ValueError(f"it has more than {limits.texts:,} texts")
    outside = b"".join(unescaped.split(b'"')[::2])
    if sum(outside.count(sign) for sign in (b"[", b"{", b",")) > limits.values:
        raise ValueError(f"it has more than {limits.values:,} values")
    if _depth(outside) > limits.depth:
        raise ValueError(f"it has more than {limits.depth} lists and objects within each other")
    return outside.count(b":")


def _depth(outside: bytes) -> int:
    steps = (1 if sign[0] in b"[{" else -1 for sign in re.finditer(rb"[\[\]{}]", outside))
    return max(accumulate(steps), default=0)


def _keys(value: Any) -> int:
    """How many keys all objects have. Lists of numbers, the only long ones, are not walked through."""
    if isinstance(value, dict):
        return len(value) + sum(_keys(each) for each in value.values())
    if isinstance(value, list):
        return sum(_keys(each) for each in value if isinstance(each, dict | list))
    return 0


def _refuse_repeated(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it holds the key `{name[:100]}` twice in one object")
        found[name] = value
    return found

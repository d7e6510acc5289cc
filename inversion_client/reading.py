"""From JSON to the frozen dataclasses of models.py. Fields that they do not know are left aside.

So a newer service can say more than this client knows of, and nothing breaks.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


class ClientError(Exception):
    """Base of all errors of this package; see errors.py."""


class AnswerInvalid(ClientError):
    """The answer is not one of this API: another service, or a version that is too far away."""


def read(kind: type[T], value: Any) -> T:
    """`value`, as JSON gives it, as a `kind`: a dataclass, or a type of one of its fields.

    Raises:
        AnswerInvalid: a field without a default is missing, or has another type.
    """
    found: T = _read(kind, value, kind.__name__)
    return found


def _read(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin is types.UnionType:  # X | None
        (inner,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
        return None if value is None else _read(inner, value, where)
    if origin is tuple and isinstance(value, list):
        (item, _) = typing.get_args(hint)  # tuple[X, ...]
        return tuple(_read(item, each, where) for each in value)
    if origin is Mapping and isinstance(value, dict):
        (_, item) = typing.get_args(hint)
        return {key: _read(item, each, where) for key, each in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _read_object(hint, value, where)
    return _read_plain(hint, value, where)


def _read_object(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints = _hints(kind)
    fields = {name: _read(hints[name], value[name], f"{where}.{name}") for name in hints.keys() & value.keys()}
    try:
        return kind(**fields)
    except TypeError as error:
        raise AnswerInvalid(f"{where}: {error}") from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is datetime and isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError as error:
            raise AnswerInvalid(f"{where}: {value!r} is no time.") from error
    if hint is float and type(value) in (int, float):
        return float(value)
    if type(value) is hint:
        return value
    raise AnswerInvalid(f"{where}: {str(value)[:80]!r} was not expected. Is this a service of the same version?")

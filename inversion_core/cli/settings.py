"""`--set FIELD=VALUE`: any single field of a configuration, so that one command can state a whole recipe."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from inversion_core.errors import OptionInvalid

C = TypeVar("C")
WORDS = {"true": True, "false": False}


def with_settings(config: C, settings: Sequence[str]) -> C:
    """The configuration with each FIELD=VALUE put in; the later one wins.

    Raises:
        OptionInvalid: no such field, not a value for it, or one that the configuration refuses.
    """
    readers = _readers(type(config))
    changes: dict[str, Any] = {}
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign or name not in readers:
            raise OptionInvalid(f"--set {setting}: it takes FIELD=VALUE with FIELD one of {', '.join(sorted(readers))}")
        try:
            changes[name] = readers[name](text)
        except (ValueError, KeyError) as error:
            raise OptionInvalid(f"--set {setting}: {text!r} is no value for {name}") from error
    try:
        return dataclasses.replace(config, **changes)  # type: ignore[type-var]
    except ValueError as error:
        raise OptionInvalid(str(error)) from error


def _readers(kind: type) -> dict[str, Callable[[str], Any]]:
    """Name of each field that holds a number, a word or nothing -> what reads it."""
    hints = typing.get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}
    return {name: reader for name, reader in readers.items() if reader is not None}


def _reader(hint: Any) -> Callable[[str], Any] | None:
    if isinstance(hint, types.UnionType):
        (inner,) = (kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        read = _reader(inner)
        return None if read is None else lambda text: None if text == "none" else read(text)
    if hint is bool:
        return WORDS.__getitem__
    return hint if hint in (int, float, str) else None

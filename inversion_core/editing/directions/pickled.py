"""Read a NumPy file that holds a pickled dict, without running anything that is in it.

`np.save` pickles what is no plain array; IDInvert's boundaries are such files. A pickle is a program, so this reader
answers every name in it itself: the four that NumPy writes for arrays have a meaning, each made here from plain numbers
and bytes, and any other name ends the reading.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inversion_core.errors import OptionInvalid

MOST_BYTES = 64 * 2**20
"""Largest file that is read: a code of 18 x 512 numbers in 800 directions."""
KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}
CONSTRUCTORS = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Refused(Exception):
    """The pickle asks for something that is not admitted; says what."""


class _Call(NamedTuple):
    """A function that the pickle may call. A tuple, for a pickle can set attributes of anything else."""

    function: Callable[..., object]

    def __call__(self, *args: object) -> object:
        return self.function(*args)


class _Type(NamedTuple):
    """Stands for the class ndarray, which is only named."""

    name: str


class _DType:
    """Stands for a dtype, which the pickle makes first and tells its byte order afterwards."""

    __slots__ = ("_kind", "_order")

    def __init__(self, kind: object, *_rest: object) -> None:
        if kind != "O8" and kind not in KINDS:
            raise _Refused(f"numbers of the kind {kind!r}")
        self._kind, self._order = str(kind), "<"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|"):
            raise _Refused("a dtype that is not what NumPy writes")
        self._order = str(state[1])

    @property
    def is_object(self) -> bool:
        return self._kind == "O8"

    def numbers(self) -> np.dtype[Any]:
        return np.dtype(self._order.replace("|", "<") + self._kind)


class _Array:
    """Stands for an array, which the pickle makes empty and fills afterwards."""

    __slots__ = ("content",)

    content: object

    def __setstate__(self, state: object) -> None:
        match state:
            case (1, tuple(shape), _DType() as kind, bool(fortran), data):
                self.content = _filled(shape, kind, fortran, data)
            case _:
                raise _Refused("an array that is not what NumPy writes")


def _filled(shape: tuple[object, ...], kind: _DType, fortran: bool, data: object) -> object:
    if kind.is_object:  # an array without dimensions around the one object that was saved
        if shape != () or not isinstance(data, list) or len(data) != 1:
            raise _Refused("an array of several objects")
        return data[0]
    numbers = kind.numbers()
    sizes = [size for size in shape if type(size) is int and 0 <= size < MOST_BYTES]
    raw = data.encode("latin1") if isinstance(data, str) else data
    if len(sizes) != len(shape) or not isinstance(raw, bytes) or math.prod(sizes) * numbers.itemsize != len(raw):
        raise _Refused("an array whose bytes do not have its shape")
    return np.frombuffer(raw, numbers).reshape(sizes, order="F" if fortran else "C").copy()


def _encoded(text: object, encoding: object) -> bytes:
    """Stands for _codecs.encode, by which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("bytes that are not written as NumPy writes them")
    return text.encode("latin1")


_NAMES: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _Type("ndarray"),
    ("numpy", "dtype"): _Call(_DType),
    ("_codecs", "encode"): _Call(_encoded),
    **{(module, "_reconstruct"): _Call(lambda *_: _Array()) for module in CONSTRUCTORS},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise _Refused(f"the name {module}.{name}") from None


def read_pickled(file: Path, data: bytes) -> dict[str, Any]:
    """The dict in a pickle: arrays, numbers, texts and plain containers.

    Args:
        data: what follows the header of a .npy file.
    Raises:
        OptionInvalid: it is damaged, no dict, or asks for anything else; nothing in it was run.
    """
    try:
        _check_memo(data)
        top = _plain(_Unpickler(BytesIO(data), encoding="latin1").load())
    except _Refused as refused:
        raise OptionInvalid(
            f"{file} asks for {refused}, and only arrays in plain containers are read: the file may hold code, none of "
            f"which was run. Save the direction alone with np.save(file, array)"
        ) from refused
    except Exception as error:  # a damaged pickle trips its reader over anything: IndexError, UnicodeError ...
        raise OptionInvalid(
            f"{file} is truncated or damaged ({type(error).__name__}: {error}). Copy it again"
        ) from error
    if not isinstance(top, dict) or not all(isinstance(key, str) for key in top):
        raise OptionInvalid(f"{file} holds {type(top).__name__}, and no array or dict of arrays")
    return top


def _plain(value: object, depth: int = 0) -> object:
    """With every stand-in replaced by what it stands for."""
    if depth > 8:
        raise _Refused("containers in containers without end")
    if isinstance(value, _Array):
        if not hasattr(value, "content"):
            raise _Refused("an array that was never filled")
        return _plain(value.content, depth + 1)
    if isinstance(value, dict):
        return {key: _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, np.ndarray | str | int | float | bytes | type(None)):
        return value
    raise _Refused(f"an object of the kind {type(value).__name__}")


def _check_memo(data: bytes) -> None:
    """Refuse memo indexes beyond the pickle's own length: the C reader would make a table of that many entries."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise _Refused(f"a memo of {argument} entries")


def numbers_of(file: Path, value: object) -> NDArray[np.float32]:
    """An array, as float32. Raises OptionInvalid where it is none."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise OptionInvalid(f"{file} holds {type(value).__name__} where an array of numbers is needed")
    return value.astype(np.float32)

"""Read what others save with torch and pickle, whole, without running anything that is in it.

Files that people have are seldom state dicts alone. NVIDIA's .pkl files hold modules with their source code, which the
public loader executes; PTI saves a module with torch; TensorFlow's .pkl files hold a class of NVIDIA's; training
checkpoints hold options. Here every name in a pickle is answered by an inert stand-in of ours (`_NAMES` and those of
`unpickle.py`), and any other name ends the reading, with the name in the message. Source code in the file is never
looked at.

Before a pickle is read its operations are counted and their nesting is measured (`check_pickle`); the bytes of a tensor
are cut out when the tensor is asked for.
"""

from __future__ import annotations

import json
import math
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inversion_core.errors import PackInvalid
from inversion_core.packs.unpickle import _NAMES as _STATE_DICT_NAMES
from inversion_core.packs.unpickle import (
    COPY_AGAIN,
    LEGACY_MAGIC,
    LEGACY_PROTOCOL,
    SAVE_ANEW,
    _Call,
    _cut,
    _Dict,
    _refuse,
    _Refused,
    _Storage,
    _Tensor,
    _Unpickler,
)

MAX_FILE_BYTES = 8 * 2**30
MAX_OPERATIONS = 300_000
"""Of one pickle; a training checkpoint with its optimizers has some ten thousand."""
MAX_NESTING = 120
"""How deep containers may lie within each other; NVIDIA's modules need about forty."""
MAX_PICKLE_BYTES = 256 * 2**20
"""Of a pickle whose tensors lie outside of it."""
MAX_STORAGES = 20_000
MAX_NUMBER = 2**64
"""Larger whole numbers are not needed, and thousands with one hash would make a dict slow."""
LEAST_ENTRY_BYTES = 46
"""Of a file in the list of an archive."""
MAX_EXPANSION = 4
"""All tensors that are asked for may take so many times the bytes of the file: some share their storage."""
HDF5 = b"\x89HDF"
SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NUMPY_DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


# -- stand-ins -------------------------------------------------------------------------------------------------
# Each class has a `__setstate__` of its own, so that no pickle can set attributes of a class or an object.


class Module(NamedTuple):
    """A module of NVIDIA's: the name of its class, and its attributes. Its source code is left out."""

    class_name: str
    state: Mapping[str, Any]


class TensorFlowNetwork:
    """A network of dnnlib.tflib: its state alone."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Mapping[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if isinstance(self, TensorFlowNetwork) and isinstance(state, dict):
            self.state = state


class _Namespace:
    """Stands for argparse.Namespace; options of a training run, which nobody needs."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class Array:
    """A NumPy array. Its bytes are kept as they are until it is asked for."""

    __slots__ = ("_data", "_dtype", "_fortran", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self._dtype, self._data, self._fortran = "f4", b"", False

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, _Dtype() as dtype, bool() | int() as fortran, bytes() as data):
                self._fill(shape, dtype, bool(fortran), data)
            case _:
                raise _Refused("an array that is not written as NumPy writes it")

    def _fill(self, shape: tuple[Any, ...], dtype: _Dtype, fortran: bool, data: bytes) -> None:
        if len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
            raise _Refused("an array of an impossible shape")
        self.shape, self._dtype, self._data, self._fortran = shape, dtype.numpy, data, fortran
        if int(np.prod([int(n) for n in shape], dtype=object)) * np.dtype(self._dtype).itemsize != len(data):
            raise _Refused(f"an array of shape {shape} with {len(data)} bytes")

    def tensor(self) -> Tensor:
        array = np.frombuffer(self._data, self._dtype).reshape(self.shape, order="F" if self._fortran else "C")
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


class _Dtype:
    """A NumPy dtype of plain numbers."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str) -> None:
        self._code, self._order = code, "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self._order = state[1]

    @property
    def numpy(self) -> str:
        return f"{'' if self._order == '|' else self._order}{self._code}"


def _dtype(code: object, *_rest: object) -> _Dtype:
    name = str(code).lstrip("<>=|")
    if name not in NUMPY_DTYPES:
        raise _Refused(f"an array of the kind {str(code)[:40]!r}")
    return _Dtype(name)


def _scalar(dtype: object, data: object = b"") -> object:
    if isinstance(dtype, _Dtype) and isinstance(data, str):  # protocol 2 writes bytes as text
        data = data.encode("latin1")
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or len(data) != np.dtype(dtype.numpy).itemsize:
        raise _Refused("a number that is not written as NumPy writes it")
    return np.frombuffer(data, dtype.numpy)[0].item()


def _array_from_buffer(data: object, dtype: object, shape: object, order: object) -> Array:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise _Refused("an array that is not written as NumPy writes it")
    array = Array()
    array._fill(shape, dtype, order == "F", bytes(data))
    return array


def _module(meta: object) -> Module:
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise _Refused("a persistent object that is no class")
    name, state = meta.get("class_name"), meta.get("state")
    if not isinstance(name, str) or not isinstance(state, dict):
        raise _Refused("a persistent object without a class name and a state")
    return Module(name, state)


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "iso-8859-1"):
        raise _Refused("text in another encoding than latin1")
    return text.encode("latin1")


def _inert(*_arguments: object) -> None:
    """Stands for what nobody needs: devices, paths."""


NAMES: dict[tuple[str, str], object] = {
    **_STATE_DICT_NAMES,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Call(_module),
    ("dnnlib.util", "EasyDict"): _Dict,
    ("dnnlib.tflib.network", "Network"): TensorFlowNetwork,
    ("argparse", "Namespace"): _Namespace,
    ("_codecs", "encode"): _Call(_encoded),
    ("numpy", "dtype"): _Call(_dtype),
    ("numpy", "ndarray"): Array,
    **{
        (f"numpy.{core}.multiarray", name): _Call(call)
        for core in ("core", "_core")
        for name, call in (("scalar", _scalar), ("_reconstruct", lambda *_rest: Array()))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Call(_array_from_buffer) for core in ("core", "_core")},
    ("torch", "Size"): _Call(lambda size=(): tuple(size)),
    ("torch", "device"): _Call(_inert),
    ("pathlib", "PosixPath"): _Call(_inert),
    ("pathlib", "WindowsPath"): _Call(_inert),
}  # fmt: skip
"""What a name in a pickle may stand for. `torch.storage._load_from_bytes` is added for each file."""


# -- one pickle ------------------------------------------------------------------------------------------------


class _Bounded:
    """A stream that gives no more than there is: a pickle that claims more costs no memory."""

    def __init__(self, stream: BinaryIO, size: int):
        self._stream, self._size = stream, size

    def read(self, count: int = -1) -> bytes:
        left = max(self._size - self._stream.tell(), 0)
        return self._stream.read(left if count < 0 else min(count, left))

    def readline(self) -> bytes:
        return self._stream.readline(2**20)

    def tell(self) -> int:
        return self._stream.tell()


def check_pickle(stream: Any) -> None:
    """Refuse a pickle of too many operations, too large a memo, or containers too deep within each other.

    Its stack is followed with the nesting of each entry in place of the entry. Hashing a tuple, say, goes down all its
    levels in C, whose stack ends.
    """
    start, largest = stream.tell(), 0
    stack, marks, memo = [], [], {}  # type: ignore[var-annotated]
    for operations, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if operations > MAX_OPERATIONS:
            raise _Refused(f"more than {MAX_OPERATIONS} operations")
        name, count = opcode.name, len(opcode.stack_before)
        if isinstance(argument, int) and abs(argument) >= MAX_NUMBER and argument != LEGACY_MAGIC:
            raise _Refused(f"a whole number of {argument.bit_length()} bits")
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if name == "MEMOIZE" else int(argument or 0)
            memo[index], largest = stack[-1], max(largest, index)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(argument or 0), 0))
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP":
            if marks and marks[-1] == len(stack):
                marks.pop()
            else:
                stack.pop()
        elif pickletools.markobject in opcode.stack_before:
            place = marks.pop()
            depth = 1 + max(stack[place:], default=0)
            del stack[place:]
            if name in ("APPENDS", "SETITEMS", "ADDITEMS"):
                stack[-1] = max(stack[-1], depth)
            elif name != "POP_MARK":
                stack.append(depth)
        elif count:
            depth = 1 + max(stack[-count:])
            del stack[-count:]
            stack.extend([depth] * len(opcode.stack_after))
        elif opcode.stack_after:
            stack.append(0)
        if stack and stack[-1] > MAX_NESTING:
            raise _Refused(f"containers more than {MAX_NESTING} deep within each other")
    if largest > stream.tell() - start:
        raise _Refused(f"a memo of {largest} entries")


class _Reader(_Unpickler):
    """Answers the names of one file and keeps the bytes of its storages."""

    def __init__(self, path: Path, stream: Any, stored: dict[str, bytes | memoryview]):
        super().__init__(stream, encoding="latin1")
        self._path, self._stored = path, stored
        self._own = {("torch.storage", "_load_from_bytes"): _Call(self._storage)}
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = self._own.get((module, name)) or NAMES.get((module, name))
        if found is None:
            raise _Refused(f"the name {module}.{name}")
        return found

    def persistent_load(self, saved_id: Any) -> _Storage:
        storage = super().persistent_load(saved_id)
        if len(self.storages) >= MAX_STORAGES:
            raise _Refused(f"more than {MAX_STORAGES} storages")
        return self.storages.setdefault(storage.key, storage)

    def _storage(self, data: object) -> _Storage:
        """A storage that lies within the pickle, as a torch file of its own."""
        if not isinstance(data, bytes):
            raise _Refused("a storage that is not written as torch writes it")
        if len(self._stored) >= MAX_STORAGES:
            raise _Refused(f"more than {MAX_STORAGES} storages")
        stream = BytesIO(data)
        head = [_load_narrow(stream) for _ in range(5)]
        magic, protocol, system, storage, keys = head
        if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL) or not isinstance(storage, _Storage):
            raise _Refused("a storage that is not written as torch writes it")
        if keys != [storage.key] or not isinstance(system, dict) or system.get("little_endian") is not True:
            raise _Refused("a storage of a big-endian machine, or several in place of one")
        numel, place = int.from_bytes(stream.read(8), "little"), stream.tell()
        size = numel * storage.dtype.itemsize
        if numel != storage.numel or len(data) - place != size:
            raise _Refused(f"a storage of {storage.numel} numbers with {max(len(data) - place, 0)} bytes")
        key = f"within {len(self._stored)}"
        self._stored[key] = memoryview(data)[place:]
        return storage._replace(key=key)


def _load_narrow(stream: BytesIO) -> Any:
    """One pickle of a storage within a pickle; it names a kind of number and nothing else."""
    start = stream.tell()
    check_pickle(stream)
    stream.seek(start)
    return _Unpickler(stream, encoding="latin1").load()


# -- one file --------------------------------------------------------------------------------------------------


@dataclass
class Checkpoint:
    """What lies in a file, with stand-ins for tensors; `tensors` makes real ones of them."""

    path: Path
    top: Any
    _stored: dict[str, bytes | memoryview]
    _places: Mapping[str, tuple[int, int]]
    """Storage -> offset and length in the file."""

    @classmethod
    def read(cls, file: str | Path) -> Self:
        """Read a .pt, .pth, .pkl or .safetensors file.

        Raises:
            PackInvalid: it is missing, damaged, too large, or asks for a name that is not on the list.
        """
        path = Path(file)
        try:
            with path.open("rb") as stream:
                size = stream.seek(0, 2)
                stream.seek(0)
                if size > MAX_FILE_BYTES:
                    raise PackInvalid(f"{path} has {size} bytes; files up to {MAX_FILE_BYTES} are read.")
                head = stream.read(9)
                stream.seek(0)
                if head.startswith(b"PK\x03\x04"):
                    return cls(path, *_read_zip(path, stream))
                if head[8:] == b"{":
                    return cls(path, *_read_safetensors(path, stream))
                if head.startswith(HDF5):
                    raise PackInvalid(f"{path} is an HDF5 file: not supported. Take what it was converted from.")
                return cls(path, *_read_stream(path, stream, size))
        except OSError as error:
            raise PackInvalid(f"{path} cannot be read: {error.strerror or error}. Check its path.") from error

    def tensors(self, handles: Mapping[str, _Tensor | Array]) -> dict[str, Tensor]:
        """The tensors that these stand for.

        Raises:
            PackInvalid: their bytes are not there, or they take many times more than the file.
        """
        allowed = MAX_EXPANSION * self.path.stat().st_size + 2**20
        found: dict[str, Tensor] = {}
        with self.path.open("rb") as stream:
            for key, handle in handles.items():
                found[key] = tensor = (
                    handle.tensor()
                    if isinstance(handle, Array)
                    else _cut(self.path, key, handle, self._bytes(stream, handle))
                )
                allowed -= tensor.nbytes
                if allowed < 0:
                    _refuse(self.path, "tensors of many times its own size")
        return found

    def _bytes(self, stream: BinaryIO, handle: _Tensor) -> bytes:
        key = handle.storage.key
        if key in self._stored:
            return bytes(self._stored[key])
        offset, length = self._places.get(key, (0, 0))
        stream.seek(offset)
        return stream.read(length)


_Contents = tuple[Any, dict[str, bytes | memoryview], dict[str, tuple[int, int]]]


def _load(path: Path, stream: Any, size: int, stored: dict[str, bytes | memoryview]) -> tuple[Any, _Reader]:
    """Read one pickle, leaving the stream behind it."""
    start = stream.tell()
    bounded = _Bounded(stream, size)
    try:
        check_pickle(bounded)
        stream.seek(start)
        reader = _Reader(path, bounded, stored)
        return reader.load(), reader
    except _Refused as refused:
        _refuse(path, str(refused))
    except Exception as error:  # a damaged pickle trips its reader over anything: IndexError, UnicodeError ...
        place = f"{type(error).__name__} at byte {stream.tell()}: {error}"
        raise PackInvalid(
            f"{path} is truncated or damaged, or no file of torch.save or pickle ({place}). {COPY_AGAIN}"
        ) from error


def _read_zip(path: Path, stream: BinaryIO) -> _Contents:
    try:
        _check_directory(path, stream)
        with zipfile.ZipFile(stream) as archive:
            names = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            if "data.pkl" not in names or "constants.pkl" in names:
                raise PackInvalid(
                    f"{path} is a zip archive, but none of torch.save: data.pkl is missing, or it is TorchScript. "
                    f"{SAVE_ANEW}"
                )
            if any(info.compress_type != zipfile.ZIP_STORED for info in names.values()):
                _refuse(path, "compressed records, which torch never writes")
            if names["data.pkl"].file_size > MAX_PICKLE_BYTES:
                _refuse(path, f"a pickle of {names['data.pkl'].file_size} bytes")
            if "byteorder" in names and archive.read(names["byteorder"]).strip() != b"little":
                raise PackInvalid(f"{path} was saved on a big-endian machine. Save it anew on a little-endian one.")
            data = archive.read(names["data.pkl"])
            stored: dict[str, bytes | memoryview] = {}
            top, reader = _load(path, BytesIO(data), len(data), stored)
            places = {}
            for key in reader.storages:
                if (info := names.get(f"data/{key}")) is not None:
                    with archive.open(info) as record:
                        places[key] = record._orig_compress_start, info.file_size  # type: ignore[attr-defined]
            return top, stored, places
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise PackInvalid(f"{path} is truncated or damaged ({error}). {COPY_AGAIN}") from error


def _read_safetensors(path: Path, stream: BinaryIO) -> _Contents:
    """Tensors by name, and nothing else; safetensors itself checks that they lie where the header says."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        raise PackInvalid(f"{path} is truncated, damaged or no safetensors file ({error}). {COPY_AGAIN}") from error
    length = int.from_bytes(stream.read(8), "little")
    top: dict[str, _Tensor] = {}
    places: dict[str, tuple[int, int]] = {}
    for key, each in json.loads(stream.read(length)).items():
        if key == "__metadata__":
            continue
        if each["dtype"] not in SAFETENSORS_DTYPES or len(places) >= MAX_STORAGES:
            _refuse(path, f"numbers of the kind {each['dtype'][:20]}, or more than {MAX_STORAGES} tensors")
        size, (begin, end), dtype = tuple(each["shape"]), each["data_offsets"], SAFETENSORS_DTYPES[each["dtype"]]
        storage = _Storage(dtype, key, math.prod(size))
        top[key] = _Tensor(storage, 0, size, torch.empty(size, device="meta").stride())
        places[key] = 8 + length + begin, end - begin
    return top, {}, places


def _check_directory(path: Path, stream: BinaryIO) -> None:
    """Refuse an archive of very many files before they are listed."""
    end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    if end and max(int(end[4]), int(end[5]) // LEAST_ENTRY_BYTES) > MAX_STORAGES:
        _refuse(path, f"more than {MAX_STORAGES} files in an archive")
    stream.seek(0)


def _read_stream(path: Path, stream: BinaryIO, size: int) -> _Contents:
    """A plain pickle, or torch's older layout: pickles, then raw bytes."""
    if stream.read(1) != b"\x80":
        raise PackInvalid(f"{path} is no file of torch.save or pickle. Give the file as it was published.")
    stream.seek(0)
    stored: dict[str, bytes | memoryview] = {}
    first, _ = _load(path, stream, size, stored)
    if first != LEGACY_MAGIC:
        return first, stored, {}
    protocol, _ = _load(path, stream, size, stored)
    system, _ = _load(path, stream, size, stored)
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PackInvalid(f"{path} was saved on a big-endian machine. Save it anew on a little-endian one.")
    top, reader = _load(path, stream, size, stored)
    keys, _ = _load(path, stream, size, stored)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        _refuse(path, "storages without names")
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        storage, numel = reader.storages.get(key), int.from_bytes(stream.read(8), "little")
        if storage is None or numel != storage.numel:
            break  # what is missing is found, with its key, when the tensors are cut
        length = numel * storage.dtype.itemsize
        places[key] = stream.tell(), length
        stream.seek(length, 1)
    return top, stored, places


def module_tensors(module: Module) -> Iterator[tuple[str, _Tensor]]:
    """The parameters and buffers of a module by their path, as `state_dict` names them."""
    waiting: list[tuple[str, object]] = [("", module)]
    seen = 0
    while waiting:
        prefix, each = waiting.pop()
        seen += 1
        if not isinstance(each, Module) or seen > MAX_STORAGES:
            continue
        for slot in ("_parameters", "_buffers"):
            tensors = each.state.get(slot)
            if isinstance(tensors, dict):
                yield from ((f"{prefix}{key}", value) for key, value in tensors.items() if isinstance(value, _Tensor))
        below = each.state.get("_modules")
        if isinstance(below, dict):
            waiting += [(f"{prefix}{key}.", value) for key, value in below.items()]


def submodules(module: Module) -> Iterator[Module]:
    """The module and all below it."""
    waiting: list[object] = [module]
    seen = 0
    while waiting and seen < MAX_STORAGES:
        each = waiting.pop()
        seen += 1
        if isinstance(each, Module):
            yield each
            below = each.state.get("_modules")
            waiting += below.values() if isinstance(below, dict) else []


__all__ = ["Array", "Checkpoint", "Module", "TensorFlowNetwork", "module_tensors", "submodules"]

"""Read tensors from a torch .pth file without running anything that is in it.

A .pth file is a pickle, and a pickle is a program. `torch.load(weights_only=True)` narrows that program down,
but it still admits more than state dicts need (tensor subclasses, sets, `__setstate__` of tensors, whatever
another library has put on its process-wide list, an old tar layout), and has been got round before
(CVE-2025-32434). So this reader answers every name in a pickle itself: five names have a meaning, each made
here from plain numbers and bytes, and any other name ends the reading with the name in the message.

Both layouts are read: the zip archive (torch 1.6 and later) and the older stream of pickles followed by raw bytes.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, TypeGuard

import torch
from torch import Tensor

from inversion_core.errors import PackInvalid

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of the older layout; its second is 1001, the version of that layout."""
LEGACY_PROTOCOL = 1001

STORAGE_DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
"""Names in the module `torch` that stand for a kind of number."""

COPY_AGAIN = "Download or copy the file again and compare its size."
MOST_DEPTH, MOST_PLACES = 3, 4
"""How deep state dicts are looked for in a checkpoint, and how many are named."""
SAVE_ANEW = "Save the state dict alone: torch.save(model.state_dict(), file)."


def read_tensors(file: str | Path) -> dict[str, Tensor]:
    """All tensors of a .pth file that holds a state dict, on the CPU.

    Args:
        file: a state dict saved by `torch.save`, in either layout, or a dict that holds one as "state_dict".
    Returns:
        key -> tensor, in the file's order. Entries that are no tensors are refused, so nothing is lost in silence.
    Raises:
        PackInvalid: the file is missing, truncated, damaged, no torch file, or asks for anything but tensors and
            plain containers. The message names the file and, where there is one, the key or the name asked for.
    """
    return _read(Path(file))


def _read(path: Path, *, may_be_single: bool = False) -> dict[str, Tensor]:
    try:
        with path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
            stream.seek(0)
            return (_read_zip if is_zip else _read_legacy)(path, stream, may_be_single)
    except OSError as error:
        raise PackInvalid(f"{path} cannot be read: {error.strerror or error}. Check its path.") from error


def read_values(file: str | Path) -> dict[str, Tensor]:
    """As `read_tensors`, of a file that may hold a single tensor, whose key is then "".

    Raises:
        PackInvalid: as `read_tensors`.
    """
    return _read(Path(file), may_be_single=True)


# -- what a name in the pickle may stand for -----------------------------------------------------------------
# Named tuples, since nothing can be changed in them: a dataclass, even a frozen one, has a `__setstate__` when it
# has slots, and a pickle can call that.


class _Dict(dict[Any, Any]):
    """Stands for OrderedDict. State (torch's `_metadata`) is dropped, so no attribute is ever set from the file."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _StorageType(NamedTuple):
    """Stands for torch.FloatStorage and its like."""

    dtype: torch.dtype


class _Storage(NamedTuple):
    """Bytes that tensors are cut from; in the older layout they follow later."""

    dtype: torch.dtype
    key: str
    numel: int


class _Tensor(NamedTuple):
    """A tensor yet to be cut from its storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Call(NamedTuple):
    """A function that the pickle may call. No bare function, for a pickle can set attributes (BUILD) of anything."""

    function: Callable[..., object]

    def __call__(self, *args: object) -> object:
        return self.function(*args)


def _tensor(storage: object, offset: object, size: object, stride: object, *_rest: object) -> _Tensor:
    """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2 (gradient flag and hooks are dropped)."""
    if not isinstance(storage, _Storage) or not _is_count(offset) or not _is_shape(size) or not _is_shape(stride):
        raise _Refused("a tensor whose storage, offset, size or stride is not what torch writes")
    if len(size) != len(stride) or any(n < 0 for n in (offset, *size, *stride)):
        raise _Refused("a tensor with a negative size, or with more sizes than strides")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else offset - 1
    if last >= storage.numel or math.prod(size) > storage.numel:
        raise _Refused(f"a tensor of shape {size} that reaches beyond its storage of {storage.numel} numbers")
    return _Tensor(storage, offset, size, stride)


def _parameter(data: object, *_rest: object) -> object:
    """Stands for torch._utils._rebuild_parameter."""
    if not isinstance(data, _Tensor):
        raise _Refused("a parameter that holds no tensor")
    return data


_NAMES: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _Call(lambda *items: _Dict(*items)),
    ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(_parameter),
    **{("torch", name): _StorageType(dtype) for name, dtype in STORAGE_DTYPES.items()},
}


class _Refused(Exception):
    """The pickle asks for something that is not admitted; says what."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise _Refused(f"the name {module}.{name}") from None

    def persistent_load(self, saved_id: Any) -> _Storage:
        match saved_id:
            case ("storage", _StorageType(dtype), str(key), _, int(numel)) if numel >= 0:
                return _Storage(dtype, key, numel)
            case ("storage", _StorageType(dtype), str(key), _, int(numel), None) if numel >= 0:  # the older layout
                return _Storage(dtype, key, numel)
        raise _Refused("a storage that is not written as torch writes it")


def _unpickle(path: Path, stream: BinaryIO) -> Any:
    """Read one pickle, leaving the stream behind it."""
    start = stream.tell()
    try:
        _check_memo(stream)
        stream.seek(start)
        return _Unpickler(stream, encoding="latin1").load()
    except _Refused as refused:
        _refuse(path, str(refused))
    except Exception as error:  # a damaged pickle trips its reader over anything: IndexError, UnicodeError ...
        place = f"{type(error).__name__} at byte {stream.tell()}: {error}"
        raise PackInvalid(
            f"{path} is truncated or damaged, or no file of torch.save ({place}). {COPY_AGAIN}"
        ) from error


def _check_memo(stream: BinaryIO) -> None:
    """Refuse memo indexes beyond the pickle's own length: the C reader would make a table of that many entries."""
    start, largest = stream.tell(), 0
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            largest = max(largest, int(argument or 0))
    if largest > stream.tell() - start:
        raise _Refused(f"a memo of {largest} entries")


def _refuse(path: Path, what: str) -> NoReturn:
    raise PackInvalid(
        f"{path} asks for {what}, and only tensors in plain containers are read: the file may hold "
        f"code, none of which was run. "
        "Take the file from its publisher, or save its state dict anew with torch.save(model.state_dict(), file)."
    )


# -- the two layouts ---------------------------------------------------------------------------------------


def _read_zip(path: Path, stream: BinaryIO, may_be_single: bool) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            if "data.pkl" not in names or "constants.pkl" in names:
                raise PackInvalid(
                    f"{path} is a zip archive, but none of torch.save: data.pkl is missing, or it "
                    f"is TorchScript. {SAVE_ANEW}"
                )
            if any(info.compress_type != zipfile.ZIP_STORED for info in names.values()):
                _refuse(path, "compressed records, which torch never writes")
            if "byteorder" in names and archive.read(names["byteorder"]).strip() != b"little":
                raise PackInvalid(f"{path} was saved on a big-endian machine. Save it anew on a little-endian one.")
            state = _state_dict(path, _unpickle(path, BytesIO(archive.read(names["data.pkl"]))), may_be_single)
            return {key: _cut(path, key, tensor, _record(archive, names, tensor)) for key, tensor in state.items()}
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise PackInvalid(f"{path} is truncated or damaged ({error}). {COPY_AGAIN}") from error


def _record(archive: zipfile.ZipFile, names: Mapping[str, zipfile.ZipInfo], tensor: _Tensor) -> bytes:
    info = names.get(f"data/{tensor.storage.key}")
    return archive.read(info) if info is not None else b""


def _read_legacy(path: Path, stream: BinaryIO, may_be_single: bool) -> dict[str, Tensor]:
    if stream.read(2) not in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        raise PackInvalid(f"{path} is no file of torch.save. Give the .pth file as it was published.")
    stream.seek(0)
    if _unpickle(path, stream) != LEGACY_MAGIC or _unpickle(path, stream) != LEGACY_PROTOCOL:
        raise PackInvalid(f"{path} is a pickle, but none of torch.save. {SAVE_ANEW}")
    system = _unpickle(path, stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PackInvalid(f"{path} was saved on a big-endian machine. Save it anew on a little-endian one.")
    state = _state_dict(path, _unpickle(path, stream), may_be_single)
    stores = _legacy_storages(path, stream, state)
    return {key: _cut(path, key, tensor, stores.get(tensor.storage.key, b"")) for key, tensor in state.items()}


def _legacy_storages(path: Path, stream: BinaryIO, state: Mapping[str, _Tensor]) -> dict[str, bytes]:
    """The raw bytes behind the pickles: for each storage in turn its length (8 bytes), then its numbers."""
    storages = {tensor.storage.key: tensor.storage for tensor in state.values()}
    keys = _unpickle(path, stream)
    if not isinstance(keys, list) or set(map(repr, keys)) != set(map(repr, storages)):
        _refuse(path, "other storages than its tensors need")
    stores: dict[str, bytes] = {}
    for key in keys:
        numel = int.from_bytes(stream.read(8), "little")
        if numel != storages[key].numel:
            break  # what is missing is found, with its key, when the tensors are cut
        stores[key] = stream.read(numel * storages[key].dtype.itemsize)
    return stores


# -- from storages to tensors --------------------------------------------------------------------------------


def _state_dict(path: Path, top: object, may_be_single: bool) -> dict[str, _Tensor]:
    if may_be_single and isinstance(top, _Tensor):
        return {"": top}
    if isinstance(top, dict) and isinstance(top.get("state_dict"), dict):
        top = top["state_dict"]
    if not isinstance(top, dict) or not top:
        raise PackInvalid(f"{path} holds no state dict (its top is {type(top).__name__}). {SAVE_ANEW}")
    if inner := list(_inner(top)):
        places = ", ".join("".join(f"[{key!r}]" for key in keys) for keys in inner[:MOST_PLACES])
        raise PackInvalid(
            f"{path} is a training checkpoint with a state dict at each of {places}, none of them on top. Save the one "
            f"that you want: torch.save(torch.load({path.name!r}){''.join(f'[{key!r}]' for key in inner[0])}, file), "
            f"where you trust the file."
        )
    for key, value in top.items():
        if not isinstance(key, str) or not isinstance(value, _Tensor):
            raise PackInvalid(
                f"{path}: key {key!r} holds no tensor but {type(value).__name__.lstrip('_')}. {SAVE_ANEW}"
            )
    return top


def _inner(top: dict[Any, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys that lead to the state dicts inside."""
    for key, value in top.items():
        if isinstance(key, str) and isinstance(value, dict) and value and len(above) < MOST_DEPTH:
            if all(isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in value.items()):
                yield (*above, key)
            else:
                yield from _inner(value, (*above, key))


def _cut(path: Path, key: str, tensor: _Tensor, store: bytes) -> Tensor:
    storage, expected = tensor.storage, tensor.storage.numel * tensor.storage.dtype.itemsize
    if len(store) != expected:
        raise PackInvalid(
            f"{path} is truncated or damaged: key {key!r} needs {expected} bytes, and there are "
            f"{len(store)}. {COPY_AGAIN}"
        )
    if not expected:
        return torch.empty(tensor.size, dtype=storage.dtype)
    flat = torch.frombuffer(bytearray(store), dtype=storage.dtype)
    return flat.as_strided(tensor.size, tensor.stride, tensor.offset).clone(memory_format=torch.contiguous_format)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int


def _is_shape(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and len(value) <= 8 and all(type(n) is int for n in value)

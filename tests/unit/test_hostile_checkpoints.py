"""Files that want to do something: each is refused by name, soon, in little memory, and nothing in it runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion_core.errors import PackInvalid
from inversion_core.packs.checkpoint import Checkpoint, module_tensors
from inversion_core.packs.contents import parts_of
from tests import stylegan2_files as files
from tests import stylegan2_pickles as pickles

MOST_S, MOST_BYTES = 1.0, 200 * 2**20


class Calls:
    """Pickled as the call of a function."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def touch(canary: Path) -> Calls:
    return Calls(os.system, f"touch {canary}")


def from_bytes(data: bytes) -> bytes:
    """A pickle that asks torch for a storage of these bytes."""
    return b"\x80\x04ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(data)) + data + b"\x85R."


def nested_tuples(depth: int) -> bytes:
    """{((((...)))): None}, whose hash goes down all levels."""
    return b"\x80\x04})" + b"\x85" * depth + b"Ns."


def storage_of(numel: int, data: bytes = b"") -> bytes:
    """What torch writes for one storage, which says that it has `numel` numbers."""
    stream = io.BytesIO()
    torch.save(torch.zeros(1)._typed_storage(), stream, _use_new_zipfile_serialization=False)
    written = stream.getvalue()
    place = written.rindex(struct.pack("<q", 1))
    head = written[:place].replace(b"K\x01Nt", b"\x8a\x08" + struct.pack("<q", numel) + b"Nt")
    return head + struct.pack("<q", numel) + data


def eval_in_options(canary: Path) -> bytes:
    with pickles.public_modules():
        options = sys.modules["dnnlib.util"].EasyDict(x=Calls(eval, f"open({str(canary)!r}, 'w')"))  # type: ignore[attr-defined]
        return pickle.dumps({"G_ema": options})


def in_state(canary: Path, *, bomb: bool = False) -> bytes:
    """A module whose state calls something; or whose source code is long and expensive."""
    with pickles.public_modules():
        node = pickles.Node("Generator", canary, evil=None if bomb else touch(canary))
        if bomb:
            node.canary = Path("x" * 2**20)
        return pickle.dumps({"G_ema": node}, protocol=4)


def whole_module(canary: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": {"a.b": torch.zeros(2)}, "opts": touch(canary)}, stream)
    return stream.getvalue()


def shared(count: int) -> bytes:
    """Many tensors on one storage, which would be copied for each."""
    storage, stream = torch.zeros(2**20), io.BytesIO()
    torch.save({f"a.{i}": storage.view(-1) for i in range(count)}, stream)
    return stream.getvalue()


def many_files(count: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for index in range(count):
            archive.writestr(zipfile.ZipInfo(f"a/data/{index}"), b"")
        archive.writestr("a/data.pkl", pickle.dumps({}))
    return stream.getvalue()


def one_hash(count: int) -> bytes:
    """A dict whose keys all have the hash 0."""
    numbers = (int.to_bytes(k * (2**61 - 1), 10, "little") for k in range(count))
    return b"\x80\x04}(" + b"".join(b"\x8a\x0a" + number + b"N" for number in numbers) + b"u."


HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (lambda c: pickle.dumps(touch(c)), r"(posix|nt)\.system"),
    "os.system in a state": (in_state, r"(posix|nt)\.system"),
    "os.system in a torch file": (whole_module, r"(posix|nt)\.system"),
    "os.system in a storage": (lambda c: from_bytes(pickle.dumps(touch(c))), r"(posix|nt)\.system"),
    "eval in options": (eval_in_options, r"builtins\.eval"),
    "eval in NumPy": (lambda c: b"\x80\x02cnumpy\ndtype\n(ctorch\nload\nS'x'\ntR.", r"torch\.load"),
    "torch.load": (lambda c: b"\x80\x04ctorch\nload\n(S'x'\ntR.", r"torch\.load"),
    "getattr": (lambda c: b"\x80\x04cbuiltins\ngetattr\n(]S'append'\ntR.", r"builtins\.getattr"),
    "a name with dots": (lambda c: b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93.", r"torch\.os\.system"),
    "object array": (
        lambda c: pickle.dumps({"a": np.array([touch(c)], dtype=object)}), r"(posix|nt)\.system|array of the kind 'O",
    ),
    "10 GB": (lambda c: from_bytes(storage_of(10 * 2**28)), r"2684354560 numbers with 0 bytes"),
    "10 GB of bytes": (lambda c: b"\x80\x04\x8e" + struct.pack("<Q", 10 * 2**30) + b"x", r"truncated or damaged"),
    "10 GB of array": (
        lambda c: b"\x80\x04" + pickle.dumps(np.zeros(2, "f4"), 2)[2:].replace(b"K\x02\x85", b"J\xff\xff\xff\x7f\x85"),
        r"array of shape \(2147483647,\)",
    ),
    "nested tuples": (lambda c: nested_tuples(290_000), r"more than 120 deep"),
    "nested lists": (lambda c: b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".", r"more than 120 deep"),
    "marks": (lambda c: b"\x80\x04" + b"(" * 200_000 + b".", r"truncated or damaged"),
    "operations": (lambda c: b"\x80\x04" + b"N0" * 10**6 + b"N.", r"more than 300000 operations"),
    "memo": (lambda c: b"\x80\x04Nr\xff\xff\xff\x7f.", r"memo of"),
    "many files": (lambda c: many_files(25_000), r"more than 20000 files"),
    "keys of one hash": (lambda c: one_hash(100_000), r"a whole number of 6\d bits"),
    "safetensors that claim more": (
        lambda c: struct.pack("<Q", 66) + b'{"a.b":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,4]}}  ' + b"xxxx",
        r"no safetensors file",
    ),
    "safetensors with a long header": (lambda c: struct.pack("<Q", 2**62) + b"{}", r"no safetensors file"),
    "HDF5": (lambda c: b"\x89HDF\r\n\x1a\n", r"HDF5"),
    "storages beyond": (lambda c: whole_module(c)[:300], r"truncated or damaged"),
    "setstate of a class": (lambda c: b"\x80\x04cdnnlib.util\nEasyDict\n}b.", r"truncated or damaged"),
    "source code alone": (lambda c: in_state(c, bomb=True), r"no tensors by name|holds no generator"),
    "shared storages": (lambda c: shared(100), r"no generator|many times its own size"),
}  # fmt: skip

RUN = """
import json, pathlib, resource, sys, time
from inversion_core.errors import PackInvalid
from inversion_core.packs.checkpoint import Checkpoint
from inversion_core.packs.converting import convert_files
found, peak = {}, lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.pkl")):
    before, began = peak(), time.process_time()
    try:
        convert_files([file], sys.argv[1] + "/pack")
        said = "nothing"
    except PackInvalid as error:
        said = str(error)
    found[file.stem] = [said, time.process_time() - began, peak() - before]
print(json.dumps(found))
"""


def test_every_hostile_file_is_refused_soon_and_in_little_memory(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name, (write, _) in HOSTILE.items():
        (tmp_path / f"{name}.pkl").write_bytes(write(canary))
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert not canary.exists()
    wrong = {
        name: found[name]
        for name, (_, words) in HOSTILE.items()
        for said, took_s, grew in (found[name],)
        if f"{name}.pkl" not in said or not re.search(words, said) or took_s > MOST_S or grew > MOST_BYTES
    }
    assert not wrong
    assert not (tmp_path / "pack").exists()


def test_source_code_is_never_looked_at(tmp_path: Path) -> None:
    file = pickles.write_nvidia(tmp_path / "n.pkl", files.TINY)
    checkpoint = Checkpoint.read(file)
    keys = dict(module_tensors(checkpoint.top["G_ema"]))
    assert set(keys) == set(files.nvidia(files.TINY))
    assert not file.with_suffix(".canary").exists()
    assert {part.place for part in parts_of(checkpoint)} == {"G", "G_ema"}
    for key, tensor in checkpoint.tensors(keys).items():
        assert torch.equal(tensor, files.nvidia(files.TINY)[key]), key


def test_tensors_may_not_take_many_times_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(shared(100))
    checkpoint = Checkpoint.read(tmp_path / "x.pt")
    with pytest.raises(PackInvalid, match="many times its own size"):
        checkpoint.tensors(checkpoint.top)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.pkl"
    for begin in (b"", b"\x80\x04", b"\x80\x02cnumpy\ndtype\n"):
        file.write_bytes(begin + data)
        try:
            Checkpoint.read(file)
        except PackInvalid as error:
            assert "any.pkl" in str(error)  # noqa: PT017


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    if not (folder / "whole.pkl").exists():
        pickles.write_nvidia(folder / "whole.pkl", files.Recipe(4, 8, 16, 4, 1))
    whole = bytearray((folder / "whole.pkl").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "damaged.pkl").write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        checkpoint = Checkpoint.read(folder / "damaged.pkl")
        for part in parts_of(checkpoint):
            checkpoint.tensors(part.handles)
    except PackInvalid as error:
        assert "damaged.pkl" in str(error)  # noqa: PT017

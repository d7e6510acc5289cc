"""Only tensors come out of a .pth file; whatever else it asks for is refused by name, and never done."""

from __future__ import annotations

import builtins
import collections
import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion_core.errors import PackInvalid
from inversion_core.packs.unpickle import read_tensors

LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(file: Path, content: object, zipped: bool) -> Path:
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file


@LAYOUTS
def test_every_kind_of_tensor_comes_back(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    tensors = {
        "plain": base.clone(), "turned": base.t()[1:, ::2], "shared": base, "half": torch.randn(3).half(),
        "bfloat": torch.randn(2, 2).bfloat16(), "double": torch.randn(2).double(), "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7), "bytes": torch.tensor([1, 255], dtype=torch.uint8), "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.randn(2, 3)),
    }  # fmt: skip
    found = read_tensors(save(tmp_path / "x.pth", tensors, zipped))
    assert list(found) == list(tensors)
    for key, tensor in tensors.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)
        assert not found[key].requires_grad


@LAYOUTS
def test_a_modules_state_dict_alone_or_wrapped(zipped: bool, tmp_path: Path) -> None:
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    assert isinstance(state, collections.OrderedDict)
    for content in (state, {"state_dict": state, "epoch": 3}):
        found = read_tensors(save(tmp_path / "x.pth", content, zipped))
        assert {key: value.tolist() for key, value in found.items()} == {k: v.tolist() for k, v in state.items()}


class Reduced:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *args: object, state: object = None):
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def attacks(marker: Path) -> dict[str, object]:
    touch = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Reduced(os.system, f"touch {marker}"),
        "eval": Reduced(eval, touch),
        "exec": Reduced(exec, touch),
        "getattr": Reduced(getattr, "x", "upper"),
        "subprocess": Reduced(subprocess.Popen, ["touch", str(marker)]),
        "import": Reduced(builtins.__import__, "os"),
        "open": Reduced(open, str(marker), "w"),
        "torch.load": Reduced(torch.load, str(marker)),
        "numpy": np.arange(3),
        "module": torch.nn.Linear(2, 2),
        "set": {1, 2},
        "counter": collections.Counter("ab"),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "path": Path("x"),
        "sparse": torch.eye(2).to_sparse(),
    }


NAMES = list(attacks(Path("x")))


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["value", "nested", "state", "top"])
def test_anything_else_is_refused_and_not_run(name: str, place: str, zipped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "pwned"
    attack = attacks(marker)[name]
    contents: dict[str, object] = {
        "value": {"a": torch.zeros(2), "b": attack},
        "nested": {"a": torch.zeros(2), "b": [({"c": [attack]},)]},
        "state": {"a": torch.zeros(2), "b": Reduced(collections.OrderedDict, state={"x": attack})},
        "top": attack,
    }
    file = save(tmp_path / "x.pth", contents[place], zipped)
    with pytest.raises(PackInvalid, match=r"x\.pth") as caught:
        read_tensors(file)
    assert not marker.exists()
    assert "Traceback" not in str(caught.value)


@LAYOUTS
def test_code_is_named_in_the_message(zipped: bool, tmp_path: Path) -> None:
    file = save(tmp_path / "x.pth", {"a": Reduced(os.system, "true")}, zipped)
    with pytest.raises(PackInvalid, match=r"x\.pth asks for the name posix\.system.*none of which was run"):
        read_tensors(file)


def craft(file: Path, program: bytes) -> Path:
    """A zip of torch's layout around a pickle written by hand."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", program)
        archive.writestr("x/data/0", struct.pack("<2f", 1, 2))
    return file


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02" + REBUILD + b"}X\x08\x00\x00\x00functioncposix\nsystem\nsb.",  # BUILD on a function
        b"\x80\x02" + REBUILD + b"N}X\x08\x00\x00\x00functionK\x01s\x86b.",  # slot state on a function
        b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",  # BUILD on OrderedDict itself
        b"\x80\x02ctorch\nFloatStorage\n}X\x05\x00\x00\x00dtypeK\x01sb.",  # BUILD on a storage type
        b"\x80\x02ccollections\nOrderedDict.__init__.__globals__\n.",  # a dotted name
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",  # STACK_GLOBAL with a dotted name
        b"\x80\x02\x82\x01.",  # an extension code
        b"\x80\x02(i__builtin__\neval\n.",  # INST
        b"\x80\x02c__builtin__\neval\n.",
        b"\x80\x02}X\x01\x00\x00\x00a" + REBUILD + b"(" + STORAGE + b"K\x00K\x03\x85K\x01\x85\x89}tRs.",  # too long
        b"\x80\x02}X\x01\x00\x00\x00a"
        + REBUILD
        + b"("
        + STORAGE
        + b"J\xff\xff\xff\xffK\x02\x85K\x01\x85\x89}tRs.",  # before it
        b"\x80\x02}X\x01\x00\x00\x00a"
        + REBUILD
        + b"("
        + STORAGE
        + b"K\x00J\x00\x00\x00\x7f\x85K\x00\x85\x89}tRs.",  # stride 0
        b"\x80\x02}X\x01\x00\x00\x00a" + REBUILD + b"(K\x01K\x00K\x02\x85K\x01\x85\x89}tRs.",  # no storage
        b"\x80\x02}r\xff\xff\xff\xff.",  # a memo of four thousand million entries
        b"\x80\x02K\x01.",
        b"\x80\x02}.",
        b".",
        b"",
    ],
)
def test_pickles_written_by_hand(program: bytes, tmp_path: Path) -> None:
    with pytest.raises(PackInvalid, match="crafted"):
        read_tensors(craft(tmp_path / "crafted.pth", program))


def test_the_hand_written_form_is_right(tmp_path: Path) -> None:
    program = b"\x80\x02}X\x01\x00\x00\x00a" + REBUILD + b"(" + STORAGE + b"K\x00K\x02\x85K\x01\x85\x89}tRs."
    assert read_tensors(craft(tmp_path / "crafted.pth", program))["a"].tolist() == [1, 2]


@LAYOUTS
def test_every_truncation_is_noticed(zipped: bool, tmp_path: Path) -> None:
    file = save(tmp_path / "x.pth", {"a": torch.randn(5), "b": torch.randn(3)}, zipped)
    data = file.read_bytes()
    for length in range(0, len(data), 11):
        file.write_bytes(data[:length])
        with pytest.raises(PackInvalid, match=r"x\.pth"):
            read_tensors(file)


@cache
def sound_file(zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.randn(5), "b": torch.randn(3, 2)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@LAYOUTS
@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_is_refused_or_harmless(
    zipped: bool, changes: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "damaged-x.pth"
    content = bytearray(sound_file(zipped))
    for place, byte in changes:
        content[int(place * len(content))] = byte
    file.write_bytes(content)
    try:
        found = read_tensors(file)
    except PackInvalid as error:
        assert "x.pth" in str(error)  # noqa: PT017
    else:
        assert all(isinstance(value, torch.Tensor) for value in found.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no file of torch.save"),
        (b"GIF89a", "no file of torch.save"),
        (pickle.dumps({"a": 1}, protocol=2), "none of torch.save"),
        (pickle.dumps([1], protocol=4), "none of torch.save"),
    ],
)
def test_other_files(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(PackInvalid, match=words):
        read_tensors(tmp_path / "x.pth")


def test_no_file_and_another_zip(tmp_path: Path) -> None:
    with pytest.raises(PackInvalid, match="cannot be read"):
        read_tensors(tmp_path / "none.pth")
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(PackInvalid, match=r"data\.pkl is missing"):
        read_tensors(tmp_path / "x.pth")


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
    with pytest.raises(PackInvalid, match="compressed"):
        read_tensors(tmp_path / "x.pth")

"""The artifact store, on a real folder and on a file system that is no folder."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from privacy import careless_umask, open_to_others

from inversion_worker.artifacts import ArtifactStore
from inversion_worker.contract import ArtifactKey

pytestmark = pytest.mark.unit

A, B = 32 * "a", 32 * "b"
"""Ids of jobs."""


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"{request.param}://{tmp_path}/artifacts")


def test_bytes_come_back_until_their_job_is_deleted(store: ArtifactStore) -> None:
    frame, other = ArtifactKey.frame(A, 5), ArtifactKey.image(B)
    store.write(frame, b"1")
    store.write(frame, b"2")
    store.write(other, b"3")
    assert (store.read(frame), store.read(other)) == (b"2", b"3")
    assert sorted(store.job_ids()) == [A, B]
    store.delete_job(A)
    assert (store.read(frame), store.read(other)) == (None, b"3")
    assert store.job_ids() == [B]


def test_a_copy_is_independent(store: ArtifactStore) -> None:
    store.write(ArtifactKey.photo(A), b"1")
    assert store.copy(ArtifactKey.photo(A), ArtifactKey.photo(B))
    store.delete_job(A)
    assert store.read(ArtifactKey.photo(B)) == b"1"
    assert not store.copy(ArtifactKey.photo(A), ArtifactKey.mask(B))
    assert store.read(ArtifactKey.mask(B)) is None


def test_what_is_not_there_is_no_error(store: ArtifactStore) -> None:
    assert store.job_ids() == []
    assert store.read(ArtifactKey.image("a")) is None
    store.delete(ArtifactKey.image("a"))
    store.delete_job("a")
    store.write(ArtifactKey.image("a"), b"1")
    assert store.read(ArtifactKey.frame("a", 0)) is None
    assert store.read(f"{ArtifactKey.image('a')}/below") is None
    store.delete(ArtifactKey.image("a"))
    assert store.read(ArtifactKey.image("a")) is None


@pytest.mark.parametrize("key", ["", "/", "..", "../a", "a/../../b", "/etc/passwd", "a//b", "a/.", ".hidden", "a\0b"])
def test_a_key_never_leaves_the_store(store: ArtifactStore, key: str) -> None:
    for use in (store.read, store.delete, store.delete_job, lambda key: store.write(key, b"")):
        with pytest.raises(ValueError, match="not an artifact key"):
            use(key)


def test_only_names_of_ours_are_listed(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}")
    for name in (A, f"deleted-{B}", "holiday-photos", "a", A.upper(), f"{A}0", ".hidden"):
        (tmp_path / name).mkdir()
    assert sorted(store.job_ids()) == sorted([A, f"deleted-{B}"])


def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_else(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}")
    store.write("a/image.png", b"old")
    with pytest.raises(TypeError):
        store.write("a/image.png", "no bytes")  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["image.png"]
    assert store.read("a/image.png") == b"old"


def test_a_reader_never_sees_half_a_write(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}")
    whole = [bytes([number]) * 300_000 for number in range(2)]
    store.write("a/b", whole[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for data in whole:
                store.write("a/b", data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(store.read("a/b") in whole for _ in range(200))
    finally:
        stop.set()
        writer.join()


def test_a_job_is_deleted_while_it_is_being_written_to(tmp_path: Path) -> None:
    store = ArtifactStore(f"file://{tmp_path}")
    stop = threading.Event()

    def write() -> None:
        step = 0
        while not stop.is_set():
            try:
                store.write(ArtifactKey.frame(A, step := step + 1), b"frame")
            except (FileNotFoundError, FileExistsError):  # its folder went between making it and writing to it
                continue
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            time.sleep(0.01)
            store.delete_job(A)
    finally:
        stop.set()
        writer.join()
    store.delete_job(A)
    assert store.job_ids() == []


def test_no_other_user_can_read_it(tmp_path: Path) -> None:
    with careless_umask():
        store = ArtifactStore(f"file://{tmp_path}/var/artifacts")
        for _ in range(2):
            store.write(ArtifactKey.frame("a", 5), b"somebody's face")
    assert open_to_others(tmp_path / "var") == []

"""Installing packs: from folders, archives and URLs, whole or not at all, and nothing that is broken or too large."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid, PackNotFound
from inversion_core.packs import change_pack, find_pack, install, load, load_pack, places, read_manifest
from inversion_core.packs.archive import write_archive
from inversion_core.packs.fetch import _HttpsOnly
from inversion_core.packs.install import install_pack
from tests.tiny import rough_pack, save_networks

pytestmark = pytest.mark.unit
URL = "https://packs.example/tiny-1.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_networks(tmp_path / "made" / "tiny", rough_pack())
    change_pack(tmp_path / "made" / "tiny", card=b"tiny faces")
    return tmp_path / "made" / "tiny"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder of packs; it does not exist yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(places.PATH_VARIABLE, raising=False)
    return tmp_path / "home" / "stylegan-inversion" / "packs"


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    return write_archive(folder, tmp_path)[0]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rezip(archive: Path, **changes: bytes | None) -> Path:
    """The archive with other files: name -> content, None leaves it out."""
    with zipfile.ZipFile(archive) as source:
        contents = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in (contents | changes).items():
            if data is not None:
                target.writestr(name, data)
    return archive


def test_what_is_archived_is_installed_and_found_by_its_name(
    folder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "archive", str(folder), "--out", str(tmp_path)]) == 0
    file = tmp_path / "tiny-1.zip"
    digest = sha256(file.read_bytes())
    assert f"{file}: {file.stat().st_size} bytes, SHA-256 {digest}" in capsys.readouterr().out
    assert main(["pack", "install", str(file), "--sha256", digest.upper()]) == 0
    assert capsys.readouterr().out == f"{root / 'tiny'}: tiny 1\n"
    assert find_pack("tiny") == root / "tiny"
    assert read_manifest(root / "tiny") == read_manifest(folder)
    assert load_pack("tiny").name == "tiny"
    assert [path.name for path in root.iterdir()] == ["tiny"]
    assert main(["pack", "install", str(file)]) == 0
    assert capsys.readouterr().out == f"{root / 'tiny'}: tiny 1 is there already\n"


def test_the_same_pack_gives_the_same_archive(folder: Path, tmp_path: Path) -> None:
    first, digest = write_archive(folder, tmp_path / "a.zip")
    for file in folder.iterdir():
        os.utime(file, (10**9, 10**9))
    assert write_archive(folder, tmp_path / "b.zip")[1] == digest == sha256(first.read_bytes())
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_archive(folder, tmp_path / "a.zip")
    (folder / "README.md").write_bytes(b"damaged")
    with pytest.raises(PackInvalid, match=r"README\.md"):
        write_archive(folder, tmp_path / "c.zip")
    assert not (tmp_path / "c.zip").exists()


def test_a_folder_is_installed_without_what_it_does_not_list(folder: Path, root: Path) -> None:
    (folder / "secret.txt").write_text("mine")
    installed = install_pack(folder)
    assert (installed.folder, installed.is_new) == (root / "tiny", True)
    assert not (root / "tiny" / "secret.txt").exists()


def test_another_pack_is_replaced_where_that_is_asked_for(
    folder: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_pack(folder)
    change_pack(folder, focus=3)
    assert main(["pack", "install", str(folder)]) == 2
    told = capsys.readouterr().err
    assert "tiny 1, with other content under the same version; replace it with --overwrite" in told
    change_pack(folder, version="2")
    assert main(["pack", "install", str(folder)]) == 2
    assert "is there already, tiny 1; replace it with --overwrite" in capsys.readouterr().err
    assert read_manifest(root / "tiny").version == "1"
    assert main(["pack", "install", str(folder), "--overwrite"]) == 0
    assert read_manifest(root / "tiny").version == "2"
    (root / "tiny" / "pack.json").write_text("{")
    with pytest.raises(FileExistsError, match="which is broken"):
        install_pack(folder)
    install_pack(folder, overwrite=True)
    assert [path.name for path in root.iterdir()] == ["tiny"]


def test_it_is_said_which_pack_of_the_name_is_found(
    folder: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = tmp_path / "prefix" / "share" / "stylegan-inversion" / "packs" / "tiny"
    save_networks(shipped, rough_pack())
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    assert main(["pack", "install", str(folder)]) == 0
    told = capsys.readouterr().err
    assert f"it is found before {shipped}, which has other content under the same version" in told
    monkeypatch.setenv(places.PATH_VARIABLE, str(folder))
    assert main(["pack", "install", str(folder), "--overwrite"]) == 0
    assert f"another one is found before it: {folder}" in capsys.readouterr().err


def test_a_url_needs_https_and_the_right_sha256(archive: Path, root: Path) -> None:
    data = archive.read_bytes()
    asked = []

    def open_url(url: str) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(data)

    with pytest.raises(OptionInvalid, match="--sha256 HEX"):
        install_pack(URL, open_url=open_url)
    with pytest.raises(OptionInvalid, match="64 hexadecimal digits"):
        install_pack(URL, sha256="abc", open_url=open_url)
    for url in (URL.replace("https", "http"), "file:///etc/passwd", "ftp://x/y"):
        with pytest.raises(OptionInvalid, match="not under https"):
            install_pack(url, sha256=sha256(data), open_url=open_url)
    assert not asked
    with pytest.raises(PackInvalid, match="Nothing was installed"):
        install_pack(URL, sha256="0" * 64, open_url=open_url)
    assert list(root.iterdir()) == []
    assert install_pack(URL, sha256=sha256(data), open_url=open_url).folder == root / "tiny"
    assert asked == [URL, URL]


def test_a_download_that_fails_or_does_not_end_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> Any:
        raise TimeoutError("timed out")

    with pytest.raises(PackNotFound, match=r"could not be downloaded \(timed out\)"):
        install_pack(URL, sha256="0" * 64, open_url=refuse)
    monkeypatch.setattr(install, "MAX_PACK_BYTES", 1000)
    with pytest.raises(PackInvalid, match="longer than 1000 bytes"):
        install_pack(URL, sha256="0" * 64, open_url=lambda url: io.BytesIO(bytes(10**6)))
    with pytest.raises(OSError, match="not https"):
        _HttpsOnly().redirect_request(None, None, 302, "", None, "http://127.0.0.1/x")  # type: ignore[arg-type]


def spoiled(archive: Path, case: str) -> tuple[Path, str]:
    """An archive with something wrong, and what is said of it."""
    with zipfile.ZipFile(archive) as source:
        top = json.loads(source.read("tiny/pack.json"))
        card = source.read("tiny/README.md")

    def listing(**files: str) -> bytes:
        return json.dumps(top | {"files": top["files"] | files}).encode()

    match case:
        case "out of the folder":
            evil = {"../../evil": sha256(b"x")}
            return rezip(archive, **{"tiny/pack.json": listing(**evil), "tiny/../../evil": b"x"}), "no path inside"
        case "absolute":
            return rezip(archive, **{"tiny/pack.json": listing(**{"/tmp/evil": sha256(b"x")})}), "no path inside"
        case "no pack.json":
            return rezip(archive, **{"tiny/pack.json": None}), "holds no pack.json"
        case "two packs":
            return rezip(archive, **{"other/pack.json": listing()}), "holds 2 pack.json"
        case "a file is missing":
            return rezip(archive, **{"tiny/README.md": None}), r"README.md cannot be taken: it is missing"
        case "a file is changed":
            return rezip(archive, **{"tiny/README.md": card + b"!"}), "truncated or changed"
        case "a file is a folder":
            return rezip(
                archive, **{"tiny/pack.json": listing(**{"README.md/x": sha256(b"x")}), "tiny/README.md/x": b"x"}
            ), "cannot be taken"
        case "a file twice":
            with zipfile.ZipFile(archive, "a") as target, pytest.warns(UserWarning, match="Duplicate"):
                target.writestr("tiny/README.md", b"other")
            return archive, "it is there twice"
        case "too large":
            with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as target:
                target.writestr("tiny/zeros", bytes(install.MAX_PACK_BYTES + 1))
            return rezip(archive, **{"tiny/pack.json": listing(zeros="0" * 64)}), "holds more than"
        case "too many":
            return rezip(
                archive, **{"tiny/pack.json": listing(**{f"f{i}": "0" * 64 for i in range(2000)})}
            ), "at most 1000"
        case "no archive":
            archive.write_bytes(b"\x1f\x8b tar.gz perhaps")
            return archive, "no .zip file"
    raise AssertionError(case)


CASES = (
    "out of the folder", "absolute", "no pack.json", "two packs", "a file is missing", "a file is changed",
    "a file is a folder", "a file twice", "too large", "too many", "no archive",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_nothing_of_a_wrong_archive_stays(
    case: str, archive: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "MAX_PACK_BYTES", 2 * 10**6)
    file, words = spoiled(archive, case)
    with pytest.raises(PackInvalid, match=words) as caught:
        install_pack(file)
    assert str(file) in str(caught.value)
    assert ".installing." not in str(caught.value)
    assert list(root.iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


def test_an_archive_of_very_many_files_is_refused_unread(
    archive: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "MOST_AT_ONCE_BYTES", 2**20)
    with zipfile.ZipFile(archive, "a") as target:
        for number in range(1000):
            target.writestr("x" * 1500 + str(number), b"")
    with pytest.raises(PackInvalid, match="it lists too many files"):
        install_pack(archive)


def test_a_pipe_in_a_folder_is_not_waited_for(folder: Path, root: Path) -> None:
    (folder / "README.md").unlink()
    os.mkfifo(folder / "README.md")
    with pytest.raises(PackInvalid, match="cannot be taken"):
        install_pack(folder)
    with pytest.raises(PackNotFound, match="no file or folder"):
        install_pack(folder / "nothing")
    with pytest.raises(OptionInvalid, match="is a folder"):
        install_pack(folder, sha256="0" * 64)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_an_archive_it_is_the_pack_or_refused(
    data: st.DataObject, archive: Path, root: Path
) -> None:
    whole = archive.read_bytes()
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1) | st.integers(len(changed) - 900, len(changed) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    del changed[len(changed) - data.draw(st.just(0) | st.integers(0, 2000)) :]
    file = archive.with_name("changed.zip")
    file.write_bytes(changed)
    try:
        installed = install_pack(file, overwrite=True)
    except PackInvalid:
        assert not list(root.glob(".*"))
    else:
        assert installed.manifest.name == "tiny"


def test_without_the_default_pack_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed_by_pip = Path(load.__file__).parent / "data"
    monkeypatch.setattr(load, "pack_roots", lambda: [installed_by_pip])
    with pytest.raises(PackNotFound, match=r"inversion pack install SOURCE.*load_pack\('faces-64'\)"):
        load_pack()
    assert main(["pack", "show"]) == 2
    assert "--pack faces-64" in capsys.readouterr().err
    assert find_pack(load.SMALL_PACK).parent == installed_by_pip

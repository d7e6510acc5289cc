"""Changing packs: those that ship stay as they are, a copy is changed instead, and versions are spoken of."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.packs import change_pack, copy_pack, find_pack, places, put_directions, read_manifest, verify_pack
from inversion_core.packs.imagenet import use_imagenet_vgg
from tests.tiny import rough_pack, save_networks, tiny_pack

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_networks(tmp_path / "packs" / "tiny", rough_pack())
    return tmp_path / "packs" / "tiny"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny pack that ships with the program, as in an image."""
    folder = tmp_path / "prefix" / "share" / "stylegan-inversion" / "packs" / "tiny"
    save_networks(folder, rough_pack())
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    return folder


def test_the_packs_of_this_repository_ship() -> None:
    assert places.is_shipped(find_pack("faces-128"))
    assert places.is_shipped(find_pack("faces-64"))


@pytest.mark.parametrize(
    "command",
    [
        ["pack", "change", "PACK", "--focus", "3"],
        ["pack", "use-imagenet-vgg", "PACK"],
        ["train", "directions", "PACK", "no.npz", "no.csv", "--out", "x", "--write-into", "PACK"],
    ],
    ids=lambda command: command[1],
)
def test_no_command_changes_a_pack_that_ships(
    command: list[str], shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_manifest(shipped)
    assert main([str(shipped) if word == "PACK" else word for word in command]) == 2
    told = capsys.readouterr().err
    assert f"{shipped} ships with the program and is not changed" in told
    assert "inversion pack copy tiny DIR" in told
    assert read_manifest(shipped) == before


def test_nothing_in_the_library_changes_a_pack_that_ships(shipped: Path) -> None:
    with pytest.raises(OptionInvalid, match="ships with the program"):
        put_directions(shipped, [])
    with pytest.raises(OptionInvalid, match="ships with the program"):
        save_networks(shipped, tiny_pack(), overwrite=True)
    with pytest.raises(OptionInvalid, match="ships with the program"):
        copy_pack(shipped, shipped, overwrite=True)
    with pytest.raises(OptionInvalid, match="ships with the program"):
        use_imagenet_vgg(shipped, source=lambda: pytest.fail("nothing is downloaded first"))


def test_out_takes_the_changed_pack_and_leaves_the_first_one(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = read_manifest(shipped), tmp_path / "new" / "mine"
    change = ["pack", "change", str(shipped), "--focus", "3", "--out", str(out)]
    assert main([*change, "--version", "2", "--name", "mine"]) == 0
    assert capsys.readouterr() == (f"{out}: mine 2\n", "")
    after = verify_pack(out)
    assert (after.name, after.version, after.focus) == ("mine", "2", 3)
    assert after.files == before.files
    assert read_manifest(shipped) == before
    assert main(change) == 2
    assert f"{out} is there already" in capsys.readouterr().err
    assert main([*change, "--overwrite"]) == 0


def test_a_change_that_fails_leaves_nothing_and_what_was_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"
    change = ["pack", "change", str(folder), "--out", str(out), "--overwrite"]
    assert main([*change, "--optimizer", 'adam={"learning_rate": -1}']) == 2
    assert not out.exists()
    copy_pack(folder, out)
    assert main([*change, "--optimizer", 'adam={"learning_rate": -1}']) == 2
    assert read_manifest(out) == read_manifest(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "packs"]


def test_a_wrong_value_is_blamed_on_the_value_and_on_the_pack_that_was_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "change", str(folder), "--optimizer", 'adam={"learning_rate": -1}']) == 2
    told = capsys.readouterr().err
    assert f"error: {folder}/pack.json: key 'optimizers.adam'" in told
    assert "Nothing was written" in told
    assert "Copy the pack again" not in told


def test_another_content_under_the_same_version_is_spoken_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = read_manifest(folder).version
    assert main(["pack", "change", str(folder), "--focus", "3"]) == 0
    told = capsys.readouterr().err
    assert f"tiny {version} has other content than before under the same version" in told
    assert f"inversion pack change {folder} --version VERSION" in told
    assert main(["pack", "change", str(folder), "--focus", "3"]) == 0  # nothing new
    assert main(["pack", "change", str(folder), "--focus", "4", "--version", "new"]) == 0
    assert capsys.readouterr().err == ""


def test_a_copy_has_what_the_pack_lists(folder: Path, tmp_path: Path) -> None:
    change_pack(folder, card=b"tiny faces")
    (folder / "note.txt").write_text("not listed")
    assert main(["pack", "copy", str(folder), str(tmp_path / "deep" / "copy")]) == 0
    copy = tmp_path / "deep" / "copy"
    assert verify_pack(copy) == read_manifest(folder)
    assert not (copy / "note.txt").exists()
    assert main(["pack", "copy", str(folder), str(copy)]) == 2
    (folder / "README.md").write_text("damaged")
    with pytest.raises(PackInvalid, match=r"README\.md"):
        copy_pack(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_is_installed_and_named_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(places.PATH_VARIABLE, raising=False)
    installed = tmp_path / "data" / "stylegan-inversion" / "packs" / "tiny"
    shutil.copytree(folder, installed)
    assert find_pack("tiny") == installed
    monkeypatch.setenv(places.PATH_VARIABLE, str(folder))
    assert find_pack("tiny") == folder, "what is named comes first"


def test_a_relative_data_folder_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.user_root() == tmp_path / ".local" / "share" / "stylegan-inversion" / "packs"

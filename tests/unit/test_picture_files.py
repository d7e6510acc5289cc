"""One door for all pictures: `inversion train data` and the benchmarks find and read what `inversion invert` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import QUARTERS, SWAPPED, encode, quarters, with_orientation

from inversion_core.benchmark.photos import find_photos, load_subjects
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PictureInvalid
from inversion_core.training.data import load_pictures, pack_pictures

pytestmark = pytest.mark.unit

GREEN_FIRST = (QUARTERS[1], QUARTERS[0], *QUARTERS[2:])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture of each format, one turned, one with a profile, and what lies about beside pictures."""
    image, folder = quarters(), tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(with_orientation("JPEG", 6, quality=95))
    (folder / "b.png").write_bytes(encode(image, "PNG", icc_profile=SWAPPED))
    (folder / "c.WEBP").write_bytes(encode(image, "WEBP", lossless=True))
    (folder / "d.gif").write_bytes(encode(image, "GIF"))
    (folder / "e.bmp").write_bytes(encode(image, "BMP"))
    (folder / "deeper" / "f.tiff").write_bytes(encode(image, "TIFF"))
    (folder / "g.avif").write_bytes(encode(image, "AVIF", quality=95))
    (folder / "h").write_bytes(encode(image, "PNG"))  # no name says what it is
    (folder / "small.png").write_bytes(encode(image.resize((24, 16)), "PNG"))
    (folder / "notes.txt").write_text("no picture")
    (folder / "._a.jpg").write_bytes(b"\0\5\x16\7" + bytes(100))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "i.png").write_bytes(encode(image, "PNG"))
    return folder


def test_every_format_is_packed_upright_and_in_srgb(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = pack_pictures([folder], tmp_path / "new" / "out.npz", 16)
    assert (packed.count, packed.broken) == (9, ())
    assert "2 hidden files" in capsys.readouterr().err
    with np.load(tmp_path / "new" / "out.npz") as content:
        names, pictures_NHWC = content["names"], content["pictures_NHWC"]
    assert "deeper/f.tiff" in names
    for name, picture_HWC in zip(names, pictures_NHWC, strict=True):
        seen = [picture_HWC[y, x] for y in (4, 12) for x in (4, 12)]
        expected = GREEN_FIRST if name.endswith("b.png") else QUARTERS
        np.testing.assert_allclose(seen, expected, atol=20, err_msg=name)


def test_broken_pictures_are_named_and_counted_and_cost_no_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-300])
    (folder / "page.png").write_bytes(b"<html>not found</html>")
    out = tmp_path / "out.npz"
    assert main(["train", "data", str(folder), "--size", "16", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "9 pictures of 16 px" in captured.out
    assert "cut.jpg: The JPEG is cut short" in captured.err
    assert "page.png: It is an HTML page" in captured.err
    assert "2 of 11 files cannot be read" in captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "--size", "16"], "nothing does not exist"),
        (["file.txt", "--size", "16"], "file.txt is a file, not a folder"),
        (["empty", "--size", "16"], "there is no picture"),
        (["pictures", "--size", "0"], "at least 8 px"),
        (["pictures", "--size", "-3"], "at least 8 px"),
        (["pictures", "--out", "empty"], "empty is a folder"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file.txt").touch()
    assert main(["train", "data", "--out", "out.npz", *arguments]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_where_every_picture_is_broken_none_is_packed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(PictureInvalid, match="None of the 1 pictures"):
        pack_pictures([tmp_path], tmp_path / "out.npz", 16)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4", encode(quarters(), "PNG")])
def test_what_is_no_archive_is_told_how_to_become_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(OptionInvalid, match="make one with: inversion train data"):
        load_pictures(tmp_path / "x.npz", held_out=1)


def test_benchmarks_read_the_same_pictures_and_count_what_they_skip(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-300])
    subjects, skipped = load_subjects(find_photos([folder]), 16, align=False, landmarks=False)
    assert (len(subjects), sorted(skipped)) == (8, ["cut.jpg", "small.png"])
    for subject in subjects:
        seen = [subject.aligned.getpixel((x, y)) for y in (4, 12) for x in (4, 12)]
        expected = GREEN_FIRST if subject.name == "b.png" else QUARTERS
        np.testing.assert_allclose(seen, expected, atol=20, err_msg=subject.name)
    assert "2 of 10 photographs were skipped" in capsys.readouterr().err


def test_benchmarks_find_the_same_pictures(folder: Path) -> None:
    assert {photo.name for photo in find_photos([folder])} == {
        "a.jpg", "b.png", "c.WEBP", "d.gif", "e.bmp", "f.tiff", "g.avif", "h", "small.png",
    }  # fmt: skip

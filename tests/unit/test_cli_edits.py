"""`inversion edit|mix|interpolate|diffuse|directions`, called as a program calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inversion_core.cli import main
from inversion_core.editing import apply_edits, own_codes, parse_edits
from inversion_core.editing.codes import Code
from inversion_core.editing.directions.store import load_directions
from inversion_core.editing.domain import centre
from inversion_core.latents import Latent
from inversion_core.packs import Direction, DirectionSpec, Pack, load_pack, put_directions
from inversion_core.packs.places import PATH_VARIABLE
from inversion_core.pictures import to_image, to_tensor
from tests.drawn_face import draw_face
from tests.tiny import rough_pack, save_networks, tiny_targets

pytestmark = pytest.mark.unit

SPEC = DirectionSpec(name="smile", label="Happier", range=(-2.0, 2.0), unit="1", source="made up")


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """A tiny pack with a direction, found by its name, and a folder for results."""
    save_networks(tmp_path / "packs" / "tiny", rough_pack())
    step_LD = 0.3 * torch.randn(6, 12, generator=torch.Generator().manual_seed(5))
    put_directions(tmp_path / "packs" / "tiny", [Direction(spec=SPEC, step_LD=step_LD)])
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "packs"))
    monkeypatch.chdir(tmp_path)
    return load_pack("tiny")


def run(*argv: str) -> int:
    return main(
        [*argv, *(("--threads", "1", "--device", "cpu") if argv[0] != "directions" or argv[1] != "add" else ())]
    )


def edit(*argv: str) -> int:
    return run("edit", *argv, "--pack", "tiny")


def seed(pack: Pack, number: int) -> Latent:
    return own_codes(pack)(Code(seed=number))


def photo(file: str = "photo.png") -> str:
    to_image(tiny_targets(1)[0]).resize((80, 96)).save(file)
    return file


# -- edit and mix --------------------------------------------------------------------------------------------


def test_edits_of_a_file_come_first_then_those_of_options(pack: Pack) -> None:
    Path("edits.json").write_text(json.dumps([{"truncate": 0.5, "layers": [0, 3]}]))
    assert edit("seed:7", "--edits", "edits.json", "--edit", "smile:1.5", "--out", "x.npy") == 0
    edits = parse_edits([{"truncate": 0.5, "layers": [0, 3]}, {"direction": "smile", "strength": 1.5}])
    assert np.array_equal(np.load("x.npy"), apply_edits(pack, seed(pack, 7), edits).w_BLD[0].numpy())


def test_a_result_is_a_source_again(pack: Pack) -> None:
    assert edit("seed:7", "--edit", "smile:1", "--out", "one.safetensors") == 0
    Path("result").mkdir()
    Path("one.safetensors").rename("result/latents.safetensors")
    assert edit("result", "--edit", "smile:-1", "--out", "back.npy") == 0
    np.testing.assert_allclose(np.load("back.npy"), seed(pack, 7).w_BLD[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "X.JPEG"])
def test_a_picture_is_written_as_its_ending_says(pack: Pack, name: str) -> None:
    assert edit("seed:7", "--edit", "truncate:0", "--out", name) == 0
    with Image.open(name) as opened:
        assert opened.size == (16, 16)
        assert opened.format == {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}[name.lower()[2:]]
        mean = to_tensor(opened.convert("RGB"))
    assert (mean - pack.synthesize(centre(pack)).clamp(-1, 1)).abs().mean() < 0.2


def test_a_photo_is_inverted_first(pack: Pack) -> None:
    assert edit(photo(), "--no-align", "--steps", "2", "--edit", "smile:0.5", "--out", "x.npy") == 0
    assert edit(photo(), "--no-align", "--steps", "0", "--edit", "smile:0", "--out", "start.npy") == 0
    assert np.load("x.npy").shape == (6, 12)
    assert not np.array_equal(np.load("x.npy"), np.load("start.npy"))


def test_strength_0_gives_the_photo_back(pack: Pack) -> None:
    draw_face().save("face.png")
    arguments = ("face.png", "--steps", "1", "--edit", "smile:0", "--out")
    assert edit(*arguments, "same.png") == 0
    with Image.open("face.png") as before, Image.open("same.png") as after:
        assert np.array_equal(np.asarray(before.convert("RGB")), np.asarray(after))
    assert edit(*arguments, "crop.png", "--crop") == 0
    with Image.open("crop.png") as crop:
        assert crop.size == (16, 16)


def test_mix_is_the_edit_of_that_name(pack: Pack) -> None:
    assert (
        run("mix", "seed:1", "seed:2", "--amount", "0.25", "--layers", "2-3", "--out", "x.npy", "--pack", "tiny") == 0
    )
    edits = parse_edits([{"mix": {"seed": 2}, "amount": 0.25, "layers": [2, 3]}])
    assert np.array_equal(np.load("x.npy"), apply_edits(pack, seed(pack, 1), edits).w_BLD[0].numpy())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["seed:7", "--out", "x.png"], "there is no edit; give --edit NAME:STRENGTH"),
        (["seed:7", "--edit", "smile", "--out", "x.png"], "write a direction and a strength, such as smile:1.5"),
        (["seed:7", "--edit", "smirk:1", "--out", "x.png"], "edits[0].direction is 'smirk'; pack tiny has smile"),
        (["seed:7", "--edit", "smile:nan", "--out", "x.png"], "edits[0].strength is NaN"),
        (["seed:x", "--edit", "smile:1", "--out", "x.png"], "seed:x names no seed"),
        (["none.npy", "--edit", "smile:1", "--out", "x.png"], "none.npy"),
        (["none.jpg", "--edit", "smile:1", "--out", "x.png"], "none.jpg"),
        (["packs", "--edit", "smile:1", "--out", "x.png"], "has neither latents.safetensors nor latents.npy"),
        (["seed:7", "--edit", "smile:1", "--out", "x.gif"], "must end in .png, .jpg, .jpeg, .webp, .npy, .safetensors"),
        (["seed:7", "--edit", "smile:1", "--out", "a/b.png"], "there is no folder"),
        (["seed:7", "--edits", "none.json", "--out", "x.png"], "--edits none.json"),
        (["seed:7", "--edit", "smile:1", "--directions", "none", "--out", "x.png"], "none cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    pack: Pack, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edit(*argv) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


# -- interpolate and diffuse ---------------------------------------------------------------------------------


def test_a_film_goes_from_one_to_the_other(pack: Pack) -> None:
    arguments = ("interpolate", "seed:1", "seed:2", "--frames", "5", "--pack", "tiny", "--out")
    assert run(*arguments, "film.webp", "--side", "32") == 0
    with Image.open("film.webp") as opened:
        assert (getattr(opened, "n_frames", 1), opened.size) == (5, (32, 32))
    assert run(*arguments, "frames", "--way", "spherical") == 0
    assert sorted(path.name for path in Path("frames").iterdir()) == [f"{index:04d}.png" for index in range(5)]
    with Image.open("frames/0004.png") as last:
        assert np.array_equal(np.asarray(last), np.asarray(to_image(pack.synthesize(seed(pack, 2)))))


def test_a_film_of_one_goes_to_its_edits(pack: Pack) -> None:
    arguments = ("--frames", "3", "--out", "frames", "--pack", "tiny")
    assert run("interpolate", "seed:1", "--edit", "truncate:0", *arguments) == 0
    with Image.open("frames/0002.png") as last:
        assert np.array_equal(np.asarray(last), np.asarray(to_image(pack.synthesize(centre(pack)))))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["seed:1", "--out", "x.webp"], "one source goes nowhere"),
        (["seed:1", "seed:2", "--out", "x.avi"], "must end in .webp, .gif, .mp4, or name a folder"),
        (["seed:1", "seed:2", "--frames", "1", "--out", "x.gif"], "frames is 1; give from 2 to 600"),
        (["seed:1", "seed:2", "--side", "5", "--out", "x.gif"], "--side is 5"),
    ],
)
def test_a_film_that_cannot_be_is_refused(
    pack: Pack, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("interpolate", *argv, "--pack", "tiny") == 2
    assert words in capsys.readouterr().err


def test_diffuse_writes_the_face_in_its_context(pack: Pack) -> None:
    arguments = ("--no-align", "--steps", "2", "--pack", "tiny", "--out")
    assert run("diffuse", photo("a.png"), photo("b.png"), *arguments, "x.png", "--mask", '{"box": [0, 0, 0.5, 1]}') == 0
    with Image.open("x.png") as opened:
        assert opened.size == (16, 16)
    assert run("diffuse", photo("a.png"), photo("b.png"), *arguments, "x.npy", "--context", "2") == 2
    assert run("diffuse", photo("a.png"), photo("b.png"), *arguments, "x.npy", "--mask", "{") == 2


# -- directions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sefa", "ganspace"])
def test_computed_directions_can_be_used_at_once(pack: Pack, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("directions", kind, "tiny", "--count", "2", "--out", "d.safetensors", "--sheet", "sheet.png") == 0
    assert list(load_directions(Path("d.safetensors"), pack)) == [f"{kind}-1", f"{kind}-2"]
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 5 * 18 - 2
    assert edit("seed:1", "--directions", "d.safetensors", "--edit", f"{kind}-2:1", "--out", "x.npy") == 0
    assert run("directions", "show", "tiny", "--directions", "d.safetensors") == 0
    told = capsys.readouterr().out
    assert "smile: -2 to 2; Happier" in told
    assert f"{kind}-2: -2 to 2" in told


def test_a_direction_of_ones_own(pack: Pack) -> None:
    for group, numbers in (("with", (1, 2)), ("without", (3, 4))):
        for number in numbers:
            Path(group, str(number)).mkdir(parents=True)
            np.save(Path(group, str(number), "latents.npy"), seed(pack, number).w_BLD[0].numpy())
    arguments = ("--minus", "without", "--name", "hat", "--out", "hat.safetensors")
    assert run("directions", "from", "tiny", "with", *arguments) == 0
    found = load_directions(Path("hat.safetensors"), pack)["hat"]
    w = [seed(pack, number).w_BLD[0] for number in (1, 2, 3, 4)]
    torch.testing.assert_close(found.step_LD, (w[0] + w[1]) / 2 - (w[2] + w[3]) / 2, atol=1e-5, rtol=1e-5)


def test_imported_directions_go_into_a_pack(pack: Pack) -> None:
    np.save("age_boundary.npy", np.ones((1, 12)))
    assert run("directions", "import", "tiny", "age_boundary.npy", "--name", "age", "--out", "age.safetensors") == 0
    assert run("directions", "add", "packs/tiny", "age.safetensors") == 0
    assert list(load_pack("tiny").directions) == ["smile", "age"]
    assert run("directions", "add", "packs/tiny", "age.safetensors") == 2


def test_directions_that_cannot_be_are_refused(pack: Pack, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, words in (
        (("sefa", "tiny", "--out", "d.npy"), "--out d.npy must end in .safetensors"),
        (("sefa", "tiny", "--layers", "4-9", "--out", "d.safetensors"), "layers are 4 to 9; pack tiny has 0 to 5"),
        (("import", "tiny", "a", "b", "--name", "x", "--out", "d.safetensors"), "--name is for one file"),
    ):
        assert run("directions", *argv) == 2
        assert words in capsys.readouterr().err

"""The benchmark of edits: the judge, the person's mask, what is measured, and the files it writes."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from inversion_core.benchmark.edits import EditsConfig, chosen_directions, inversion_config
from inversion_core.benchmark.edits_report import EditRow, summarise
from inversion_core.benchmark.person import changed_background, person_mask
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid
from inversion_core.packs import Direction, DirectionSpec, put_directions
from inversion_core.training.judge import FaceJudge, features, load_judge
from tests.drawn_face import draw_face
from tests.tiny import save_networks, tiny_pack

pytestmark = pytest.mark.unit


# -- the judge -----------------------------------------------------------------------------------------------


def test_the_shipped_judge_reads_every_direction_of_the_packs() -> None:
    judge = load_judge()
    assert {"smile", "age", "gender", "weight", "hair-length", "hair-colour", "skin-colour"} < set(judge.names)
    assert judge(torch.zeros(2, 3, 64, 64)).shape == (2, len(judge.names))
    assert "CC BY-NC-SA" in judge.source
    assert min(judge.held_out_r2) > 0.4


def test_a_judge_comes_back_from_its_file(tmp_path: Path) -> None:
    count = features(torch.zeros(1, 3, 16, 16)).shape[1]
    draw = torch.Generator().manual_seed(0)
    judge = FaceJudge(
        names=("smile", "age"), held_out_r2=(0.5, -0.25), source="a test",
        mean_P=torch.rand(count, generator=draw).double(), filter_PA=torch.randn(count, 2, generator=draw).double() / count**0.5,
        offset_A=torch.zeros(2).double(),
    )  # fmt: skip
    judge.save(tmp_path / "deep" / "judge.safetensors")
    found = load_judge(tmp_path / "deep" / "judge.safetensors")
    assert (found.names, found.held_out_r2, found.source) == (judge.names, judge.held_out_r2, judge.source)
    image_NCHW = torch.rand(2, 3, 32, 32, generator=draw) * 2 - 1
    assert torch.allclose(found(image_NCHW), judge(image_NCHW), atol=0.05)


def test_what_is_no_judge_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no judge")
    for name in ("text", "missing"):
        with pytest.raises(OptionInvalid, match="is no judge of faces"):
            load_judge(tmp_path / name)


@settings(max_examples=20, deadline=None)
@given(side=st.integers(8, 80), low=st.floats(-3, 0), high=st.floats(0, 3))
def test_features_are_finite_for_any_picture(side: int, low: float, high: float) -> None:
    draw = torch.Generator().manual_seed(side)
    x_NP = features(torch.rand(2, 3, side, side, generator=draw) * (high - low) + low)
    assert x_NP.shape == features(torch.zeros(2, 3, 16, 16)).shape
    assert x_NP.isfinite().all()


# -- the person ----------------------------------------------------------------------------------------------


def test_the_person_is_not_the_corner() -> None:
    mask_HW = person_mask(draw_face())
    height, width = mask_HW.shape
    assert mask_HW[height // 2, width // 2]
    assert not mask_HW[2, 2]


def test_changes_are_told_apart_by_where_they_are() -> None:
    before = draw_face()
    width, height = before.size
    on_wall, on_face = before.copy(), before.copy()
    ImageDraw.Draw(on_wall).rectangle((0, 0, width // 20, height // 20), fill=(60, 130, 60))
    middle = (width // 2, height // 2, width // 2 + width // 20, height // 2 + height // 20)
    ImageDraw.Draw(on_face).rectangle(middle, fill=(180, 60, 60))
    assert changed_background(before, on_wall) > 0.9
    assert changed_background(before, on_face) < 0.1
    assert math.isnan(changed_background(before, before))


# -- what is measured ----------------------------------------------------------------------------------------


def row(photo: str, end: str, change: tuple[float, ...], plain: tuple[float, ...], **values: float) -> EditRow:
    strength = -2.0 if end == "low" else 1.5
    known = {"identity": 0.8, "changed_background": 0.1} | values
    return EditRow(
        photo=photo,
        direction="age",
        end=end,
        strength=strength,
        change_A=change,
        change_without_detail_A=plain,
        **known,
    )


def test_own_is_the_way_that_was_asked_for_and_others_the_largest() -> None:
    rows = [
        row("a", "low", (0.5, -1.0, 0.1), (0.5, -2.0, 0.1)),
        row("b", "low", (-0.9, -2.0, 0.1), (0.5, -2.0, 0.1), identity=0.6, changed_background=math.nan),
        row("a", "high", (0.0, 0.6, -0.7), (0.0, 0.5, 0.0)),
    ]
    low, high = summarise(rows, ("smile", "age", "weight"))
    assert low.fields() == pytest.approx(
        {"strength": -2, "identity": 0.7, "own": 1.5, "own_without_detail": 2, "others": 0.2, "changed_background": 0.1}
    )
    assert (low.other, low.share, low.own_spread) == ("smile", 0.75, pytest.approx(0.5**0.5))
    assert (high.end, high.own, high.others, high.other) == ("high", 0.6, 0.7, "weight")


def test_a_direction_that_the_judge_does_not_know_has_no_own() -> None:
    (summary,) = summarise([row("a", "high", (0.3,), (0.3,))], ("smile",))
    assert (summary.own, summary.own_without_detail, summary.share, summary.others) == (None, None, None, 0.3)


def directed_pack(folder: Path) -> Path:
    pack = tiny_pack()
    save_networks(folder, pack)
    step_LD = torch.full((pack.num_layers, pack.w_dim), 0.2)
    specs = [
        DirectionSpec(name=name, label="More", range=limits, unit="a step", source="a test")
        for name, limits in (("smile", (-1.0, 2.0)), ("wrinkles", (0.0, 1.0)))
    ]
    put_directions(folder, [Direction(spec=spec, step_LD=step_LD) for spec in specs])
    return folder


def run(pack: Path, photos: list[Path], out: Path, *options: str) -> int:
    return main(["benchmark", "edits", str(pack), *map(str, photos), "--out", str(out), "--device", "cpu", *options])


def test_edits_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack, out = directed_pack(tmp_path / "pack"), tmp_path / "out"
    for name in ("a.png", "b.png"):
        draw_face().save(tmp_path / name)
    Image.new("RGB", (90, 90), (90, 90, 90)).save(tmp_path / "c.png")
    photos = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    assert run(pack, photos, out, "--steps", "1", "--detail-steps", "2", "--batch", "1", "--sheet", "1") == 0
    assert sorted(path.name for path in out.iterdir()) == ["edits.csv", "edits.json", "edits.md", "sheet.png"]
    data = json.loads((out / "edits.json").read_text())
    assert (data["pack"], data["photos"], data["skipped"]) == ("tiny", 2, ["c.png"])
    assert {name: list(ends) for name, ends in data["directions"].items()} == {
        "smile": ["low", "high"],
        "wrinkles": ["high"],
    }
    keys = {"strength", "identity", "own", "own_without_detail", "others", "changed_background"}
    for name, ends in data["directions"].items():
        for end in ends.values():
            assert set(end) == keys
            assert end["identity"] is None
            assert (end["own"] is None) == (name == "wrinkles")
    assert [end["strength"] for end in data["directions"]["smile"].values()] == [-1, 2]
    with (out / "edits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3
    mean = sum(float(each["smile"]) for each in rows if each["strength"] == "2") / 2
    assert data["directions"]["smile"]["high"]["own"] == pytest.approx(mean, abs=1e-3)
    text = (out / "edits.md").read_text()
    assert text in capsys.readouterr().out
    assert "| smile | -1 |" in text
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.size == (5 * 130 - 2, 14 + 2 * 130 - 2), "photo, inverted, three ends; with detail and without"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--directions", "age"], "direction is 'age'; pack tiny has smile, wrinkles"),
        (["--batch", "0"], "batch is 0"),
        (["--judge", "none.safetensors"], "is no judge of faces"),
        (["--identity", "none.onnx"], "none.onnx is no ONNX network"),
        (["--steps", "-1"], "num_steps is -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = directed_pack(tmp_path / "pack")
    draw_face().save(tmp_path / "a.png")
    assert run(pack, [tmp_path / "a.png"], tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_pack_without_directions_says_how_to_get_some() -> None:
    with pytest.raises(OptionInvalid, match="inversion train directions"):
        chosen_directions(tiny_pack(), None)


def test_a_pack_without_steps_of_detail_gets_ten() -> None:
    pack = tiny_pack()
    assert inversion_config(pack, EditsConfig()).detail_steps == 10
    pack = pack.changed(detail=dataclasses.replace(pack.detail, steps=4))
    assert inversion_config(pack, EditsConfig()).detail_steps == 4
    assert inversion_config(pack, EditsConfig(detail_steps=0)).detail_steps == 0

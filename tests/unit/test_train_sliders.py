"""Sliders: how parts are weighed, where ranges end, and a whole run on tiny pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from inversion_core.cli import main
from inversion_core.errors import OptionInvalid
from inversion_core.packs import Direction, DirectionSpec, Pack, load_pack, put_directions
from inversion_core.training.judge import FaceJudge, features
from inversion_core.training.slider_report import write_report
from inversion_core.training.sliders import (
    GRID,
    Reach,
    Response,
    SliderTraining,
    Subjects,
    combine,
    find_sliders,
    invert_all,
    limit_of,
    split_up,
)
from tests.tiny import rough_pack, save_networks, tiny_targets

pytestmark = pytest.mark.unit

CONFIG = SliderTraining(parts_faces=2, range_faces=3, detail_steps=2)


def reach(strength: float, own: float, other: float, identity: float) -> Reach:
    return Reach(strength=strength, own=own, spread=0.1, change_A=(own, other), identity=identity)


START = reach(0, 0, 0, 0.9)


@pytest.mark.parametrize(
    ("found", "limit"),
    [
        ([reach(0.5, 0.5, 0.1, 0.8), reach(1, 1, 0.2, 0.7), reach(1.5, 1.4, 0.2, 0.6)], 1.25),
        ([reach(-0.5, 0.5, 0.1, 0.8), reach(-1, 1, 0.2, 0.65), reach(-1.5, 1.4, 0.2, 0.6)], 1.0),
        ([reach(0.5, 0.5, 0.1, 0.9), reach(1, 1, -0.9, 0.9), reach(1.5, 1.5, 0.1, 0.9)], 0.5),
        ([reach(0.5, 0.5, 0.1, 0.9), reach(1, 0.4, 0.1, 0.9)], 0.5),
        ([reach(0.5, 0.5, 0.1, 0.4)], 0.25),
        ([reach(1, 0.7, 0.1, 0.9), reach(1.5, 1.0, 0.1, 0.9)], 1.0),
        ([reach(0.5, -0.5, 0.1, 0.9)], 0.0),
        ([reach(s, s, 0.0, 0.9) for s in GRID], 2.0),
    ],
)
def test_a_range_ends_where_the_person_goes_or_others_move_as_much(found: list[Reach], limit: float) -> None:
    assert limit_of([START, *found], 0, SliderTraining(least_identity=0.65)) == limit


def test_parts_are_weighed_so_that_others_stay_and_identity_is_spared() -> None:
    effect_KA = torch.tensor([[1.0, 0.5], [0.0, 1.0], [1.0, 0.5]])
    cost_KK = torch.diag(torch.tensor([0.01, 0.01, 5.0], dtype=torch.float64))
    share_K = combine(Response(effect_KA=effect_KA, cost_KK=cost_KK), 0, SliderTraining(shrinkage=0.001))
    assert share_K is not None
    effect_A = effect_KA.double().T @ share_K
    assert effect_A[0] == pytest.approx(1)
    assert abs(effect_A[1]) < 0.05
    assert abs(share_K[2]) < 0.05 * abs(share_K[0])


def test_parts_add_up_to_the_step_and_do_not_overlap() -> None:
    pack = rough_pack()
    steps = [torch.randn(pack.num_layers, pack.w_dim) for _ in range(2)]
    parts = split_up(steps, pack)
    assert len(parts) % 2 == 0
    half = len(parts) // 2
    assert torch.equal(sum(parts[:half], torch.zeros(())), steps[0])
    assert torch.equal(sum(parts[half:], torch.zeros(())), steps[1])
    assert ((torch.stack(parts[:half]).abs().sum(2) > 0).sum(0) == 1).all()


def embed(image_BCHW: Tensor) -> Tensor:
    return F.normalize(image_BCHW.flatten(1), dim=1)


def brightness_judge(*names: str) -> FaceJudge:
    """Reads the first attribute off the mean of all colours, and the others off nothing."""
    count = features(torch.zeros(1, 3, 16, 16)).shape[1]
    filter_PA = torch.zeros(count, len(names), dtype=torch.float64)
    filter_PA[-768:, 0] = 0.5
    return FaceJudge(
        names=names, held_out_r2=(0.9,) * len(names), source="a test", mean_P=torch.zeros(count).double(),
        filter_PA=filter_PA, offset_A=torch.zeros(len(names)).double(),
    )  # fmt: skip


def directed_pack(folder: Path) -> Path:
    """One whose direction `smile` makes pictures brighter."""
    pack = rough_pack()
    save_networks(folder, pack)
    w_BLD = pack.mean_codes(1).clone().requires_grad_()
    (grad_BLD,) = torch.autograd.grad(pack.synthesize(w_BLD).sum(), w_BLD)
    step_LD = grad_BLD[0] / grad_BLD.norm()
    spec = DirectionSpec(name="smile", label="Happier", range=(-1.0, 1.0), unit="a step", source="ratings; held fixed")
    put_directions(folder, [Direction(spec=spec, step_LD=step_LD)])
    return folder


def subjects(pack: Pack, judge: FaceJudge, seed: int) -> Subjects:
    target_BCHW = tiny_targets(3, seed)
    return Subjects.of(pack, judge, embed, target_BCHW, invert_all(pack, target_BCHW, 2))


def test_a_unit_moves_the_judge_by_one(tmp_path: Path) -> None:
    pack = load_pack(directed_pack(tmp_path / "pack"))
    judge = brightness_judge("smile", "age")
    config = SliderTraining(parts_faces=2, range_faces=2, detail_steps=2, least_identity=0.01)
    run = find_sliders(dict(pack.directions), subjects(pack, judge, 1), subjects(pack, judge, 2), config)
    assert run.dropped == {}
    (direction,) = run.directions
    at = {each.strength: each for each in run.reach_of["smile"]}
    assert (at[1.0].own + at[-1.0].own) / 2 == pytest.approx(1, abs=0.1)
    assert direction.spec.range[0] < 0 < direction.spec.range[1]
    w_BLD = pack.mean_codes(1)
    with torch.no_grad():
        up, down = (judge(pack.synthesize(w_BLD + sign * direction.step_LD)) for sign in (1, -1))
    assert (up - down)[0, 0] > 0, "a unit up is more of it"
    text = write_report(run, pack, config, tmp_path / "out")
    assert "| smile |" in text
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.size == (80 + 3 * (5 * 18 + 6), 18)
    with (tmp_path / "out" / "sliders.csv").open(newline="") as file:
        assert 5 <= len(list(csv.DictReader(file))) <= 2 * len(GRID) + 1


def test_what_does_not_move_its_attribute_is_dropped_with_a_reason(tmp_path: Path) -> None:
    pack = load_pack(directed_pack(tmp_path / "pack"))
    judge = brightness_judge("age", "smile")  # which reads no smile off anything
    run = find_sliders(dict(pack.directions), subjects(pack, judge, 1), subjects(pack, judge, 2), CONFIG)
    assert run.directions == ()
    assert run.dropped == {"smile": "no part of any direction moves its own attribute"}
    assert "- smile is not kept: no part" in write_report(run, pack, CONFIG, tmp_path / "out")


def test_too_few_faces_are_refused() -> None:
    with pytest.raises(OptionInvalid, match="at least 2 faces"):
        SliderTraining(parts_faces=1)
    with pytest.raises(OptionInvalid, match="between 0 and 1"):
        SliderTraining(least_identity=1.5)


def test_shipped_packs_are_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "sliders", "faces-64", "data.npz", "ratings.csv", "--identity", "net.onnx", "--device", "cpu"]
    assert main([*argv, "--out", str(tmp_path / "out"), "--write-into", "faces-64"]) == 2
    assert "faces-64" in capsys.readouterr().err

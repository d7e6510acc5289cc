"""Directions from ratings: the regression, the patterns, what is matched to what, and a whole run on tiny pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from inversion_core.cli import main
from inversion_core.errors import OptionInvalid
from inversion_core.packs import save_pack
from inversion_core.pictures import to_image
from inversion_core.training.data import pack_pictures
from inversion_core.training.direction_report import write_report
from inversion_core.training.direction_run import DirectionTraining, find_codes, train_directions
from inversion_core.training.directions import candidates, conditional_steps, paired_step, unit_steps
from inversion_core.training.effects import crossing, selectivity
from inversion_core.training.linear import FOLDS, assign_folds, fit, r_squared
from inversion_core.training.ratings import find_pairs, load_study, read_pose
from tests.tiny import rough_pack, tiny_pack

pytestmark = pytest.mark.unit

FACE = np.array([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.42, 0.65], [0.58, 0.65]])


def codes_and_ratings(count: int = 200, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Codes (N, 40) of unequal variance; two ratings that lean on neighbouring, correlated parts of them."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(count, 40, generator=draw, dtype=torch.float64)
    mix = torch.randn(40, 40, generator=draw, dtype=torch.float64) * torch.linspace(2, 0.2, 40)
    x_NP = hidden @ mix.T + 5
    y_NA = torch.stack([hidden[:, 0], 0.8 * hidden[:, 0] + 0.6 * hidden[:, 1]], dim=1)
    return x_NP, y_NA + noise * torch.randn(count, 2, generator=draw, dtype=torch.float64)


# -- the regression ------------------------------------------------------------------------------------------


def test_fit_reads_what_is_there_and_predicts_new_pictures() -> None:
    x_NP, y_NA = codes_and_ratings(300)
    model = fit(x_NP[:200], y_NA[:200], torch.arange(200))
    assert r_squared(model.predict(x_NP[200:]), y_NA[200:]).min() > 0.75
    assert model.cross_validated_A.min() > 0.75


def test_the_cross_validated_figure_is_no_figure_of_the_fit() -> None:
    draw = torch.Generator().manual_seed(0)
    x_NP, y_NA = torch.randn(60, 200, generator=draw), torch.randn(60, 1, generator=draw)  # nothing to be learned
    assert fit(x_NP, y_NA, torch.arange(60)).cross_validated_A.item() < 0.1


def test_the_fit_equals_ridge_regression_in_its_primal_form() -> None:
    x_NP, y_NA = codes_and_ratings(80)
    model = fit(x_NP, y_NA, torch.arange(80))
    centred_NP = x_NP - x_NP.mean(0)
    mean_eigenvalue = centred_NP.square().sum() / 80
    for a, penalty in enumerate(model.penalty_A.double()):
        matrix_PP = centred_NP.T @ centred_NP + penalty * mean_eigenvalue * torch.eye(40)
        wanted_P = torch.linalg.solve(matrix_PP, centred_NP.T @ (y_NA[:, a] - y_NA[:, a].mean()))
        torch.testing.assert_close(model.filter_PA[:, a], wanted_P, rtol=1e-4, atol=1e-6)


def test_the_scale_of_the_codes_does_not_matter() -> None:
    x_NP, y_NA = codes_and_ratings()
    small, large = (fit(x_NP * scale, y_NA, torch.arange(200)) for scale in (1.0, 100.0))
    torch.testing.assert_close(small.predict(x_NP), large.predict(x_NP * 100))


def test_a_group_is_in_one_fold_and_folds_are_even() -> None:
    group_N = torch.arange(100) // 4
    fold_N = assign_folds(group_N, seed=0)
    assert all(len(fold_N[group_N == group].unique()) == 1 for group in range(25))
    assert fold_N.bincount().tolist() == [100 // FOLDS] * FOLDS


# -- the patterns --------------------------------------------------------------------------------------------


def test_every_step_moves_its_own_reading_by_one() -> None:
    x_NP, y_NA = codes_and_ratings()
    model = fit(x_NP, y_NA, torch.arange(200))
    found = candidates(
        model, x_NP, ["one", "two"], {"two": x_NP[y_NA[:, 1] > 0].mean(0) - x_NP[y_NA[:, 1] < 0].mean(0)}
    )
    assert [c.method for c in found if c.attribute == "two"] == [
        "filter",
        "pattern",
        "conditional",
        "pairs",
        "conditional and pairs",
    ]
    for candidate in found:
        own = ["one", "two"].index(candidate.attribute)
        assert float(model.filter_PA[:, own] @ candidate.step_P) == pytest.approx(1)


def test_a_conditional_step_leaves_the_other_reading_and_a_pattern_does_not() -> None:
    x_NP, y_NA = codes_and_ratings()
    model = fit(x_NP, y_NA, torch.arange(200))
    torch.testing.assert_close(model.filter_PA.T @ conditional_steps(model, x_NP, softness=0.0), torch.eye(2).double())
    steps = {c.method: model.filter_PA[:, 1] @ c.step_P for c in candidates(model, x_NP, ["one", "two"], {})[:3]}
    assert steps["pattern"] > 0.6  # the two ratings correlate by .8
    assert 0 < steps["conditional"] < 0.25  # softened


def test_a_pattern_is_the_likeliest_move_and_a_filter_is_not() -> None:
    """In standard deviations of the codes' distribution (Mahalanobis), for the same change of the reading."""
    x_NP, y_NA = codes_and_ratings(1000)
    model = fit(x_NP, y_NA, torch.arange(1000))
    precision_PP = torch.linalg.inv(torch.cov(x_NP.T))
    found = {c.method: c.step_P for c in candidates(model, x_NP, ["one", "two"], {})[:3]}
    length = {method: float((step_P @ precision_PP @ step_P).sqrt()) for method, step_P in found.items()}
    assert length["pattern"] < length["conditional"] < length["filter"]


def test_pairs_that_show_the_opposite_are_not_used() -> None:
    x_NP, y_NA = codes_and_ratings()
    model = fit(x_NP, y_NA, torch.arange(200))
    conditional_PA = conditional_steps(model, x_NP)
    up_P = unit_steps(model.filter_PA, model)[:, 0]
    assert paired_step(-up_P, 0, model, conditional_PA) is None
    step_P = paired_step(3 * up_P, 0, model, conditional_PA)
    assert step_P is not None
    assert abs(float(model.filter_PA[:, 1] @ step_P)) < abs(float(model.filter_PA[:, 1] @ up_P))


@pytest.mark.parametrize(
    ("values", "place"), [([1, 2, 3, 4], 3.0), ([1, 2, 3, 9], 2.3), ([1, 9, 9, 9], 0.5), ([6, 7, 8, 9], 0.0), ([1, 5, 3, 9], 2.3)]
)  # fmt: skip
def test_crossing(values: list[float], place: float) -> None:
    assert crossing(values, 5.0) == place


def test_selectivity_knows_the_wrong_way() -> None:
    assert selectivity(torch.tensor([0.3, 0.4, -1.0]), 2) == pytest.approx(-1.0 / (0.5 / 2**0.5))


# -- what is matched to what ---------------------------------------------------------------------------------


def test_pose_of_landmarks() -> None:
    ahead = read_pose(FACE)
    assert ahead == pytest.approx({"yaw": 0.0, "pitch": 0.4})
    turned, lowered = FACE.copy(), FACE.copy()
    turned[2, 0] += 0.05
    lowered[2, 1] += 0.05
    assert read_pose(turned) == pytest.approx({"yaw": 0.25, "pitch": 0.4})
    assert read_pose(lowered) == pytest.approx({"yaw": 0.0, "pitch": 0.6})
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert read_pose(turned @ turn.T * 7 + 3) == pytest.approx(read_pose(turned))  # neither tilt, size nor place matter
    assert read_pose(None) is None


def test_pairs_are_the_lowest_and_highest_of_one_person() -> None:
    names = ["varied/7_age_0.jpg", "images/0001.jpg", "varied/7_age_1.jpg", "varied/7_age_2.jpg", "varied/8_age_0.jpg",
             "varied/8_age_1.jpg", "varied/9_well-fed_1.jpg", "varied/9_well-fed_0.jpg"]  # fmt: skip
    pairs = find_pairs(names)
    assert {name: places.tolist() for name, places in pairs.items()} == {"age": [[0, 3]], "well-fed": [[7, 6]]}


# -- a whole run ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An archive of the tiny generator's pictures, their codes' first numbers as ratings, and five pairs of age."""
    folder = tmp_path_factory.mktemp("data")
    draw = torch.Generator().manual_seed(0)
    pack = tiny_pack()
    pack.generator.synthesis.layers[0].const.normal_(generator=draw)
    with torch.no_grad():
        image_NCHW = pack.synthesize(pack.map(torch.randn(60, pack.z_dim, generator=draw)))
    (folder / "images").mkdir()
    (folder / "varied").mkdir()
    with (folder / "ratings.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["stimulus", "happy", "age", "weight", "beauty"])
        for number, image_CHW in enumerate(image_NCHW[:50], start=1):
            to_image(image_CHW).save(folder / "images" / f"{number:04d}.png")
            bright, red = image_CHW.mean().item(), (image_CHW[0] - image_CHW[2]).mean().item()
            writer.writerow([number, 50 + 20 * bright, 30 + 20 * red, 7, 1])
    for person, image_CHW in enumerate(image_NCHW[50:]):
        for level, brighter in enumerate((-20, 0, 20)):
            pixels = np.asarray(to_image(image_CHW)).astype(int) + np.array([brighter, 0, -brighter])
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "varied" / f"{person}_age_{level}.png")
    pack_pictures([folder / "images", folder / "varied"], folder / "data.npz", 16)
    return folder / "data.npz", folder / "ratings.csv"


def look(image: Image.Image) -> np.ndarray:
    """Stands for the face detector: the nose follows the brightness."""
    face = FACE.copy()
    face[2, 0] += np.asarray(image.convert("L")).mean() / 2550
    return face


def test_a_study_matches_pictures_ratings_and_pairs(data: tuple[Path, Path]) -> None:
    study = load_study(*data, held_out=10, find=look)
    assert [a.name for a in study.attributes] == ["smile", "age", "yaw"]  # weight and pitch are the same everywhere
    assert study.num_rated == 50
    assert study.rating_NA.mean(0).abs().max() < 1e-9
    assert 4 <= int(study.is_held_out_N.sum()) < 40
    bright_N = study.pictures_NCHW[:50].float().mean((1, 2, 3)).double()
    assert torch.corrcoef(torch.stack([bright_N, study.rating_NA[:, 0]]))[0, 1] > 0.99
    red = study.pictures_NCHW[:, 0].float().mean((1, 2)) - study.pictures_NCHW[:, 2].float().mean((1, 2))
    for low, high in study.pair_K2["age"]:
        assert red[high] > red[low]
        assert min(int(low), int(high)) >= 50


def test_pictures_without_a_face_are_left_out(data: tuple[Path, Path]) -> None:
    blind = iter([True] * 3 + [False] * 100)
    study = load_study(*data, held_out=10, find=lambda image: None if next(blind) else FACE)
    assert study.num_rated == 47


def test_a_run_finds_directions_and_reports_them(data: tuple[Path, Path], tmp_path: Path) -> None:
    pack = rough_pack()
    study = load_study(*data, held_out=10, find=look)
    run = train_directions(pack, study, DirectionTraining(comparison_faces=2, effect_faces=3))
    assert {t.candidate.attribute for t in run.trials} == {"smile", "age", "yaw"}
    assert all(effect.shape == (2, 3) for effect in run.effect_of.values())
    assert all(direction.step_LD.shape == (6, 12) for direction in run.directions)
    assert all("pictures" in d.spec.source or "faces" in d.spec.source for d in run.directions)
    names = [direction.spec.name for direction in run.directions]
    assert names == ["smile", "yaw"]  # on this generator's pictures every way to move "age" moves it backwards
    assert run.effect_of["pixels"][0, 0] > 0.2
    assert run.held_out_r2["codes"][0] > 0.8
    write_report(run, pack, tmp_path / "out")
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"directions.csv", "candidates.csv", "effects.csv", "report.md", "directions.safetensors"} <= written
    rows = [line.split(",")[0] for line in (tmp_path / "out" / "directions.csv").read_text().splitlines()]
    assert rows == ["attribute", "smile", "age", "yaw"]
    assert "| smile |" in (tmp_path / "out" / "report.md").read_text()
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > 4 * 7 * 16


def test_refined_codes_draw_nearer_pictures(data: tuple[Path, Path]) -> None:
    pack = tiny_pack()
    image_NCHW = load_study(*data, held_out=10, find=look).pictures_NCHW[:4].float() / 127.5 - 1
    error = []
    for steps in (0, 5):
        code_NLD = find_codes(pack, image_NCHW, steps).unflatten(1, (6, 12))
        error.append(float((pack.synthesize(code_NLD) - image_NCHW).square().mean()))
    assert error[1] < error[0]


def test_a_pack_without_an_encoder_is_refused(data: tuple[Path, Path]) -> None:
    with pytest.raises(OptionInvalid, match="no encoder"):
        train_directions(tiny_pack(has_encoder=False), load_study(*data, held_out=10, find=look), DirectionTraining())


def test_write_into_another_pack_is_refused_before_the_work(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tiny_pack()
    save_pack(
        tmp_path / "tiny", pack.manifest, generator=pack.generator, perceptual=pack.perceptual, encoder=pack.encoder
    )
    argv = ["train", "directions", "faces-64", *map(str, data), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*argv, "--write-into", str(tmp_path / "tiny")]) == 2
    assert "--write-into" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""The benchmark of optimizers: the runs, and the command with all that it writes."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inversion_core.benchmark.optimizers.comparison import best_so_far
from inversion_core.benchmark.optimizers.config import OptimizersConfig, names_of, start_of
from inversion_core.benchmark.optimizers.contenders import Contender, contenders
from inversion_core.benchmark.optimizers.figures import check_matplotlib
from inversion_core.benchmark.optimizers.runs import run_all
from inversion_core.benchmark.optimizers.strips import MARGIN_PX, TILE_PX
from inversion_core.benchmark.optimizers.targets import load_targets
from inversion_core.benchmark.optimizers.timing import measure_costs
from inversion_core.benchmark.optimizers.tuned import Tuned
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import InvertConfig, invert
from inversion_core.optimizers import CLASSIC
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs import Variant, change_pack, load_pack, put_learned
from inversion_core.packs.places import PATH_VARIABLE
from inversion_core.training.data import load_pictures, pack_pictures
from tests.drawn_face import draw_face
from tests.tiny import noise_archive, rough_pack, save_networks, tiny_pack, tiny_targets

pytestmark = pytest.mark.unit
STEPS = 6


def add_learned(folder: Path, start: str, seed: int) -> None:
    """Weights that are not Adam's, other for each seed."""
    settings = {"hidden": 4, "learning_rate": 0.05}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = DESIGNS["learned"].build(settings, num_layers=6, w_dim=12)
        torch.nn.init.normal_(network.get_parameter("joint_mlp.layers.3.weight_LIO"), std=0.3)
    put_learned(folder, Variant("learned", start), settings, network)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a pack `tiny` that has both learned ones, and two photos, one of them without a face."""
    folder = tmp_path_factory.mktemp("optimizers")
    save_networks(folder / "packs" / "tiny", rough_pack())
    change_pack(folder / "packs" / "tiny", focus=9.0)  # which must not count: optimizers are compared by equation 1
    for seed, start in enumerate(("encoder", "random")):
        add_learned(folder / "packs" / "tiny", start, seed)
    (folder / "photos").mkdir()
    draw_face().save(folder / "photos" / "a.png")
    Image.new("RGB", (90, 90), (90, 90, 90)).save(folder / "photos" / "b.png")
    draw_face().rotate(9).save(folder / "photos" / "c.png")
    before = os.environ.get(PATH_VARIABLE)
    os.environ[PATH_VARIABLE] = str(folder / "packs")
    yield folder
    os.environ.pop(PATH_VARIABLE)
    if before is not None:
        os.environ[PATH_VARIABLE] = before


def run(place: Path, out: Path, *options: str) -> int:
    words = ["benchmark", "optimizers", "tiny", str(place / "photos"), "--out", str(out), "--device", "cpu"]
    return main([*words, "--steps", str(STEPS), "--pairs", "1", "--rounds", "1", *options])


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """The results of one run."""
    out = place / "out"
    assert run(place, out, "--optimizers", "sgd, learned", "--strips", "1", "--batch", "1") == 0
    return out


def read(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "optimizers.json").read_text())
    return content


def losses(out: Path) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """(optimizer, tuned, photo) -> its lines in losses.csv."""
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    with (out / "losses.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            found.setdefault((line["optimizer"], line["tuned"], line["photo"]), []).append(line)
    return found


# -- the files -------------------------------------------------------------------------------------------------


def test_it_writes_everything(done: Path) -> None:
    figures = [f"loss-by-{x}-{table}.png" for x in ("iteration", "seconds") for table in ("paper", "tuned")]
    assert {path.name for path in done.iterdir()} == {
        "optimizers.json", "optimizers.md", "losses.csv", "tuned.json", "strip-1.png", *figures,
    }  # fmt: skip
    for name in figures:
        with Image.open(done / name) as figure:
            assert figure.size == (1222, 650)
            assert len(set(figure.convert("RGB").get_flattened_data())) > 50, "something is drawn"
    with Image.open(done / "strip-1.png") as strip:
        assert strip.width == MARGIN_PX + 3 * TILE_PX + 2 * 2, "target, 0 and 6"
        assert strip.height == 20 + 5 * TILE_PX + 4 * 2, "sgd, adam, learned, sgd tuned, adam tuned"


def test_optimizers_json(done: Path) -> None:
    content = read(done)
    assert (content["pack"], content["start"], content["photos"]) == ("tiny", "encoder", 2)
    assert content["skipped"] == ["b.png"]
    keys = [(row["optimizer"], row["optimizer_tuned"], row["against"], row["tuned"]) for row in content["rows"]]
    sgd, adam, learned = ("sgd", False), ("adam", False), ("learned", False)
    best_sgd, best_adam = ("sgd", True), ("adam", True)
    assert keys == [
        *((*each, *adam) for each in (sgd, learned, best_sgd, best_adam)),
        *((*each, *sgd) for each in (adam, learned, best_sgd, best_adam)),
        *((*each, *best_adam) for each in (learned, best_sgd)),
    ]
    for row in content["rows"]:
        assert -100 / STEPS - 1e-9 <= row["ci95"][0] <= row["fewer_iterations"] <= row["ci95"][1] <= 100
        assert row["reached_share"] in (0, 0.5, 1)
        assert row["final_loss"] > 0
        assert row["fewer_seconds"] < 100
    assert [[row[key] for key in ("optimizer", "optimizer_tuned", "against", "tuned")]
            for row in content["equal_seconds"]] == [list(key) for key in keys]  # fmt: skip
    by_name = {(each["optimizer"], each["tuned"]): each["settings"] for each in content["settings"]}
    assert by_name["adam", False] == {"learning_rate": 0.01}
    assert set(by_name["sgd", False]) == {"learning_rate"}, "a constant rate"
    assert set(content["facts"]) >= {"device", "commit", "command", "torch"}


def test_rows_follow_from_the_losses(done: Path) -> None:
    """The tables are counted anew from losses.csv."""
    content, found = read(done), losses(done)
    photos = ("a.png", "c.png")
    for row in content["rows"]:
        iterations, seconds, final = [], [], []
        for photo in photos:
            own = found[row["optimizer"], str(row["optimizer_tuned"]), photo]
            other = found[row["against"], str(row["tuned"]), photo]
            there = [i for i, line in enumerate(own) if float(line["loss"]) <= float(other[-1]["loss"])]
            first = there[0] if there else STEPS + 1
            taken = [float(line["seconds"]) for line in own]
            taken.append(2 * taken[-1] - taken[-2])
            iterations.append(100 * (1 - first / STEPS))
            seconds.append(100 * (1 - taken[first] / float(other[-1]["seconds"])))
            final.append(float(own[-1]["loss"]))
        assert row["fewer_iterations"] == pytest.approx(np.mean(iterations))
        assert row["fewer_seconds"] == pytest.approx(np.mean(seconds), abs=0.1)
        assert row["final_loss"] == pytest.approx(np.median(final), rel=1e-4)
        assert row["final_loss_mean"] == pytest.approx(np.mean(final), rel=1e-4)


def test_the_losses_are_those_of_the_library(place: Path, done: Path) -> None:
    pack = load_pack("tiny")
    targets = load_targets([place / "photos"], pack, OptimizersConfig())
    configs: Mapping[tuple[str, str], InvertConfig] = {
        ("adam", "False"): InvertConfig(num_steps=STEPS, optimizer="adam", learning_rate=0.01, focus=0.0),
        ("learned", "False"): InvertConfig(num_steps=STEPS, optimizer="learned", start="encoder", focus=0.0),
    }
    for (name, tuned), config in configs.items():
        for index, photo in enumerate(targets.names):
            expected = [float(step.loss_B) for step in invert(pack, targets.picture_NCHW[index : index + 1], config)]
            lines = losses(done)[name, tuned, photo]
            assert [int(line["iteration"]) for line in lines] == list(range(STEPS + 1))
            assert [float(line["loss_now"]) for line in lines] == pytest.approx(expected, rel=1e-4)
            best = best_so_far(np.array([expected]))[0]
            assert [float(line["loss"]) for line in lines] == pytest.approx(best, rel=1e-4)


def test_the_page_shows_the_tables(done: Path) -> None:
    text = (done / "optimizers.md").read_text()
    for words in (
        "## Against adam 0.01 at 6", "## Against sgd at its best constant rate at 6",
        "## Against adam tuned with schedule at 6", "| learned |", "| sgd tuned |", "![strip-1.png](strip-1.png)",
    ):  # fmt: skip
        assert words in text


def test_a_second_run_needs_no_tuning(place: Path, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "second"
    given = str(done / "tuned.json")
    assert run(place, out, "--optimizers", "learned", "--tuned", given, "--strips", "0", "--limit", "1") == 0
    assert "tuning" not in capsys.readouterr().err
    assert not (out / "tuned.json").exists()
    content = read(out)
    assert content["photos"] == 1
    settings = {(each["optimizer"], each["tuned"]): each["settings"] for each in content["settings"]}
    first = {(each["optimizer"], each["tuned"]): each["settings"] for each in read(done)["settings"]}
    assert settings.items() <= first.items()
    assert {row["against"] for row in content["rows"]} == {"adam"}, "sgd was not asked for"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--start", "random"], "was made with start encoder, and this run has random; leave --tuned out"),
        (["--steps", "7"], "was made with steps 6, and this run has 7"),
        (["--optimizers", "nag"], "has nothing about nag; leave --tuned out"),
    ],
)
def test_a_tuning_of_something_else_is_refused(
    options: list[str], words: str, place: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    defaults = ["--optimizers", "adam", "--tuned", str(done / "tuned.json")]
    assert run(place, place / "refused", *defaults, *options) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (place / "refused").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"results": {"adam": {}}, "setup": {}, "trials": {}}'])
def test_a_broken_tuned_json_is_refused(
    text: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tuned.json").write_text(text)
    assert run(place, tmp_path / "out", "--tuned", str(tmp_path / "tuned.json")) == 2
    assert "is no tuned.json" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--optimizers", "adam,magic"], "pack tiny has no magic; it offers sgd, nag"),
        (["--steps", "0"], "steps is 0"),
        (["--pairs", "0"], "pairs is 0"),
        (["--limit", "0"], "limit is 0"),
        (["--held-out", "0"], "held-out is 0"),
        (["--threads", "0"], "threads is 0"),
        (["--device", "toaster"], "device is 'toaster'"),
    ],
)
def test_what_cannot_be_done_is_refused(
    options: list[str], words: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(place, tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_matplotlib()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OptionInvalid, match="pip install"):
        check_matplotlib()


# -- what runs -------------------------------------------------------------------------------------------------


def test_all_that_the_pack_offers_run(place: Path) -> None:
    pack = load_pack("tiny")
    assert names_of(pack, OptimizersConfig()) == [*CLASSIC, "learned"]
    assert names_of(pack, OptimizersConfig(optimizers=("learned",))) == ["adam", "learned"]


def test_the_start_is_one_that_the_pack_can_make() -> None:
    without = tiny_pack(has_encoder=False)
    assert (start_of(tiny_pack(), OptimizersConfig()), start_of(without, OptimizersConfig())) == ("encoder", "random")
    with pytest.raises(OptionInvalid, match="has no encoder; choose --start mean or random"):
        start_of(without, OptimizersConfig(start="encoder"))
    with pytest.raises(OptionInvalid, match="start is 'middle'"):
        OptimizersConfig(start="middle")


def test_every_design_runs_as_it_is(tmp_path: Path) -> None:
    """None is known to the benchmark by name, so a further one needs nothing but its entry in DESIGNS."""
    save_networks(tmp_path / "tiny", rough_pack())
    channels = rough_pack().features(tiny_targets(1)).shape[1]
    for name, design in DESIGNS.items():
        fitting = {"feature_channels": channels} if "feature_channels" in design.setting_types else {}
        complete = design.config(num_layers=6, w_dim=12, **fitting)
        kept = {setting: getattr(complete, setting) for setting in design.setting_types}
        put_learned(tmp_path / "tiny", Variant(name, "encoder"), kept, design.build(kept, num_layers=6, w_dim=12))
    pack, target = load_pack(tmp_path / "tiny"), tiny_targets(1)
    names = names_of(pack, OptimizersConfig(optimizers=tuple(DESIGNS)))
    assert names == ["adam", *DESIGNS]
    adam = Tuned(constant={"learning_rate": 0.04}, scheduled={"learning_rate": 0.08})
    config = InvertConfig(num_steps=2, start="encoder")
    runs = run_all(pack, target, contenders(names, {"adam": adam}), config, batch=1, strips=0)
    assert [run.contender.label for run in runs] == ["adam", *DESIGNS, "adam tuned"]
    for run in runs[1:-1]:
        steps = invert(pack, target, InvertConfig(num_steps=2, start="encoder", optimizer=run.contender.name))
        assert run.current_NT[0].tolist() == [float(step.loss_B) for step in steps]


def contender(name: str, settings: Mapping[str, Any] | None = None) -> Contender:
    return Contender(name=name, tuned=False, settings=settings)


def test_random_starts_differ_by_picture_and_are_everybodys(place: Path) -> None:
    """And the learned optimizer takes the weights for a random start, whichever way the pictures are batched."""
    pack = load_pack("tiny")
    target = tiny_targets(1).repeat(3, 1, 1, 1)
    config = InvertConfig(num_steps=2, start="random", seed=5)
    adam, learned = run_all(
        pack, target, [contender("adam", {"learning_rate": 0.01}), contender("learned")], config, batch=2, strips=0
    )
    assert len(set(adam.current_NT[:, 0])) == 3
    assert adam.current_NT[:, 0].tolist() == learned.current_NT[:, 0].tolist()
    last = InvertConfig(num_steps=2, start="random", seed=7, optimizer="learned")
    expected = [float(step.loss_B) for step in invert(pack, target[2:], last)]
    assert learned.current_NT[2].tolist() == pytest.approx(expected)


def test_a_run_that_ends_early_keeps_its_best(place: Path) -> None:
    (diverged,) = run_all(
        load_pack("tiny"), tiny_targets(2), [contender("sgd", {"learning_rate": math.inf})],
        InvertConfig(num_steps=5, start="mean"), batch=2, strips=1,
    )  # fmt: skip
    assert np.isnan(diverged.current_NT[:, -1]).all(), "the run ended before"
    assert np.isfinite(diverged.best_NT).all()
    assert (np.diff(diverged.best_NT) <= 0).all()
    assert 5 not in diverged.frames[0]


def test_timing_gets_over_a_run_that_diverges(place: Path) -> None:
    everybody = [contender("adam", {"learning_rate": 0.01}), contender("sgd", {"learning_rate": math.inf})]
    costs = measure_costs(
        load_pack("tiny"), tiny_targets(1), everybody, InvertConfig(num_steps=12, start="mean"), rounds=3
    )
    assert set(costs) == {"adam", "sgd"}
    assert (costs["adam"].relative, costs["adam"].relative_quartiles) == (1, (1, 1))
    for cost in costs.values():
        assert cost.seconds_T.shape == (14,)
        assert cost.start_s > 0
        assert (np.diff(cost.seconds_T) > 0).all()


# -- the pictures ----------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return noise_archive(tmp_path, np.random.default_rng(0))


def test_photographs_and_archives_go_together(place: Path, archive: Path) -> None:
    pack, config = load_pack("tiny"), OptimizersConfig(held_out=9, limit=4)
    targets = load_targets([archive, place / "photos"], pack, config)
    _, held_out = load_pictures(archive, held_out=9)
    assert targets.names[:2] == ("a.png", "c.png")
    assert targets.names[2:] == tuple(held_out.names[i] for i in (0, 2, 5, 8))
    assert torch.equal(targets.picture_NCHW[3:4], held_out.take(torch.tensor([2])))
    assert targets.picture_NCHW.shape == (6, 3, 16, 16)
    assert targets.skipped == ("b.png",)
    assert len(load_targets([archive], pack, OptimizersConfig(held_out=9)).names) == len(held_out)


@pytest.mark.parametrize(("held_out", "size_px", "words"), [(500, 16, "too few"), (9, 8, "has pictures of 8 px")])
def test_an_archive_that_does_not_fit_is_refused(held_out: int, size_px: int, words: str, archive: Path) -> None:
    pack_pictures([archive.parent / "images"], archive, size_px)
    with pytest.raises(OptionInvalid, match=words):
        load_targets([archive], tiny_pack(), OptimizersConfig(held_out=held_out))

"""Tuning for the benchmark of optimizers: what is tried, what counts, and the file that keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from inversion_core.benchmark.optimizers.tuned import Setup, TunedFile
from inversion_core.benchmark.optimizers.tuning import tune, validation_pairs
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import InvertConfig, invert
from inversion_core.packs import Pack
from tests.tiny import rough_pack, tiny_pack

pytestmark = pytest.mark.unit


def setup(pack: Pack, *, steps: int = 2, pairs: int = 2) -> Setup:
    return Setup.of(pack, start="mean", steps=steps, pairs=pairs)


class Counting(TunedFile):
    """Counts how often it is saved, and ends like Ctrl-C after so many."""

    left = 1_000_000

    def save(self) -> None:
        super().save()
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_tuning_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pack = rough_pack()
    whole = TunedFile(tmp_path / "whole.json", setup(pack))
    expected = tune(pack, ["sgd", "adam"], whole, batch=2)
    broken = Counting(tmp_path / "broken.json", setup(pack))
    broken.left = 4
    with pytest.raises(KeyboardInterrupt):
        tune(pack, ["sgd", "adam"], broken, batch=2)
    assert [len(trials) for trials in broken.trials.values()] == [4]
    resumed = Counting(tmp_path / "broken.json", setup(pack))
    assert tune(pack, ["sgd", "adam"], resumed, batch=2) == expected
    count = sum(len(trials) for trials in whole.trials.values())
    assert 1_000_000 - resumed.left == count - 4 + 2, "each further trial and each result, once"
    assert resumed.trials == whole.trials
    again = Counting(tmp_path / "broken.json", setup(pack))
    assert tune(pack, ["sgd", "adam"], again, batch=2) == expected
    assert again.left == 1_000_000


def test_the_best_is_the_lowest_of_what_was_tried(tmp_path: Path) -> None:
    pack = rough_pack()
    file = TunedFile(tmp_path / "tuned.json", setup(pack))
    found = tune(pack, ["adam"], file, batch=1)["adam"]
    trials = {tuple(json.loads(key).items()): loss for key, loss in file.trials["adam"].items()}
    assert found.settled
    assert trials[tuple(sorted(found.scheduled.items()))] == min(trials.values())
    rates = {dict(key)["learning_rate"] for key in trials}
    assert min(rates) < found.scheduled["learning_rate"] < max(rates), "not at an edge"
    constant = {dict(key)["learning_rate"]: loss for key, loss in trials.items() if len(key) == 1}
    assert constant[found.constant["learning_rate"]] == min(constant.values())


def test_a_trial_is_the_median_of_the_lowest_losses(tmp_path: Path) -> None:
    pack = rough_pack()
    file = TunedFile(tmp_path / "tuned.json", setup(pack, pairs=3))
    tune(pack, ["adam"], file, batch=2)
    target, start = validation_pairs(pack, "mean", 3, 2)
    steps = invert(pack, target, InvertConfig(num_steps=2, optimizer="adam", learning_rate=0.01), start_BLD=start)
    losses_NT = torch.stack([step.loss_B for step in steps], dim=1)
    expected = losses_NT.amin(dim=1).median()
    assert file.trials["adam"]['{"learning_rate": 0.01}'] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("start", ["encoder", "mean", "random"])
def test_validation_pairs_do_not_depend_on_the_batch(start: str) -> None:
    pack = rough_pack()
    one, many = (validation_pairs(pack, start, 5, batch) for batch in (2, 8))
    for a, b in zip(one, many, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert one[0].shape == (5, 3, 16, 16)
    if start == "mean":
        assert torch.equal(one[1], pack.mean_codes(5))
    if start == "encoder":
        assert torch.allclose(one[1], pack.encode(one[0]), atol=1e-4)
    if start == "random":
        assert len({tuple(code.flatten().tolist()) for code in one[1]}) == 5


def test_a_tuning_of_another_setup_is_not_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "tuned.json"
    TunedFile(file, setup(tiny_pack())).save()
    TunedFile(file, setup(tiny_pack()))
    with pytest.raises(OptionInvalid, match=r"was made with pairs 2, and this run has 3; choose another folder"):
        TunedFile(file, setup(tiny_pack(), pairs=3))

"""The benchmark by group: ratings, thirds, pose, and the files it writes."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion_core.benchmark.grouping import THIRDS, pick, rank_correlation, thirds, yaw_deg
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid
from inversion_core.packs.places import PATH_VARIABLE
from inversion_core.training.data import load_pictures
from inversion_core.training.rating_table import read_ratings
from tests.tiny import noise_archive, rough_pack, save_networks

pytestmark = pytest.mark.unit

ratings_or_nan = st.lists(st.floats(0, 100) | st.just(math.nan), max_size=40)


@given(ratings_or_nan)
@settings(max_examples=50, deadline=None)
def test_thirds_part_the_rated_pictures_in_order(ratings: list[float]) -> None:
    rated = [i for i, rating in enumerate(ratings) if not math.isnan(rating)]
    groups = thirds("age", ratings)
    if len(rated) < 3:
        assert groups == []
        return
    assert [group.third for group in groups] == list(THIRDS)
    assert sorted(i for group in groups for i in group.members) == rated
    sizes = [len(group.members) for group in groups]
    assert max(sizes) - min(sizes) <= 1
    for group in groups:
        own = [ratings[i] for i in group.members]
        assert (min(own), max(own)) == (group.lowest, group.highest)
    assert groups[0].highest <= groups[1].lowest <= groups[1].highest <= groups[2].lowest


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20))
@settings(max_examples=50, deadline=None)
def test_rank_correlation_against_counting(pairs: list[tuple[int, int]]) -> None:
    a, b = [[float(pair[i]) for pair in pairs] for i in (0, 1)]
    found = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
        return

    def ranks(values: list[float]) -> list[float]:
        return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]

    x, y = np.array(ranks(a)), np.array(ranks(b))
    x, y = x - x.mean(), y - y.mean()
    assert found == pytest.approx((x @ y) / math.sqrt((x @ x) * (y @ y)))
    assert found == pytest.approx(rank_correlation(b, a))


def test_rank_correlation_of_known_values() -> None:
    assert rank_correlation([1, 2, 3, math.nan], [1, 10, 1000, 5]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)


def head(turn_deg: float) -> Any:
    """Five landmarks (5, 2) of a head of 63 mm between the pupils, seen from far away."""
    t = math.radians(turn_deg)
    x = np.array([-31.5, 31.5, 0, -25, 25])
    depth = np.array([0, 0, 37, 0, 0])
    y = np.array([0, 0, 35, 65, 65])
    return np.stack([x * math.cos(t) + depth * math.sin(t), y], axis=1) + 100


@given(st.floats(-50, 50), st.floats(0.2, 5))
@settings(max_examples=30, deadline=None)
def test_yaw_of_a_turned_head(turn_deg: float, scale: float) -> None:
    landmarks = scale * head(turn_deg)
    assert yaw_deg(landmarks) == pytest.approx(turn_deg, abs=1)
    mirrored = (landmarks * [-1, 1])[[1, 0, 2, 4, 3]]
    assert yaw_deg(mirrored) == pytest.approx(-yaw_deg(landmarks), abs=1e-6)


# -- ratings and the command ---------------------------------------------------------------------------------


def test_ratings_are_found_by_number(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("age,stimulus,happy\n20,1,3.5\n\n2,2,4\n1,9,1\n")
    table = read_ratings(file)
    assert table[1] == {"age": 20, "happy": 3.5}
    names = ["images/0002.jpg", "varied/0001.jpg", "images/x.jpg", "images/3.jpg", *["images/9.jpg"] * 5]
    picked = pick(names, table, "images")
    assert list(picked) == [0, 4, 5, 6, 7, 8]
    assert picked[4] == {"age": 1, "happy": 1}
    with pytest.raises(OptionInvalid, match="only 1 of the 9 held-out pictures"):
        pick(names, table, "varied")


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no column 'stimulus'"), ("picture,age\n1,2\n", "no column 'stimulus'"), ("stimulus,age\n", "no line below"),
     ("stimulus,age,age\n1,2,3\n", "more than one column 'age'"), ("stimulus,age\n1,old\n", "line 2, column 'age': 'old'"),
     ("stimulus,age\n1,2\n2,\n", "line 3, column 'age': ''"), ("stimulus,age\n1,nan\n", "'nan' is no number"),
     ("stimulus,age\n1,2,3\n", "line 2 has 3 cells"), ("stimulus,age\n1\n", "line 2 has 1 cells"),
     ("stimulus,age\nx,2\n", "column 'stimulus': 'x'"), ("stimulus,age\n1.5,2\n", "1.5 must be a whole number"),
     ("stimulus,age\n1,2\n1,3\n", "line 3, column 'stimulus': 1 must"), ('stimulus,age\n1,"2\n', "unexpected end")],
)  # fmt: skip
def test_a_broken_table_is_refused_with_the_place(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(text)
    with pytest.raises(OptionInvalid, match=f"ratings.csv is no table of ratings: .*{re.escape(words)}"):
        read_ratings(tmp_path / "ratings.csv")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a pack `tiny`, an archive of 24 pictures of noise and their ratings; the last has none."""
    save_networks(tmp_path / "packs" / "tiny", rough_pack())
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "packs"))
    random = np.random.default_rng(0)
    noise_archive(tmp_path, random)
    lines = [f"{i},{random.uniform(0, 100):.3f},{i % 5}" for i in range(1, 24)]
    (tmp_path / "ratings.csv").write_text("\n".join(["stimulus,age,shoe-size", *lines]))
    return tmp_path


def run(data: Path, *options: str) -> int:
    files = [str(data / name) for name in ("data.npz", "ratings.csv")]
    return main(["benchmark", "groups", "tiny", *files, "--out", str(data / "out"), "--device", "cpu", *options])


def test_groups_writes_everything(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, "--held-out", "9", "--steps", "5") == 0
    content = json.loads((data / "out" / "groups.json").read_text())
    _, held_out = load_pictures(data / "data.npz", held_out=9)
    rated = [name for name in held_out.names if name != "images/0024.png"]
    assert content["pictures"] == len(rated)
    groups = content["groups"]
    assert [(group["by"], group["third"]) for group in groups] == [("age", third) for third in THIRDS], (
        "no face, no pose"
    )
    for method in ("encoder", "adam-5"):
        whole = content["all"][method]["mse"]
        parts = [(group["pictures"], group["methods"][method]["mse"]["mean"]) for group in groups]
        assert sum(n for n, _ in parts) == whole["n"] == len(rated)
        assert sum(n * mean for n, mean in parts) / len(rated) == pytest.approx(whole["mean"])
    assert content["all"]["adam-5"]["mse"]["mean"] < content["all"]["encoder"]["mse"]["mean"]
    assert content["rank_correlation"]["pose"]["encoder"]["mse"] is None
    text = (data / "out" / "groups.md").read_text()
    assert text in capsys.readouterr().out
    assert "| age | high |" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--held-out", "9", "--by", "age", "height"], "no column height; there are: age, shoe-size"),
        (["--held-out", "500"], "too few to hold out 500"),
        (["--held-out", "9", "--folder", "varied"], "only 0 of"),
        (["--held-out", "0"], "held-out is 0"),
        (["--steps", "0"], "steps are [0]"),
        (["--batch", "0"], "batch is 0"),
    ],
)
def test_what_cannot_be_done_is_refused(
    options: list[str], words: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, *options) == 2
    assert words in capsys.readouterr().err
    assert not (data / "out").exists()

"""The arithmetic of the benchmark of optimizers, against cases worked out by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion_core.benchmark.optimizers.comparison import (
    Course,
    Floats,
    best_so_far,
    compare_at_equal_seconds,
    fewer_percent,
    first_reached,
    mean_interval,
)
from inversion_core.benchmark.optimizers.contenders import Contender, baselines, contenders, table
from inversion_core.benchmark.optimizers.rows import equal_seconds, make_rows
from inversion_core.benchmark.optimizers.runs import Run
from inversion_core.benchmark.optimizers.search import AT_MOST, FINAL_FACTORS, Point, climb, courses, rates
from inversion_core.benchmark.optimizers.timing import Cost, Timings, cost_of, part_lengths, rotated
from inversion_core.benchmark.optimizers.tuned import Tuned

pytestmark = pytest.mark.unit


def floats(*rows: Sequence[float]) -> Floats:
    return np.array(rows, dtype=np.float64)


# -- one picture's way -----------------------------------------------------------------------------------------


def test_the_best_so_far_never_rises_and_passes_over_what_is_no_number() -> None:
    nan, inf = math.nan, math.inf
    best = best_so_far(floats([5, 7, 3, nan, 4], [nan, inf, 2, -inf, 1], [nan, nan, nan, nan, nan]))
    assert best.tolist() == [[5, 5, 3, 3, 3], [inf, inf, 2, 2, 1], [inf] * 5]


@pytest.mark.parametrize(
    ("loss", "threshold", "first"),
    [
        ([9, 8, 6, 3], 6.5, 2),
        ([9, 8, 6, 3], 6, 2),  # a tie counts: at or below
        ([9, 8, 6, 3], 9, 0),  # there at once
        ([9, 8, 6, 3], 100, 0),
        ([9, 8, 6, 3], 2.99, 4),  # never: one more than the last
        ([9, 6, 8, 3], 7, 1),  # once there it has been there
        ([9, math.nan, 2, math.nan], 3, 2),
        ([9, 8, 6, 3], math.nan, 4),
        ([math.nan] * 4, math.inf, 4),
    ],
)
def test_the_first_iteration_at_or_below(loss: list[float], threshold: float, first: int) -> None:
    assert first_reached(best_so_far(floats(loss)), np.array([threshold])).tolist() == [first]


def test_each_picture_has_a_threshold_of_its_own() -> None:
    best = best_so_far(floats([4, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1]))
    assert first_reached(best, np.array([3.5, 1.0, 0.5])).tolist() == [1, 3, 4]


def test_fewer_is_a_share_of_the_whole() -> None:
    assert fewer_percent(np.array([0.0, 25, 100, 101]), 100).tolist() == pytest.approx([100, 75, 0, -1])


# -- the interval ----------------------------------------------------------------------------------------------


def test_the_interval_of_two_pictures_is_what_counting_says() -> None:
    """The four equally likely resamples of (0, 100) have the means 0, 50, 50 and 100."""
    assert mean_interval(np.array([0.0, 100.0]), seed=0) == (0.0, 100.0)


def test_the_interval_of_three_pictures_is_what_counting_says() -> None:
    values = np.array([0.0, 1.0, 30.0])
    means = [np.mean(resample) for resample in itertools.product(values, repeat=3)]  # 27, each of 3.7 %
    assert mean_interval(values, seed=3) == pytest.approx((min(means), max(means)))


def test_the_interval_of_many_pictures_is_the_normal_one() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 400)
    low, high = mean_interval(values, seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 20)
    assert (low, high) == mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_one_picture_has_no_spread() -> None:
    assert mean_interval(np.array([7.0]), seed=0) == (7.0, 7.0)


# -- equal seconds ---------------------------------------------------------------------------------------------


def course(*points: tuple[float, float]) -> Course:
    time, value = np.array(points).T
    return Course(time_T=time, value_T=value)


def test_a_course_holds_its_value_until_the_next() -> None:
    steps = course((1, 9), (2, 5), (4, 3))
    assert steps.at(np.array([0.5, 1, 1.9, 2, 3.9, 4, 99])).tolist() == [math.inf, 9, 9, 5, 5, 3, 3]


@pytest.mark.parametrize(
    ("candidate", "share", "spans"),
    [
        (course((0, 4), (10, 3)), 1.0, ()),  # 4, where the baseline has 10 to 5
        (course((0, 10), (10, 3)), 0.0, ((0.1, 1.0),)),  # a tie is not lower
        (course((0, 8), (10, 3)), 4 / 9, ((0.5, 1.0),)),  # 8 against 10, then against 8 and less
        (course((2, 4), (10, 3)), 8 / 9, ((0.1, 0.2),)),  # begins late
        (course((0, 9), (6, 6.5), (8, 4)), 7 / 9, ((0.5, 0.6), (0.7, 0.8))),
        (course((0, 4), (200, 1)), 1.0, ()),
    ],
)  # fmt: skip
def test_where_one_is_lower_than_the_other(
    candidate: Course, share: float, spans: tuple[tuple[float, float], ...]
) -> None:
    baseline = course((0, 10), (5, 8), (7, 6), (10, 5))
    found = compare_at_equal_seconds(candidate, baseline, from_share=0.1)
    assert found.lower_share == pytest.approx(share)
    assert [pytest.approx(span) for span in found.not_lower] == list(spans)


# -- the rows --------------------------------------------------------------------------------------------------


def run(name: str, current: Floats, *, tuned: bool = False, classic: bool = True) -> Run:
    return Run(contender=Contender(name=name, tuned=tuned, settings={} if classic else None), current_NT=current)


def cost(start_s: float, iteration_s: float) -> Cost:
    """Of four iterations, and one more."""
    return Cost(seconds_T=start_s + iteration_s * np.arange(6), relative=1.0, relative_quartiles=(1.0, 1.0))


def test_rows_by_hand() -> None:
    adam = run("adam", floats([10, 8, 6, 4, 2], [10, 9, 8, 7, 6], [10, 9, 8, 1, 7]))
    tuned = run("adam", floats([10, 2, 1, 1, 1], [10, 6, 5, 5, 5], [10, 3, 2, 2, 1]), tuned=True)
    learned = run("learned", floats([10, 3, 2, 1, 0.5], [10, 6, 4, 3, 3], [10, 9, 8, 7, 6]), classic=False)
    costs = {"adam": cost(2, 1), "learned": cost(2, 2)}
    rows = make_rows([adam, learned, tuned], costs, seed=0)
    keys = [(row.optimizer, row.optimizer_tuned, row.against, row.tuned) for row in rows]
    assert keys == [
        ("learned", False, "adam", False),
        ("adam", True, "adam", False),
        ("learned", False, "adam", True),
    ], "no paper settings against a tuned baseline, and nobody against itself"
    first = rows[0]  # iterations 2, 1 and never (5): the thresholds are 2, 6 and 1
    assert first.fewer_iterations == pytest.approx((50 + 75 - 25) / 3)
    assert first.ci95 == pytest.approx((-25, 75))
    assert first.fewer_seconds == pytest.approx(100 * np.mean([1 - 6 / 6, 1 - 4 / 6, 1 - 12 / 6]))
    assert (first.reached_share, first.final_loss) == (pytest.approx(2 / 3), 3)
    assert (first.final_loss_mean, first.baseline_loss) == (pytest.approx(9.5 / 3), 2)
    assert rows[1].fewer_iterations == pytest.approx((75 + 75 + 0) / 3)
    assert rows[1].reached_share == 1
    against_tuned = rows[2]  # thresholds 1, 5 and 1: iterations 3, 2 and never
    assert against_tuned.fewer_iterations == pytest.approx((25 + 50 - 25) / 3)
    assert against_tuned.baseline_loss == 1


def test_equal_seconds_by_hand() -> None:
    adam = run("adam", floats([10, 8, 6, 4, 2]))
    learned = run("learned", floats([10, 5, 1, 1, 1]), classic=False)
    (found,) = equal_seconds([adam, learned], {"adam": cost(0, 1), "learned": cost(0, 2)})
    # adam 10, 8, 6, 4 at 0, 1, 2, 3 seconds; learned 10 until 2, then 5, and 1 from 4 on, when all is over
    assert found["lower_share"] == pytest.approx(1 / 3.8)
    assert found["not_lower"] == [[pytest.approx(0.05), pytest.approx(0.5)], [0.75, 1.0]]
    assert not found["lower_everywhere"]


# -- who runs --------------------------------------------------------------------------------------------------


def test_the_tables() -> None:
    best = {name: Tuned(constant={"learning_rate": 1.0}, scheduled={"learning_rate": 2.0}) for name in ("sgd", "adam")}
    everybody = contenders(["sgd", "adam", "learned", "anything-new"], best)
    assert [each.label for each in everybody] == [
        "sgd", "adam", "learned", "anything-new", "sgd tuned", "adam tuned",
    ]  # fmt: skip
    assert [each.settings for each in everybody] == [
        {"learning_rate": 1.0}, {"learning_rate": 0.01}, None, None, {"learning_rate": 2.0}, {"learning_rate": 2.0},
    ]  # fmt: skip
    assert [each.label for each in table(everybody, tuned=False)] == ["sgd", "adam", "learned", "anything-new"]
    assert [each.label for each in table(everybody, tuned=True)] == [
        "learned", "anything-new", "sgd tuned", "adam tuned",
    ]  # fmt: skip
    assert [each.label for each in baselines(everybody)] == ["adam", "sgd", "adam tuned"]


# -- timing ----------------------------------------------------------------------------------------------------


def test_a_run_is_timed_in_parts() -> None:
    assert part_lengths(100) == [10] * 10
    assert part_lengths(3) == [1, 1, 1]
    assert part_lengths(25) == [3] * 5 + [2] * 5


def test_each_turn_is_begun_by_another_one() -> None:
    assert [rotated("abc", turn) for turn in range(4)] == [[*"abc"], [*"bca"], [*"cab"], [*"abc"]]


def test_a_slow_moment_of_the_machine_does_not_count_for_one_of_them() -> None:
    """Twice the baseline's cost in most turns: the machine was ten times as slow in some, in one for this one alone."""
    baseline = Timings(start_R=[1, 10, 1], iteration_RS=[[1, 10], [10, 1], [1, 1]])
    own = Timings(start_R=[3, 30, 30], iteration_RS=[[2, 20], [20, 2], [20, 20]])
    found = cost_of(own, baseline, [2, 1])
    assert found.seconds_T.tolist() == [3, 5, 7, 9, 11]
    assert (found.start_s, found.iteration_s, found.relative) == (3, 2, 2)
    assert found.relative_quartiles == (2, 15.5)


def test_late_iterations_may_cost_less() -> None:
    baseline = Timings(start_R=[1], iteration_RS=[[4, 4]])
    own = Timings(start_R=[1], iteration_RS=[[8, 2]])
    found = cost_of(own, baseline, [3, 1])
    assert found.seconds_T.tolist() == [1, 9, 17, 25, 27, 29], "and one more, as dear as the last"
    assert found.relative == pytest.approx((3 * 2 + 0.5) / 4)
    assert found.iteration_s == pytest.approx(26 / 4)


# -- the search ------------------------------------------------------------------------------------------------


@given(st.integers(-12, 12), st.integers(0, 3), st.integers(0, len(FINAL_FACTORS) - 1))
@settings(max_examples=60, deadline=None)
def test_the_search_finds_a_lone_valley(rate: int, warmup: int, final: int) -> None:
    def loss(point: Point) -> float:
        tried.append(point)
        return abs(point.rate - rate) + abs(point.warmup - warmup) + abs(point.final - final)

    tried: list[Point] = []
    rough, settled = climb(Point(), rates(2), loss)
    assert settled
    assert abs(rough.rate - rate) <= 1
    constant, settled = climb(rough, rates(1), loss)
    assert (constant, settled) == (Point(rate), True)
    found, settled = climb(constant, courses(100), loss)
    assert (found, settled) == (Point(rate, warmup, final), True)
    assert set(courses(100)(found)) <= set(tried), "the best is at no edge of what was tried"
    assert {Point(found.rate + 1, found.warmup, found.final), Point(found.rate - 1, found.warmup, found.final)} <= set(
        tried
    )


def test_where_every_rate_diverges_the_search_goes_down() -> None:
    def loss(point: Point) -> float:
        return 1.0 if point.rate > -4 else 0.5

    found, settled = climb(Point(), rates(1), loss)
    assert settled is False, "it goes on for as long as nothing changes"
    assert found.rate <= -4


def test_a_search_without_an_end_is_cut_short() -> None:
    count = itertools.count()
    found, settled = climb(Point(), rates(1), lambda point: -float(next(count)))
    assert (abs(found.rate), settled) == (AT_MOST - 1, False)


def test_courses_stay_within_a_run() -> None:
    assert {point.warmup_steps for point in courses(20)(Point(0, 2, 0))} == {5, 10}
    assert {point.warmup_steps for point in courses(40)(Point(0, 2, 0))} == {5, 10, 20}
    assert all(point.final in (5, 6) for point in courses(20)(Point(0, 0, 6)))
    assert all(point.warmup_steps == 0 for point in courses(8)(Point()))


def test_the_betas_are_sought_for_whom_it_is_asked() -> None:
    def loss(point: Point) -> float:
        return abs(point.rate - 1) + abs(point.memory - 1) + abs(point.momentum - 2)

    assert climb(Point(), courses(100, moments=True), loss) == (Point(1, memory=1, momentum=2), True)
    assert climb(Point(), courses(100), loss) == (Point(1), True)
    last = Point(memory=2, momentum=2)
    assert {(point.memory, point.momentum) for point in courses(100, moments=True)(last)} == {(2, 2), (1, 2), (2, 1)}


def test_less_momentum_is_tried_with_a_higher_rate() -> None:
    """Where each alone is worse."""
    worse_alone = {Point(): 2.0, Point(rate=1): 3.0, Point(momentum=1): 3.0, Point(rate=1, momentum=1): 1.0}
    found, _ = climb(Point(), courses(100, moments=True), lambda point: worse_alone.get(point, 9.0))
    assert found == Point(rate=1, momentum=1)


def test_settings_are_those_of_a_pack() -> None:
    assert Point(3, memory=1).settings(0.01) == {"learning_rate": 0.08, "beta2": 0.95}
    assert Point(momentum=1).settings(0.01) == {"learning_rate": 0.01, "beta1": 0.7}
    assert Point(3).settings(0.01) == {"learning_rate": 0.08}
    assert Point(-2, 2, 1).settings(20.0) == {"learning_rate": 5.0, "warmup_steps": 10, "final_factor": 0.5}
    assert Point(0, 0, 6).settings(1.0) == {"learning_rate": 1.0, "warmup_steps": 0, "final_factor": 0.0}

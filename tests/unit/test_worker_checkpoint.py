"""Checkpoints, and what counts as the best Step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fake_worker import FakeStep
from hypothesis import given
from hypothesis import strategies as st

from inversion_worker.checkpoint import Best, Checkpoint, better
from inversion_worker.code import Code

pytestmark = pytest.mark.unit

CODE = np.arange(6, dtype=np.float32).reshape(2, 3)
DETAIL = np.linspace(-1, 1, 18, dtype=np.float32).reshape(2, 3, 3)


def step(index: int, loss: float) -> FakeStep:
    return FakeStep(index=index, loss=loss, values=CODE + index, velocity=CODE)


@pytest.mark.parametrize(
    "best", [None, *(Best(step=4, loss=0.1, stored=Code(w_LD=CODE, detail_CHW=detail)) for detail in (None, DETAIL))]
)
def test_a_checkpoint_comes_back_whole(best: Best | None) -> None:
    again = Checkpoint.from_bytes(Checkpoint(step=7, state=b"\0state\xff", best=best).to_bytes())
    assert (again.step, again.state) == (7, b"\0state\xff")
    if best is None:
        assert again.best is None
    else:
        assert again.best is not None
        assert (again.best.step, again.best.loss, again.best.source) == (4, 0.1, None)
        code = again.best.code()
        np.testing.assert_array_equal(code.w_LD, CODE)
        assert code.w_LD.dtype == np.float32
        assert best.stored is not None
        if best.stored.detail_CHW is None:
            assert code.detail_CHW is None
        else:
            np.testing.assert_array_equal(code.detail_CHW, DETAIL)


@pytest.mark.parametrize("cut", [0, 4, 8, 20, -1])
def test_a_damaged_checkpoint_is_a_value_error(cut: int) -> None:
    with pytest.raises(ValueError, match="not a checkpoint"):
        Checkpoint.from_bytes(Checkpoint(step=7, state=b"state", best=None).to_bytes()[:cut])


@given(st.lists(st.floats(width=32), max_size=8))
def test_the_best_step_is_the_first_of_least_finite_loss(losses: list[float]) -> None:
    best: Best | None = None
    for index, loss in enumerate(losses):
        best = better(best, step(index, loss))
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        assert best is None
    else:
        assert best is not None
        assert best.loss == min(finite)
        assert best.step == losses.index(min(finite))
        np.testing.assert_array_equal(best.code().w_LD, CODE + best.step)

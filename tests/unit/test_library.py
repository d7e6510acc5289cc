"""The library as docs/library.md shows it, and what it says to those who hand in something else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inversion_core import InvertConfig, OptionInvalid, invert, iterate, load_pack
from inversion_core.editing import move
from inversion_core.engine import Request
from inversion_core.inverter import make_optimizer
from inversion_core.loss import InversionLoss
from inversion_core.optimizers import build_optimizer
from tests.drawn_face import draw_face
from tests.tiny import rough_pack, tiny_targets

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
PACK = rough_pack()
TARGET_BCHW = tiny_targets(2)
ADAM = build_optimizer("adam", {"learning_rate": 0.05}, total_steps=60)


def difference(image_BCHW: Tensor, w_BLD: Tensor) -> Tensor:
    return (image_BCHW - TARGET_BCHW).square().mean(dim=(1, 2, 3))


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_face((400, 400), head_px=300).save("face.jpg")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 10
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name} block {number}", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} >= {"inverted.png", "losses.png", "smiling.png", "latents.npy"}
    assert names["step"].index == 13  # type: ignore[attr-defined]  # of the last block, the resumed run: 5 steps of the code, 8 of detail


def test_a_loss_of_ones_own_is_the_loss() -> None:
    config = InvertConfig(num_steps=4, optimizer="adam", learning_rate=0.02, start="mean")
    steps = list(invert(PACK, TARGET_BCHW, config, loss=difference))
    for step in steps:
        assert torch.equal(step.loss_B, difference(step.image_BCHW, step.w_BLD))
    assert (steps[-1].loss_B < steps[0].loss_B).all()


def test_an_optimizer_of_ones_own_is_the_optimizer() -> None:
    named = InvertConfig(num_steps=4, optimizer="adam", start="mean")
    adam = make_optimizer(PACK, named)
    own = list(invert(PACK, TARGET_BCHW, InvertConfig(num_steps=4, start="mean"), optimizer=adam))
    for step, expected in zip(own, invert(PACK, TARGET_BCHW, named), strict=True):
        assert torch.equal(step.w_BLD, expected.w_BLD)


def test_a_loss_with_terms_is_taken_too() -> None:
    loss = InversionLoss(TARGET_BCHW, features=PACK.features, perceptual_weight=PACK.perceptual_weight)
    config = InvertConfig(num_steps=2, optimizer="adam", start="mean")
    own = list(invert(PACK, TARGET_BCHW, config, loss=loss))
    expected = list(invert(PACK, TARGET_BCHW, InvertConfig(num_steps=2, optimizer="adam", start="mean", focus=0.0)))
    assert torch.equal(own[-1].loss_B, expected[-1].loss_B)


@pytest.mark.parametrize(
    ("config", "own"),
    [
        (InvertConfig(optimizer="adam"), {"optimizer": ADAM}),
        (InvertConfig(learning_rate=0.1), {"optimizer": ADAM}),
        (InvertConfig(focus=1.0), {"loss": difference}),
        (InvertConfig(regulariser_weight=1.0), {"loss": difference}),
        (InvertConfig(), {"loss": difference, "mask_B1HW": torch.ones(1, 1, 16, 16)}),
    ],
)
def test_what_an_object_makes_senseless_is_refused(config: InvertConfig, own: dict[str, object]) -> None:
    with pytest.raises(OptionInvalid, match="of your own"):
        next(invert(PACK, TARGET_BCHW, config, **own))  # type: ignore[arg-type]


def test_a_loss_of_one_number_for_all_is_refused() -> None:
    with pytest.raises(ValueError, match="one number for each of 2 images"):
        next(invert(PACK, TARGET_BCHW, loss=lambda image_BCHW, w_BLD: image_BCHW.square().mean()))


def test_an_optimizer_that_looks_says_what_it_lacks() -> None:
    steps = invert(
        load_pack("faces-64-comparison"), torch.zeros(1, 3, 64, 64), InvertConfig(num_steps=2, optimizer="learned-residual"),
        loss=lambda image_BCHW, w_BLD: image_BCHW.square().mean(dim=(1, 2, 3)),
    )  # fmt: skip
    with pytest.raises(OptionInvalid, match="looks at the pictures"):
        list(steps)


@pytest.mark.parametrize("factor", [127.5, 2.0])
def test_values_that_are_no_picture_are_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=r"\[-1, 1\] is needed"):
        next(invert(PACK, (TARGET_BCHW + 1) * factor))
    with pytest.raises(ValueError, match=r"\[-1, 1\] is needed"):
        Request(pack=PACK, target_CHW=(TARGET_BCHW[0] + 1) * factor)


def test_the_loop_needs_no_pack() -> None:
    goal_BLD = torch.full((1, 1, 4), 0.5)
    steps = iterate(
        torch.zeros(1, 1, 4), synthesize=lambda w_BLD: w_BLD.reshape(-1, 1, 2, 2), num_steps=60, optimizer=ADAM,
        loss=lambda image_BCHW, w_BLD: (w_BLD - goal_BLD).square().mean(dim=(1, 2)),
    )  # fmt: skip
    *_, last = steps
    assert float(last.loss_B) < 1e-3


def test_a_direction_by_name_is_told_where_it_is() -> None:
    with pytest.raises(TypeError, match=r"pack.directions\['smile'\]"):
        move(PACK.mean_codes(), "smile", 1.0)  # type: ignore[arg-type]

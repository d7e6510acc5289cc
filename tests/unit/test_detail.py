"""Detail in the loop: the stage after the updates of w."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from inversion_core.course import STEPS_WITHOUT_DETAIL, Course, course_of
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import BestSteps, Checkpoint, InvertConfig, Step, invert, iterate
from inversion_core.latents import Latent, base_features
from inversion_core.loss import InversionLoss
from inversion_core.packs import Pack
from inversion_core.packs.detail import DetailSpec
from tests.tiny import rough_pack, tiny_targets

pytestmark = pytest.mark.unit
PACK = rough_pack()
TARGETS = tiny_targets(3)


def with_detail(**changes: Any) -> Pack:
    """The pack with steps of detail of its own."""
    return PACK.changed(detail=DetailSpec(**{"px": 8, "after": 2, "steps": 3, "learning_rate": 0.01, **changes}))


def config(num_steps: int | None = 2, detail_steps: int | None = 3, **options: Any) -> InvertConfig:
    return InvertConfig(num_steps=num_steps, detail_steps=detail_steps, learning_rate=0.005, **options)


def run(wanted: InvertConfig, pack: Pack = PACK, **options: Any) -> list[Step]:
    return list(invert(pack, TARGETS, wanted, **options))


@pytest.mark.parametrize(
    ("wanted", "course"),
    [
        (InvertConfig(), Course(num_steps=2, detail_steps=3, detail_px=8)),
        (InvertConfig(num_steps=50), Course(num_steps=50, detail_steps=3, detail_px=8)),
        (InvertConfig(detail_steps=0), Course(num_steps=STEPS_WITHOUT_DETAIL, detail_steps=0, detail_px=None)),
        (InvertConfig(detail_steps=9, detail_px=4), Course(num_steps=2, detail_steps=9, detail_px=4)),
        (InvertConfig(num_steps=0, detail_steps=0), Course(num_steps=0, detail_steps=0, detail_px=None)),
    ],
)
def test_options_and_pack_make_a_course(wanted: InvertConfig, course: Course) -> None:
    assert course_of(with_detail(), wanted) == course


def test_a_pack_without_steps_of_detail_has_none_unless_asked() -> None:
    assert course_of(PACK, InvertConfig()) == Course(num_steps=100, detail_steps=0, detail_px=None)
    assert course_of(PACK, InvertConfig(detail_steps=5)).num_steps == PACK.detail.after


def test_first_w_moves_and_then_detail() -> None:
    steps = run(config())
    assert [step.index for step in steps] == list(range(6))
    assert [step.detail_from for step in steps] == [None, None, 2, 2, 2, 2]
    assert all(step.latent.detail_BCHW is None for step in steps[:2])
    for step in steps[2:]:
        assert torch.equal(step.w_BLD, steps[2].w_BLD)
        torch.testing.assert_close(PACK.synthesize(step.latent), step.image_BCHW)
        torch.testing.assert_close(PACK.loss(step.image_BCHW, TARGETS), step.loss_B)
    assert steps[2].latent.detail_BCHW is not None
    assert not steps[2].latent.detail_BCHW.any()
    assert (steps[-1].loss_B < steps[2].loss_B).all()


def test_the_steps_of_w_are_those_without_detail() -> None:
    plain = run(config(detail_steps=0))
    assert len(plain) == 3
    for ours, expected in zip(run(config()), plain, strict=False):
        assert torch.equal(ours.w_BLD, expected.w_BLD)
        torch.testing.assert_close(ours.image_BCHW, expected.image_BCHW)


def test_the_loop_is_that_of_torch_optim() -> None:
    *_, end = run(config(num_steps=0, detail_steps=5, start="mean"), with_detail())
    detail = torch.nn.Parameter(torch.zeros(3, *base_features(PACK.generator, PACK.mean_codes(3), 8).shape[1:]))
    twin = torch.optim.Adam([detail], lr=0.01, betas=(0.8, 0.95))
    for _ in range(5):
        twin.zero_grad()
        PACK.loss(PACK.synthesize(Latent(w_BLD=PACK.mean_codes(3), detail_BCHW=detail)), TARGETS).sum().backward()
        twin.step()
    assert end.latent.detail_BCHW is not None
    torch.testing.assert_close(end.latent.detail_BCHW, detail.detach(), rtol=1e-3, atol=1e-5)


def test_only_the_layers_after_it_run() -> None:
    calls: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, index=index: calls.append(index))  # type: ignore[misc]
        for index, layer in enumerate(PACK.generator.synthesis.layers)
    ]
    try:
        steps = invert(PACK, TARGETS, config(num_steps=0), start_BLD=PACK.mean_codes(3))
        next(steps)
        assert calls == [0, 1, 2, 3, 4, 5], "the features below once, those above for the picture"
        calls.clear()
        list(steps)
        assert calls == [4, 5] * 3
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("index", range(6))
def test_a_run_goes_on_in_either_stage_to_the_same_bits(index: int) -> None:
    whole = run(config())
    kept = Checkpoint.from_bytes(whole[index].checkpoint().to_bytes())
    rest = run(config(), resume=kept)
    assert [step.index for step in rest] == list(range(index, 6))
    for ours, expected in zip(rest, whole[index:], strict=True):
        assert torch.equal(ours.loss_B, expected.loss_B)
        assert ours.detail_from == expected.detail_from
        for name, value in expected.latent.tensors().items():
            assert torch.equal(ours.latent.tensors()[name], value)


def test_a_run_that_ended_without_detail_goes_on_with_it() -> None:
    *_, end = run(config(detail_steps=0))
    rest = run(config(detail_steps=2), resume=Checkpoint.from_bytes(end.checkpoint().to_bytes()))
    assert [(step.index, step.detail_from) for step in rest] == [(2, 2), (3, 2), (4, 2)]


def test_a_checkpoint_with_detail_needs_detail_of_its_size() -> None:
    kept = run(config())[4].checkpoint()
    with pytest.raises(OptionInvalid, match="detail_steps is 0"):
        run(config(detail_steps=0), resume=kept)
    with pytest.raises(OptionInvalid, match="detail at 8 px"):
        run(config(detail_px=4), resume=kept)


def test_a_checkpoint_of_before_detail_is_read() -> None:
    kept = run(config())[1].checkpoint()
    old = Checkpoint(index=1, latent=kept.latent, state=kept.state)
    data = old.to_bytes().replace(b', \\"detail_from\\": null', b"")
    head = int.from_bytes(data[:8], "little") - len(b', \\"detail_from\\": null')
    read = Checkpoint.from_bytes(head.to_bytes(8, "little") + data[8:])
    assert (read.index, read.detail_from) == (1, None)


def test_a_latent_with_detail_is_a_start() -> None:
    *_, end = run(config())
    (kept,) = run(config(None, 0), start_BLD=end.latent)
    torch.testing.assert_close(kept.loss_B, end.loss_B)
    on = run(config(None, 2), start_BLD=end.latent)
    assert [step.index for step in on] == [0, 1, 2]
    assert torch.equal(on[0].w_BLD, end.w_BLD)
    torch.testing.assert_close(on[0].image_BCHW, end.image_BCHW)
    assert all(step.latent.detail_BCHW is None for step in run(config(2, 0), start_BLD=end.latent))
    anew = run(config(1, 1), start_BLD=end.latent)[1].latent.detail_BCHW
    assert anew is not None
    assert not anew.any(), "w has moved, and the detail belonged to the code"
    with pytest.raises(OptionInvalid, match="the start has detail at 8 px"):
        run(config(None, 2, detail_px=4), start_BLD=end.latent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detail_steps": -1}, "detail_steps"),
        ({"detail_px": 12}, "detail_px"),
        ({"detail_px": 2}, "detail_px"),
        ({"detail_px": 64}, "detail_px is 64: .* this generator has 4, 8, 16"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(OptionInvalid, match=message):
        run(InvertConfig(**{"num_steps": 1, "detail_steps": 1, **options}))  # type: ignore[arg-type]


def test_mask_focus_and_regulariser_hold_for_detail_too() -> None:
    mask = torch.zeros(3, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    wanted = config(focus=3.0, regulariser_weight=0.5)
    *_, end = run(wanted, mask_B1HW=mask)
    spoiled = torch.where(mask == 1, TARGETS, -TARGETS)
    *_, other = invert(PACK, spoiled, wanted, mask_B1HW=mask, start_BLD=PACK.encode(TARGETS))
    torch.testing.assert_close(end.loss_B, other.loss_B)
    assert end.terms.regulariser_B is not None


def test_a_loss_and_an_optimizer_of_ones_own_go_with_detail() -> None:
    def loss(image_BCHW: Tensor, w_BLD: Tensor) -> Tensor:
        return (image_BCHW - TARGETS).square().mean(dim=(1, 2, 3)) + 0 * w_BLD.sum(dim=(1, 2))

    steps = run(InvertConfig(num_steps=1, detail_steps=2), loss=loss, optimizer=PACK.detail.adam())
    assert len(steps) == 4
    assert (steps[-1].loss_B < steps[1].loss_B).all()


def test_the_best_steps_keep_whole_latents() -> None:
    best, steps = BestSteps(), run(config(detail_steps=2))
    for step in steps:
        best.update(step)
    torch.testing.assert_close(PACK.synthesize(best.latent), best.image_BCHW)
    worse = BestSteps()  # the first image is best before detail, the others after
    worse.update(steps[0])
    loss_B = steps[-1].terms.pixel_B.clone()
    loss_B[0] += 1e9
    terms = type(steps[-1].terms)(
        pixel_B=loss_B, perceptual_B=torch.zeros(3), regulariser_B=None, perceptual_weight=0.0, regulariser_weight=0.0
    )
    worse.update(
        Step(index=4, terms=terms, latent=steps[-1].latent, image_BCHW=steps[-1].image_BCHW, state=(), detail_from=2)
    )
    assert worse.index_B is not None
    assert worse.index_B.tolist() == [0, 4, 4]
    torch.testing.assert_close(PACK.synthesize(worse.latent), worse.image_BCHW)
    assert worse.latent.detail_BCHW is not None
    assert not worse.latent.detail_BCHW[0].any()


def test_iterate_without_detail_takes_any_generator() -> None:
    loss = InversionLoss(TARGETS, features=PACK.features)
    steps = iterate(
        PACK.mean_codes(3), synthesize=PACK.synthesize, loss=loss, optimizer=PACK.detail.adam(), num_steps=1
    )
    assert [step.detail_from for step in steps] == [None, None]

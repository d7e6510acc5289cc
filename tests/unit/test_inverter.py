"""The loop and its loss, on a pack of random weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from inversion_core.errors import OptionInvalid
from inversion_core.inverter import BestSteps, Checkpoint, InvertConfig, Step, invert
from inversion_core.latents import Latent
from inversion_core.loss import InversionLoss, LossTerms, focus_map
from inversion_core.options import MAX_FOCUS
from tests.tiny import tiny_pack, tiny_targets

PACK = tiny_pack()


def steps(num_steps: int = 6, count: int = 3, **options: object) -> list[Step]:
    config = InvertConfig(num_steps=num_steps, **{"learning_rate": 0.05, **options})  # type: ignore[arg-type]
    return list(invert(PACK, tiny_targets(count), config))


def test_picture_loss_and_code_of_a_step_belong_together() -> None:
    target = tiny_targets()
    for step in steps():
        torch.testing.assert_close(PACK.synthesize(step.w_BLD), step.image_BCHW)
        torch.testing.assert_close(PACK.loss(step.image_BCHW, target), step.loss_B)


def test_yields_the_start_and_then_every_update() -> None:
    seen = steps(6)
    assert [step.index for step in seen] == list(range(7))
    torch.testing.assert_close(seen[0].w_BLD, PACK.encode(tiny_targets()))
    assert (seen[-1].loss_B < 0.9 * seen[0].loss_B).all()


def test_no_steps_give_the_start_alone() -> None:
    assert [step.index for step in steps(0)] == [0]


def test_the_loop_is_that_of_torch_optim() -> None:
    target = tiny_targets()
    w = torch.nn.Parameter(PACK.encode(target))
    twin = torch.optim.Adam([w], lr=0.05)
    for step in steps(6):
        loss_B = PACK.loss(PACK.synthesize(w), target)
        torch.testing.assert_close(step.loss_B, loss_B.detach(), rtol=1e-4, atol=1e-6)
        twin.zero_grad()
        loss_B.sum().backward()
        twin.step()


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    alone = list(invert(PACK, tiny_targets()[1:2], InvertConfig(num_steps=6, learning_rate=0.05)))
    for one, three in zip(alone, steps(6), strict=True):
        torch.testing.assert_close(one.w_BLD[0], three.w_BLD[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", ["mean", "random", "encoder"])
def test_a_checkpoint_goes_on_as_if_nothing_had_happened(start: str) -> None:
    whole = steps(6, start=start)
    kept = Checkpoint.from_bytes(whole[3].checkpoint().to_bytes())
    config = InvertConfig(num_steps=6, learning_rate=0.05, start=start)
    rest = list(invert(PACK, tiny_targets(), config, resume=kept))
    assert [step.index for step in rest] == [3, 4, 5, 6]
    for ours, expected in zip(rest, whole[3:], strict=True):
        assert torch.equal(ours.w_BLD, expected.w_BLD)
        assert torch.equal(ours.loss_B, expected.loss_B)


def test_a_checkpoint_of_another_batch_is_refused() -> None:
    kept = steps(1)[0].checkpoint()
    with pytest.raises(OptionInvalid, match="checkpoint"):
        list(invert(PACK, tiny_targets(2), InvertConfig(num_steps=1), resume=kept))


def test_random_starts_depend_on_the_seed_and_not_on_the_batch() -> None:
    first, again, other = (steps(0, start="random", seed=seed)[0].w_BLD for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(steps(0, 1, start="random", seed=1)[0].w_BLD, first[:1])


def test_without_an_encoder_the_mean_is_the_start() -> None:
    bare = tiny_pack(has_encoder=False)
    (start,) = invert(bare, tiny_targets(), InvertConfig(num_steps=0))
    assert torch.equal(start.w_BLD, bare.mean_codes(3))
    with pytest.raises(OptionInvalid, match="no encoder"):
        list(invert(bare, tiny_targets(), InvertConfig(start="encoder")))


def test_a_given_code_is_the_start() -> None:
    code = torch.randn(3, PACK.num_layers, PACK.w_dim)
    (start,) = invert(PACK, tiny_targets(), InvertConfig(num_steps=0), start_BLD=code)
    assert torch.equal(start.w_BLD, code)


def test_what_lies_outside_the_mask_does_not_count() -> None:
    target, mask = tiny_targets(), torch.zeros(3, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    spoiled = torch.where(mask == 1, target, torch.rand_like(target))
    config = InvertConfig(num_steps=3, start="mean")
    for a, b in zip(invert(PACK, target, config, mask_B1HW=mask), invert(PACK, spoiled, config, mask_B1HW=mask),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a.w_BLD, b.w_BLD)


def test_a_focus_weighs_the_pixel_term_and_nothing_else() -> None:
    target = tiny_targets()
    for plain, focused in zip(steps(0), steps(0, focus=9.0), strict=True):
        apart_BCHW = plain.image_BCHW - target
        weight_HW = focus_map(9.0, 16)
        torch.testing.assert_close(focused.terms.pixel_B, (weight_HW * apart_BCHW.square()).mean(dim=(1, 2, 3)))
        assert torch.equal(focused.terms.perceptual_B, plain.terms.perceptual_B)
        assert not torch.allclose(focused.terms.pixel_B, plain.terms.pixel_B, rtol=1e-3)


def test_a_focus_is_largest_at_the_faces_middle_and_one_on_the_mean() -> None:
    weight_HW = focus_map(8.0, 64)
    assert float(weight_HW.mean()) == pytest.approx(1, rel=1e-5)
    row, column = divmod(int(weight_HW.argmax()), 64)
    assert column in (31, 32)  # both lie beside the middle
    assert 34 <= row <= 38
    assert float(weight_HW.max() / weight_HW.min()) == pytest.approx(9, rel=0.05)
    torch.testing.assert_close(weight_HW, weight_HW.flip(1))
    coarse_HW = torch.nn.functional.avg_pool2d(weight_HW[None], 2)[0]
    torch.testing.assert_close(focus_map(8.0, 32), coarse_HW, rtol=0.01, atol=0.01)  # the same at every resolution


def test_the_packs_focus_holds_where_none_is_named() -> None:
    pack, config = PACK.changed(focus=5.0), InvertConfig(num_steps=2, learning_rate=0.05)

    def run(**options: float) -> list[Step]:
        return list(invert(pack, tiny_targets(1), dataclasses.replace(config, **options)))

    for own, named, off, plain in zip(run(), run(focus=5.0), run(focus=0.0), steps(2, 1), strict=True):
        assert torch.equal(own.loss_B, named.loss_B)
        assert torch.equal(off.loss_B, plain.loss_B)
        assert not torch.equal(own.loss_B, off.loss_B)


def test_the_regulariser_adds_its_weight_times_the_distance_of_the_codes() -> None:
    plain, regular = steps(0)[0], steps(0, regulariser_weight=2.0)[0]
    distance = (plain.w_BLD - PACK.encode(plain.image_BCHW)).square().mean(dim=(1, 2))
    torch.testing.assert_close(regular.terms.regulariser_B, distance)
    torch.testing.assert_close(regular.loss_B, plain.loss_B + 2 * distance)


def test_the_regulariser_needs_codes() -> None:
    loss = InversionLoss(tiny_targets(), features=PACK.features, encode=PACK.encode, regulariser_weight=1.0)
    with pytest.raises(ValueError, match="w_BLD"):
        loss(tiny_targets())


@pytest.mark.parametrize(
    "options",
    [{"num_steps": -1}, {"start": "nowhere"}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
     {"regulariser_weight": -1.0}, {"focus": -0.1}, {"focus": MAX_FOCUS + 1}, {"focus": float("nan")}],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionInvalid, match=next(iter(options))):
        InvertConfig(**options)  # type: ignore[arg-type]


def test_an_unknown_optimizer_is_refused_with_those_on_offer() -> None:
    with pytest.raises(OptionInvalid, match="pack tiny offers adagrad, adam, lbfgs, nag, rmsprop, sgd"):
        invert(PACK, tiny_targets(), InvertConfig(optimizer="sgd-of-yore"))


def test_works_while_gradients_are_off() -> None:
    with torch.no_grad():
        assert len(steps(2)) == 3


def test_divergence_ends_the_loop_and_is_no_error() -> None:
    seen = steps(50, learning_rate=1e38)
    assert 1 < len(seen) < 51
    best = BestSteps()
    for step in seen:
        best.update(step)
    assert best.loss_B.isfinite().all()
    assert best.nonfinite_B.all()


def fake_step(index: int, losses: list[float]) -> Step:
    loss_B, size = torch.tensor(losses), len(losses)
    terms = LossTerms(pixel_B=loss_B, perceptual_B=torch.zeros(size), regulariser_B=None,
                      perceptual_weight=0.0, regulariser_weight=0.0)  # fmt: skip
    image, code = torch.full((size, 3, 2, 2), float(index)), torch.full((size, 2, 2), float(index))
    return Step(index=index, terms=terms, latent=Latent(w_BLD=code), image_BCHW=image, state=())


def test_the_best_finite_step_of_each_image_is_kept() -> None:
    nan, best = float("nan"), BestSteps()
    for index, losses in enumerate([[nan, 3.0, 3.0], [2.0, 1.0, 3.0], [4.0, nan, 2.0], [1.0, 5.0, 2.0]]):
        best.update(fake_step(index, losses))
    assert best.index_B is not None
    assert best.index_B.tolist() == [3, 1, 2]
    assert best.loss_B.tolist() == [1.0, 1.0, 2.0]
    assert best.w_BLD[:, 0, 0].tolist() == [3.0, 1.0, 2.0]
    assert best.image_BCHW[:, 0, 0, 0].tolist() == [3.0, 1.0, 2.0]
    assert best.nonfinite_B.tolist() == [True, True, False]


def test_steps_and_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        steps(0)[0].index = 3  # type: ignore[misc]

"""What the discriminator sees: each change by chance, each picture on its own, and a probability that adapts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inversion_core.training.augment import ADAPT_EVERY, Augmentation, augment


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pictures(count: int = 6, side: int = 16) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    smooth = torch.nn.functional.interpolate(torch.rand(count, 3, 4, 4, generator=draw), size=side, mode="bilinear")
    return smooth * 2 - 1


def test_with_probability_0_a_picture_stays_as_it_is() -> None:
    image = pictures()
    torch.testing.assert_close(augment(image, torch.tensor(0.0)), image, rtol=0, atol=1e-5)
    assert Augmentation(0.0)(image) is image


def test_with_probability_1_every_picture_changes() -> None:
    image = pictures()
    assert ((augment(image, torch.tensor(1.0)) - image).abs().mean(dim=(1, 2, 3)) > 0.02).all()


def test_with_probability_a_third_some_changes_are_left_out() -> None:
    """Each change is drawn for each picture: about 2 % of the pictures keep both place and colour at 1/3."""
    image = pictures(1).expand(2000, -1, -1, -1)
    same = (augment(image, 1 / 3) - image).abs().amax(dim=(1, 2, 3)) < 1e-4
    expected = (2 / 3) ** 9 + 0.5 * (1 / 3) * (2 / 3) ** 8  # nothing chosen, or only a flip that keeps the side
    assert float(same.float().mean()) == pytest.approx(expected, abs=0.015)


def test_gradients_flow_to_every_picture() -> None:
    image = pictures().requires_grad_()
    (gradient,) = torch.autograd.grad(augment(image, 0.8).square().sum(), image)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_a_picture_does_not_feel_its_neighbours() -> None:
    image, other = pictures(), pictures()
    other[1:] = -other[1:]
    torch.manual_seed(5)
    first = augment(image, 0.7)[0]
    torch.manual_seed(5)
    assert torch.equal(augment(other, 0.7)[0], first)


def test_the_mean_is_kept_on_average() -> None:
    """Contrast alone moves it, and only away from grey: by exp((ln 2 / 2)^2 / 2) = 1.06."""
    image = pictures(1) * 0.3 + 0.2
    mean = augment(image.expand(4000, -1, -1, -1), 1.0).mean()
    assert float(mean) == pytest.approx(1.062 * float(image.mean()), abs=0.02)


def test_grey_stays_grey_under_hue_and_saturation() -> None:
    grey = pictures(8).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    changed = augment(grey, 1.0)
    assert (changed.amax(dim=1) - changed.amin(dim=1)).max() < 1e-5


def test_faces_stay_upright() -> None:
    """The brighter upper half is still the upper one after any change of geometry: no upside-down faces."""
    image = torch.full((200, 3, 16, 16), -0.5)
    image[:, :, :8] = 0.5
    changed = augment(image, 1.0).mean(dim=(1, 3))
    assert (changed[:, :6].mean(dim=1) > changed[:, 10:].mean(dim=1)).all()


@pytest.mark.parametrize(
    ("logit", "start", "moved"), [(1.0, 0.0, 0.08), (-1.0, 0.5, 0.42), (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0)]
)
def test_the_probability_follows_how_surely_real_pictures_are_known(logit: float, start: float, moved: float) -> None:
    """8 pictures a step, 400 from 0 to 1: 0.08 in the 4 steps after which it moves."""
    augmentation = Augmentation(start, target=0.6, images=400)
    for step in range(ADAPT_EVERY):
        assert float(augmentation.probability) == start
        r_t = augmentation.adapt(torch.full((8,), logit), step)
    assert float(r_t) == logit
    assert float(augmentation.probability) == pytest.approx(moved)
    assert float(augmentation.sign_count) == 0


def test_a_fixed_probability_stays() -> None:
    augmentation = Augmentation(0.5)
    for step in range(8):
        augmentation.adapt(torch.ones(8), step)
    assert float(augmentation.probability) == 0.5

"""Detail that follows an edit, and masks as pictures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion_core.editing.follow import flows, follow, warp, warp_sharply
from inversion_core.editing.masks import draw
from inversion_core.editing.shapes import parse_mask
from inversion_core.latents import Latent
from tests.tiny import rough_pack

pytestmark = pytest.mark.unit

PACK = rough_pack()


def latent(count: int = 2, px: int = 8) -> Latent:
    draw = torch.Generator().manual_seed(1)
    w_BLD = PACK.mean_codes(count) + 0.5 * torch.randn(count, 6, 12, generator=draw)
    return Latent(w_BLD=w_BLD, detail_BCHW=torch.randn(count, {8: 12, 16: 8}[px], px, px, generator=draw))


def test_equal_codes_return_the_latent_itself() -> None:
    one = latent()
    assert follow(PACK, one, one.w_BLD.clone()) is one


def test_an_image_whose_code_stays_keeps_its_detail_to_the_bit() -> None:
    one = latent()
    edited_BLD = one.w_BLD.clone()
    edited_BLD[1] += 0.5
    found = follow(PACK, one, edited_BLD)
    assert one.detail_BCHW is not None
    assert found.detail_BCHW is not None
    assert torch.equal(found.detail_BCHW[0], one.detail_BCHW[0])
    assert not torch.equal(found.detail_BCHW[1], one.detail_BCHW[1])


@pytest.mark.parametrize("px", [8, 16])
def test_an_image_follows_in_a_batch_as_it_does_alone(px: int) -> None:
    one = latent(3, px)
    edited_BLD = one.w_BLD + 0.4
    together = follow(PACK, one, edited_BLD)
    assert together.detail_BCHW is not None
    for index in range(3):
        alone = follow(PACK, one.rows(index, index + 1), edited_BLD[index : index + 1])
        assert alone.detail_BCHW is not None
        assert torch.equal(alone.detail_BCHW[0], together.detail_BCHW[index])


def test_a_known_render_changes_nothing_but_the_time() -> None:
    one = latent(1)
    before_BCHW = PACK.synthesize(one.w_BLD)
    found, again = follow(PACK, one, one.w_BLD + 0.4), follow(PACK, one, one.w_BLD + 0.4, before_BCHW=before_BCHW)
    assert found.detail_BCHW is not None
    assert again.detail_BCHW is not None
    assert torch.equal(found.detail_BCHW, again.detail_BCHW)


def test_without_detail_the_codes_are_all() -> None:
    one = Latent(w_BLD=latent().w_BLD)
    found = follow(PACK, one, one.w_BLD + 1)
    assert found.detail_BCHW is None
    assert torch.equal(found.w_BLD, one.w_BLD + 1)


def test_as_many_codes_as_images() -> None:
    with pytest.raises(ValueError, match="the edited codes have shape"):
        follow(PACK, latent(2), latent(1).w_BLD)


def smooth_picture(px: int = 128) -> torch.Tensor:
    noise = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(4))
    return torch.nn.functional.interpolate(noise, size=px, mode="bicubic").clamp(-1, 1)


@pytest.mark.parametrize("shift", [(4, 0), (0, -6), (3, 5)])
def test_the_flow_of_a_moved_picture_is_the_move(shift: tuple[int, int]) -> None:
    x, y = shift
    before = smooth_picture()
    after = before.roll((y, x), dims=(2, 3))
    flow = flows(before, after, 64)[0, :, 20:-20, 20:-20]
    torch.testing.assert_close(flow.mean((1, 2)), torch.tensor([-x / 2, -y / 2]), atol=0.15, rtol=0)


@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_a_warp_by_whole_pixels_moves_them(x: int, y: int, channels: int) -> None:
    picture = torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    flow = torch.tensor([float(x), float(y)])[None, :, None, None].expand(2, 2, 16, 16)
    for way in (warp, warp_sharply):
        moved = way(picture, flow)
        expected = picture[..., 4 + y : 12 + y, 4 + x : 12 + x]
        torch.testing.assert_close(moved[..., 4:-4, 4:-4], expected, atol=1e-5, rtol=1e-5)


# -- masks ---------------------------------------------------------------------------------------------------


def test_a_hard_box_is_exact() -> None:
    mask = draw(parse_mask("mask", {"box": [0.25, 0, 0.5, 1], "feather": 0}), 16)
    assert torch.equal(mask, torch.zeros(16, 16).index_fill(1, torch.arange(4, 8), 1.0))


def test_an_ellipse_has_its_area() -> None:
    mask = draw(parse_mask("mask", {"ellipse": [0.5, 0.5, 0.3, 0.2], "feather": 0}), 128)
    assert mask.mean().item() == pytest.approx(3.14159 * 0.3 * 0.2, rel=5e-3)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 0.5), st.floats(0, 0.3), st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_mask_is_a_share_and_ends_at_its_feather(x: float, y: float, r: float, feather: float, outside: bool) -> None:
    mask = draw(parse_mask("mask", {"ellipse": [x, y, r, r], "feather": feather, "outside": outside}), 32)
    assert mask.shape == (32, 32)
    assert mask.dtype == torch.float32
    assert mask.min() >= 0
    assert mask.max() <= 1
    at = (torch.arange(32) + 0.5) / 32
    distance = ((at[None, :] - x).square() + (at[:, None] - y).square()).sqrt()
    assert (mask[distance > r + 1.5 * feather + 0.05] == float(outside)).all()


def test_a_polygon_may_cross_itself_and_leave_the_picture() -> None:
    points = [[-0.5, -0.5], [1.5, 1.5], [1.5, -0.5], [-0.5, 1.5]]
    mask = draw(parse_mask("mask", {"polygon": points, "feather": 0}), 16)
    assert mask.mean().item() == pytest.approx(0.5, abs=0.02)

"""An edited face put back into its photo: what stays, what moves, and what others get to lay over it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from corpus import photo_like
from drawn_face import draw_face
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from told import SECRET, assert_bare

from inversion_core.errors import OptionInvalid
from inversion_core.faces import align, paste, pasting, patch, tiling
from inversion_core.faces.area import rim
from inversion_core.faces.change import change_between
from inversion_core.faces.mapping import side, through, to_quad
from inversion_core.faces.person import person_in
from inversion_core.pictures import encoded

pytestmark = pytest.mark.unit

PX = 32
SQUARE = np.array([(20.0, 10.0), (20.0, 130.0), (140.0, 130.0), (140.0, 10.0)])
TURNED = np.array([(70.3, -12.0), (12.5, 70.0), (100.0, 140.7), (170.0, 62.0)])
TRAPEZIUM = np.array([(50.0, 20.0), (10.0, 140.0), (190.0, 150.0), (130.0, 25.0)])
QUADS = st.sampled_from([SQUARE, TURNED, TRAPEZIUM, SQUARE * 0.2, SQUARE + np.array([-60, 90])])
Levels = npt.NDArray[np.float32]


def render(seed: int = 0, px: int = PX) -> Levels:
    """Something smooth, as renders are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (px // 4, px // 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((px, px), Image.Resampling.BICUBIC), dtype=np.float32)


def pixels(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


@settings(max_examples=20, deadline=None)
@given(quad=QUADS, seed=st.integers(0, 3))
def test_an_edit_of_strength_0_gives_the_photo_back(quad: Any, seed: int) -> None:
    photo = photo_like()
    found = paste(photo, quad, render(seed), render(seed))
    assert found.tobytes() == photo.tobytes()
    assert found is not photo
    assert patch(photo, quad, render(seed), render(seed)).image.getextrema() == ((0, 0),) * 4


@settings(max_examples=30, deadline=None)
@given(quad=QUADS, seed=st.integers(0, 9), amount=st.floats(0, 1), box=st.tuples(*[st.integers(0, PX)] * 4))
def test_beyond_the_mask_every_byte_is_the_photos(quad: Any, seed: int, amount: float, box: Any) -> None:
    photo = photo_like()
    x0, x1, y0, y1 = (*sorted(box[:2]), *sorted(box[2:]))
    mask = np.zeros((PX, PX), np.float32)
    mask[y0:y1, x0:x1] = 1
    before = render(seed)
    after = before + np.float32(amount) * (render(seed + 1) - before)
    whole = paste(photo, quad, before, after, mask_HW=mask)
    untouched = ~near(mask, quad, photo.size)
    assert (np.asarray(whole)[untouched] == np.asarray(photo)[untouched]).all()


def near(mask: Levels, quad: Any, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Where in a photo a crop's mask is, and what a pixel of the render or of the photo around it reaches."""
    px = max(2.0, PX / side(quad))
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    at = through(to_quad(quad, PX), np.stack([x, y], axis=-1))
    cells = np.argwhere(mask > 0) + 0.5
    if not len(cells):
        return np.zeros(at.shape[:2], np.bool_)
    (top, left), (bottom, right) = cells.min(axis=0) - 0.5 - 2 * px, cells.max(axis=0) + 0.5 + 2 * px
    inside: npt.NDArray[np.bool_] = (
        (at[..., 0] > left) & (at[..., 0] < right) & (at[..., 1] > top) & (at[..., 1] < bottom)
    )
    return inside


@settings(max_examples=20, deadline=None)
@given(quad=QUADS, seed=st.integers(0, 9))
def test_a_patch_laid_over_the_photo_is_the_pasted_photo(quad: Any, seed: int) -> None:
    photo = photo_like()
    before, after = render(seed), render(seed + 1)
    found = patch(photo, quad, before, after)
    composed = photo.convert("RGBA")
    composed.alpha_composite(found.image, found.offset)
    whole = paste(photo, quad, before, after)
    assert composed.convert("RGB").tobytes() == whole.tobytes()
    clear = np.asarray(found.image)[np.asarray(found.image)[..., 3] == 0]
    assert not clear.any()  # nothing of the photo hides in it


@settings(max_examples=10, deadline=None)
@given(quad=QUADS, tile=st.sampled_from([64, 128, 256, 1024]), seed=st.integers(0, 9))
def test_the_size_of_the_tiles_changes_no_byte(quad: Any, tile: int, seed: int) -> None:
    photo = photo_like((600, 500))
    before, after = render(seed), render(seed + 1)
    whole = paste(photo, quad * 3, before, after)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tiling, "TILE_PX", tile)
        assert paste(photo, quad * 3, before, after).tobytes() == whole.tobytes()


def test_a_shade_that_is_added_is_added_to_the_photo() -> None:
    photo = Image.fromarray((np.asarray(photo_like()) // 2 + 40).astype(np.uint8))
    before = np.full((PX, PX, 3), 100, np.float32)
    found = pixels(paste(photo, SQUARE, before, before + np.float32([30, 0, -20])))
    changed = (found - pixels(photo))[60:80, 70:90]
    np.testing.assert_array_equal(changed, np.broadcast_to([30, 0, -20], changed.shape))


def test_what_moves_in_the_renders_moves_in_the_photo() -> None:
    """The photo's fine structure goes along: there is one mouth, not two."""
    before = draw_face((512, 512), head_px=420)
    after = before.transform(before.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, 12))  # 12 px up
    small_before, small_after = (align(each, SQUARE_512, 128).image for each in (before, after))
    moved = pixels(paste(before, SQUARE_512, small_before, small_after))
    inner = np.s_[180:360, 170:340]
    off = np.abs(moved - pixels(after))[inner].mean()
    assert off < 0.25 * np.abs(pixels(before) - pixels(after))[inner].mean()


SQUARE_512 = np.array([(0.0, 0.0), (0.0, 512.0), (512.0, 512.0), (512.0, 0.0)])


def test_replace_is_as_before() -> None:
    photo = photo_like()
    after = Image.fromarray(render().astype(np.uint8))
    found = paste(photo, SQUARE, None, after, mode="replace")
    assert found.tobytes() == pasting.paste_back(photo, after, SQUARE).tobytes()


def test_arrays_and_pictures_are_the_same() -> None:
    photo, before, after = photo_like(), render(0), render(1)
    images = [Image.fromarray(each.astype(np.uint8)) for each in (before, after)]
    assert paste(np.asarray(photo), SQUARE, *images).tobytes() == paste(photo, SQUARE, before, after).tobytes()


def test_a_face_beside_the_photo_leaves_it() -> None:
    photo = photo_like()
    assert paste(photo, SQUARE + 500, render(0), render(1)).tobytes() == photo.tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "blend"}, "one of difference, replace"),
        ({"before": None}, "needs the render before"),
        ({"before": render(0, 64)}, "of one size"),
        ({"after": render()[:20]}, "square"),
        ({"after": render() * np.nan}, "NaN"),
        ({"quad": SQUARE[:3]}, "four corners"),
        ({"quad": SQUARE * np.inf}, "finite"),
        ({"photo": np.zeros((20, 20), np.uint8)}, "RGB"),
    ],
)
def test_what_cannot_be_pasted_is_refused(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"photo": photo_like(), "quad": SQUARE, "before": render(0), "after": render(1)} | change
    with pytest.raises(ValueError, match=said), np.errstate(invalid="ignore"):
        paste(**given)


def test_the_rim_of_a_change_is_nothing() -> None:
    for change in (
        change_between(render(0), render(1)),
        change_between(render(0), render(1), np.ones((PX, PX), np.float32)),
    ):
        for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            assert not change.mask_HW[edge].any()
            assert not change.add_HWC[edge].any()
            assert not change.flow_HW2[edge].any()
            assert (change.keep_HW[edge] == 1).all()
    assert rim(64).max() == 1


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
def test_a_file_holds_pixels_alone(form: str) -> None:
    image = photo_like()
    image.info = {"comment": SECRET, "icc_profile": SECRET, "exif": b"Exif\0\0" + SECRET, "xmp": SECRET, "dpi": (9, 9)}
    data = encoded(image, form)
    assert_bare(data)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == image.size
        assert opened.format == form.upper()
        assert form != "png" or opened.tobytes() == image.tobytes()


def test_quality_counts_and_patches_keep_their_alpha() -> None:
    image = photo_like()
    assert len(encoded(image, "jpeg", 50)) < len(encoded(image, "jpeg", 90)) < len(encoded(image, "jpeg"))
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    with Image.open(io.BytesIO(encoded(clear, "png"))) as opened:
        assert opened.tobytes() == clear.tobytes()
    with Image.open(io.BytesIO(encoded(clear, "webp", 100))) as opened:
        assert opened.getchannel("A").tobytes() == clear.getchannel("A").tobytes()


@pytest.mark.parametrize(
    ("mode", "form", "quality", "said"),
    [
        ("RGB", "gif", None, "one of jpeg, png, webp"),
        ("RGB", "jpeg", 0, "from 1 to 100"),
        ("RGB", "webp", 101, "from 1 to 100"),
        ("RGB", "png", 90, "leave it out"),
        ("RGBA", "jpeg", None, "cannot hold"),
        ("CMYK", "png", None, "cannot hold"),
    ],
)
def test_what_cannot_be_written_is_refused(mode: str, form: str, quality: int | None, said: str) -> None:
    with pytest.raises(OptionInvalid, match=said):
        encoded(Image.new(mode, (8, 8)), form, quality)


def test_background_stays_and_the_face_changes() -> None:
    """A render whose background changes with the face's shade: the background's change is spill."""
    photo = draw_face((256, 256), head_px=230)
    before = np.asarray(photo, dtype=np.float32)
    after = (before * np.float32([0.8, 0.9, 1.05])).clip(0, 255)
    change = change_between(before, after)
    assert change.mask_HW[100:170, 100:156].min() > 0.9
    assert change.mask_HW[30:60, 30:50].max() == 0


def test_people_are_seen() -> None:
    person_HW = person_in(np.asarray(draw_face((200, 200), head_px=190), dtype=np.float32))
    assert person_HW.shape == (200, 200)
    assert person_HW[80:130, 80:120].min() > 0.9
    assert person_HW[:10].max() < 0.1
    assert 0 <= person_HW.min() <= person_HW.max() <= 1


def test_what_an_edit_uncovers_is_background_without_a_ghost() -> None:
    """The head gets smaller: where its outline was, there is nothing."""
    size = (512, 512)
    photo, smaller = draw_face(size, head_px=420), draw_face(size, head_px=360)
    before, after = (align(each, SQUARE_512, 128).image for each in (photo, smaller))
    found = pixels(paste(photo, SQUARE_512, before, after))
    ring = np.abs(pixels(photo) - pixels(smaller)).max(axis=-1)[:256] > 60
    ring &= np.abs(pixels(smaller) - pixels(smaller)[5, 5]).max(axis=-1)[:256] < 20  # no longer the head
    assert ring.sum() > 1000
    left = np.abs(found[:256][ring] - pixels(photo)[5, 5]).max(axis=-1)
    assert np.mean(left < 25) > 0.8


def test_a_callers_mask_takes_background_too() -> None:
    photo = draw_face((256, 256), head_px=200)
    before = np.asarray(align(photo, np.array(SQUARE_512) / 2, 64).image, dtype=np.float32)
    after = before * np.float32(0.7)
    corner = np.zeros((64, 64), np.float32)
    corner[8:20, 8:20] = 1
    found = paste(photo, np.array(SQUARE_512) / 2, before, after, mask_HW=corner)
    was, now = (pixels(each)[56, 56].sum() for each in (photo, found))
    assert now < 0.8 * was
    assert paste(photo, np.array(SQUARE_512) / 2, before, after).getpixel((56, 56)) == photo.getpixel((56, 56))

"""Faces: the detector on drawn faces, FFHQ's geometry, and the way back into the photo."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from drawn_face import draw_face, drawn_landmarks
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageStat

from inversion_core.errors import NoFaceFound
from inversion_core.faces import FaceDetector, align, crop_quad, ffhq_quad, find_and_align, find_faces, paste_back
from inversion_core.faces.boxes import overlaps, proper, shift, square, suppress
from inversion_core.faces.networks import MTCNN

Floats = NDArray[np.float64]
UPRIGHT = np.array([[300.0, 300.0], [400.0, 300.0], [350.0, 350.0], [310.0, 410.0], [390.0, 410.0]])
"""Eyes 100 px apart, mouth 110 px below them."""


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def turned(points: Floats, degrees: float, about: tuple[float, float] = (0, 0)) -> Floats:
    """Clockwise on the screen."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points - about) @ rotation + about


def texture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Smooth random colours: survives resampling, and no two places look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def mean_difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.mean(ImageStat.Stat(ImageChops.difference(a, b)).mean))


# --- boxes


def test_overlaps() -> None:
    box = np.array([0.0, 0.0, 10.0, 10.0])
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 5, 5], [20, 20, 30, 30], [10, 0, 20, 10]], dtype=float)
    np.testing.assert_allclose(overlaps(box, others), [1, 1 / 3, 1 / 4, 0, 0])
    np.testing.assert_allclose(overlaps(box, others, by="smaller"), [1, 1 / 2, 1, 0, 0])


def test_suppress_keeps_the_best_of_each_heap() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [51, 50, 61, 60], [0, 0, 3, 3]], dtype=float)
    scores = np.array([0.7, 0.9, 0.95, 0.6, 0.8])
    assert suppress(boxes, scores, most=0.5).tolist() == [2, 1, 4]
    assert suppress(boxes, scores, most=0.5, by="smaller").tolist() == [2, 1]
    assert suppress(boxes, scores, most=1.0).tolist() == [2, 1, 4, 0, 3]


def test_suppress_only_heeds_boxes_that_stay() -> None:
    chain = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], dtype=float)  # each overlaps the next
    assert suppress(chain, np.array([0.9, 0.8, 0.7]), most=0.3).tolist() == [0, 2]


def test_suppress_takes_none() -> None:
    assert suppress(np.zeros((0, 4)), np.zeros(0), most=0.5).tolist() == []


def test_shift_square_and_proper() -> None:
    boxes = np.array([[10.0, 20.0, 30.0, 60.0]])
    np.testing.assert_allclose(shift(boxes, np.array([[0.5, -0.25, 0.0, 0.1]])), [[20, 10, 30, 64]])
    np.testing.assert_allclose(square(boxes), [[0, 20, 40, 60]])
    assert proper(np.array([[0, 0, 1, 1], [5, 0, 4, 9], [0, 0, 9, 0.5]], dtype=float)).tolist() == [True, False, False]


# --- networks


def test_networks_have_the_papers_strides_and_are_frozen() -> None:
    networks = MTCNN()
    score_NHW, box_N4HW = networks.pnet(torch.zeros(1, 3, 12, 12))
    assert score_NHW.shape == (1, 1, 1)
    assert box_N4HW.shape == (1, 4, 1, 1)
    assert networks.pnet(torch.zeros(1, 3, 13, 40))[0].shape == (1, 2, 15)
    assert [tuple(out.shape) for out in networks.rnet(torch.zeros(2, 3, 24, 24))] == [(2,), (2, 4)]
    assert [tuple(out.shape) for out in networks.onet(torch.zeros(2, 3, 48, 48))] == [(2,), (2, 4), (2, 5, 2)]
    assert not any(parameter.requires_grad for parameter in networks.parameters())


# --- detector


@pytest.mark.parametrize("head_px", [64, 128, 256, 512])
def test_a_tight_picture_of_a_face_is_found(detector: FaceDetector, head_px: int) -> None:
    (face,) = detector.detect(draw_face((head_px, head_px), head_px=head_px))
    expected = drawn_landmarks(head_px, (head_px / 2, head_px / 2))
    assert np.abs(face.landmarks - expected).max() < 0.04 * head_px
    assert face.score > 0.8


@pytest.mark.parametrize("size", [(640, 480), (300, 900), (2400, 1800), (5000, 300)])
def test_a_face_is_found_where_it_is(detector: FaceDetector, size: tuple[int, int]) -> None:
    head_px = 0.4 * min(size)
    centre = (0.7 * size[0], 0.35 * size[1])
    (face,) = detector.detect(draw_face(size, head_px=head_px, centre=centre))
    assert np.abs(face.landmarks - drawn_landmarks(head_px, centre)).max() < 0.04 * head_px
    left, top, right, bottom = face.box
    assert left < face.landmarks[:, 0].min()
    assert right > face.landmarks[:, 0].max()
    assert top < face.landmarks[:, 1].min()
    assert bottom > face.landmarks[:, 1].max()


def test_several_faces_come_largest_first(detector: FaceDetector) -> None:
    photo = Image.new("RGB", (900, 500), (150, 160, 170))
    for head_px, left in ((130, 20), (320, 200), (220, 600)):
        photo.paste(draw_face((head_px, head_px), head_px=head_px), (left, 80))
    faces = detector.detect(photo)
    assert len(faces) == 3
    assert [round(float(face.landmarks[2, 0])) // 300 for face in faces] == [1, 2, 0]
    aligned, found = find_and_align(photo, 64, detector)
    assert found == 3
    np.testing.assert_allclose(aligned.quad.mean(axis=0), (360, 240), atol=20)


@pytest.mark.parametrize("degrees", [-30, 30])
def test_a_tilted_head_is_set_upright(detector: FaceDetector, degrees: float) -> None:
    photo = draw_face((500, 500), head_px=250)
    tilted = photo.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=(150, 160, 170))
    straight, _ = find_and_align(photo, 64, detector)
    again, _ = find_and_align(tilted, 64, detector)
    np.testing.assert_allclose(again.quad, turned(straight.quad, degrees, (250, 250)), atol=0.06 * 250)


def test_threads_share_a_detector(detector: FaceDetector) -> None:
    photos = [draw_face((300, 300), head_px=head_px) for head_px in (120, 160, 200, 240)]
    alone = [detector.detect(photo)[0].landmarks for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda photo: detector.detect(photo)[0].landmarks, photos * 3))
    for index, landmarks in enumerate(together):
        np.testing.assert_allclose(landmarks, alone[index % 4], atol=1e-3)


@pytest.mark.parametrize(
    "photo",
    [
        Image.new("RGB", (300, 200), (90, 120, 200)),
        Image.new("RGB", (64, 64)),
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)),
        texture((512, 384)),
        Image.linear_gradient("L").convert("RGB"),
        Image.new("RGB", (64, 20_000), (200, 10, 10)),
    ],
    ids=["flat", "black 64 px", "noise", "texture", "gradient", "a thread"],
)
def test_no_face_says_what_to_do(detector: FaceDetector, photo: Image.Image) -> None:
    with pytest.raises(NoFaceFound, match="uncovered face") as caught:
        find_and_align(photo, 64, detector)
    assert "px high" in str(caught.value)
    assert "align" not in str(caught.value)  # an option of a front end, which adds it
    assert find_faces(photo, detector) == []


def test_a_face_knows_its_crop() -> None:
    photo = draw_face((300, 300), head_px=200)
    (face,) = find_faces(photo)
    np.testing.assert_array_equal(face.quad, ffhq_quad(face.landmarks))
    by_face, by_quad = align(photo, face, 64), align(photo, face.quad, 64)
    assert by_face.image.tobytes() == by_quad.image.tobytes() == find_and_align(photo, 64)[0].image.tobytes()


def test_find_and_align_needs_no_detector() -> None:
    aligned, found = find_and_align(draw_face(), 64)
    assert (aligned.image.size, aligned.image.mode, found) == ((64, 64), "RGB", 1)


# --- alignment


def test_quad_of_an_upright_face_follows_the_formula() -> None:
    # eye_to_eye = (100, 0), eye_to_mouth = (0, 110): x = (210, 0) scaled to max(2 * 100, 1.8 * 110) = 200.
    np.testing.assert_allclose(ffhq_quad(UPRIGHT), [[150, 111], [150, 511], [550, 511], [550, 111]])


def test_a_long_face_is_framed_by_its_mouth() -> None:
    long = UPRIGHT + np.array([[0, 0], [0, 0], [0, 0], [0, 50], [0, 50]])  # eye_to_mouth = 160: 1.8 * 160 = 288
    np.testing.assert_allclose(ffhq_quad(long), [[62, 28], [62, 604], [638, 604], [638, 28]])


@given(degrees=st.floats(-180, 180), scale=st.floats(0.05, 20), dx=st.floats(-500, 500), dy=st.floats(-500, 500))
@settings(max_examples=60, deadline=None)
def test_quad_follows_the_face(degrees: float, scale: float, dx: float, dy: float) -> None:
    def moved(points: Floats) -> Floats:
        return turned(points, degrees) * scale + [dx, dy]

    np.testing.assert_allclose(ffhq_quad(moved(UPRIGHT)), moved(ffhq_quad(UPRIGHT)), atol=1e-6 * scale * 1000)


@given(noise=st.lists(st.floats(-30, 30), min_size=10, max_size=10))
@settings(max_examples=60, deadline=None)
def test_quad_is_a_square_with_its_corners_in_order(noise: list[float]) -> None:
    tl, bl, br, tr = ffhq_quad(UPRIGHT + np.array(noise).reshape(5, 2))
    np.testing.assert_allclose(br - bl, tr - tl, atol=1e-9)
    across, down = tr - tl, bl - tl
    np.testing.assert_allclose(down, [-across[1], across[0]], atol=1e-9)  # right, turned clockwise, is down


@pytest.mark.parametrize("out_px", [64, 256])
@pytest.mark.parametrize("degrees", [0, 20, -35, 90])
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_dots_land_on_ffhqs_canonical_places(out_px: int, degrees: float, scale: float) -> None:
    landmarks = turned(UPRIGHT, degrees, (350, 350)) * scale
    y, x = np.mgrid[: int(700 * scale), : int(700 * scale)] + 0.5
    dots = [np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * (8 * scale) ** 2)) for u, v in landmarks[:3]]
    photo = Image.fromarray((255 * np.stack(dots, axis=-1)).round().astype(np.uint8))  # red, green, blue
    picture = np.asarray(align(photo, ffhq_quad(landmarks), out_px).image, dtype=float)
    tl, side_px = ffhq_quad(UPRIGHT)[0], 400.0
    rows, columns = np.mgrid[:out_px, :out_px] + 0.5
    for index in range(3):
        weight = picture[..., index]
        seen = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(seen, (UPRIGHT[index] - tl) / side_px * out_px, atol=0.05)


def test_a_whole_picture_as_quad_is_that_picture() -> None:
    photo = texture((128, 128))
    whole = np.array([[0, 0], [0, 128], [128, 128], [128, 0]], dtype=float)
    np.testing.assert_array_equal(np.asarray(crop_quad(photo, whole, 128)), np.asarray(photo))


@pytest.mark.parametrize("period", [2, 6])
def test_shrinking_does_not_alias(period: int) -> None:
    stripes = np.zeros((1024, 1024, 3), dtype=np.uint8)
    stripes[:, np.arange(1024) % period < period // 2] = 255
    whole = np.array([[0, 0], [0, 1024], [1024, 1024], [1024, 0]], dtype=float)
    small = np.asarray(crop_quad(Image.fromarray(stripes), turned(whole, 3, (512, 512)), 64), dtype=float)
    assert np.abs(small[8:-8, 8:-8] - 127.5).max() < 12


def test_outside_the_photo_it_is_mirrored_and_blurred() -> None:
    photo = texture((400, 400))
    left_half = np.array([[-200, 0], [-200, 400], [200, 400], [200, 0]], dtype=float)
    crop = crop_quad(photo, left_half, 400)
    kept = np.s_[60:340, 330:400]  # well inside the photo: as it was
    np.testing.assert_allclose(np.asarray(crop, float)[kept], np.asarray(photo, float)[60:340, 130:200], atol=2)
    assert crop.getextrema() != ((0, 0),) * 3
    edge = np.asarray(crop, dtype=float)[60:340, 195:205].mean(axis=(0, 2))
    assert np.abs(np.diff(edge)).max() < 5  # no seam
    detail = [
        float(np.abs(np.diff(np.asarray(crop, float)[60:340, part], axis=0)).mean())
        for part in (slice(0, 50), slice(350, 400))
    ]
    assert detail[0] < 0.5 * detail[1]  # faded towards the rim


def test_a_quad_that_barely_touches_the_photo_is_still_a_picture() -> None:
    photo = texture((64, 64))
    for offset in (-790.0, 63.5):
        quad = np.array([[0, 0], [0, 800], [800, 800], [800, 0]], dtype=float) + offset
        assert crop_quad(photo, quad, 200).size == (200, 200)


@pytest.mark.parametrize("offset", [-101.0, 65.0, float("nan")])
def test_a_quad_beside_the_photo_is_the_callers_mistake(offset: float) -> None:
    quad = np.array([[0, 0], [0, 100], [100, 100], [100, 0]], dtype=float) + np.array([offset, 0])
    with pytest.raises(ValueError, match="beside the picture"):
        crop_quad(texture((64, 64)), quad, 32)


def test_landmarks_in_one_point_do_not_break_the_formula() -> None:
    assert np.isfinite(ffhq_quad(np.full((5, 2), 7.0))).all()


# --- paste_back


@pytest.mark.parametrize("degrees", [0, 15, -50])
def test_pasting_an_unchanged_crop_back_changes_nothing(degrees: float) -> None:
    photo = texture((700, 700)).filter(ImageFilter.GaussianBlur(2))
    aligned = align(photo, ffhq_quad(turned(UPRIGHT, degrees, (350, 350))), 400)
    assert mean_difference(paste_back(photo, aligned.image, aligned.quad), photo) < 0.6


def test_an_edit_appears_where_it_was_taken_and_nowhere_else() -> None:
    photo = texture((700, 700))
    before = photo.copy()
    aligned = align(photo, ffhq_quad(turned(UPRIGHT, 25, (350, 350))), 256)
    result = paste_back(photo, Image.new("RGB", (256, 256), (255, 0, 0)), aligned.quad)
    assert mean_difference(photo, before) == 0  # the photo itself is left alone
    assert result.size == photo.size
    centre = tuple(int(v) for v in aligned.quad.mean(axis=0))
    assert result.getpixel(centre) == (255, 0, 0)
    inside = Image.new("L", photo.size, 0)
    around = aligned.quad + np.array([[-2, -2], [-2, 2], [2, 2], [2, -2]])
    ImageDraw.Draw(inside).polygon([tuple(corner) for corner in around], 255)
    outside = np.asarray(inside) == 0
    np.testing.assert_array_equal(np.asarray(result)[outside], np.asarray(photo)[outside])


def test_the_rim_is_soft() -> None:
    black = Image.new("RGB", (400, 400))
    quad = np.array([[100, 100], [100, 300], [300, 300], [300, 100]], dtype=float)
    row = np.asarray(paste_back(black, Image.new("RGB", (64, 64), (255, 255, 255)), quad))[200, :, 0].astype(int)
    assert np.abs(np.diff(row)).max() < 50
    assert row[:100].max() == 0
    assert row[130:270].min() == 255


def test_a_large_edit_is_antialiased_into_a_small_place() -> None:
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    quad = np.array([[20, 20], [20, 84], [84, 84], [84, 20]], dtype=float)
    result = paste_back(Image.new("RGB", (100, 100)), Image.fromarray(stripes), quad)
    assert np.abs(np.asarray(result, dtype=float)[40:60, 40:60] - 127.5).max() < 12


def test_what_leaves_the_photo_is_cut_off() -> None:
    photo = texture((200, 200))
    quad = np.array([[-100, -100], [-100, 100], [100, 100], [100, -100]], dtype=float)
    result = paste_back(photo, Image.new("RGB", (64, 64), (255, 0, 0)), quad)
    assert result.getpixel((0, 0)) == (255, 0, 0)
    assert result.getpixel((150, 150)) == photo.getpixel((150, 150))
    assert mean_difference(paste_back(photo, result, quad + 5000), photo) == 0

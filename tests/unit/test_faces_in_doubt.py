"""Faces that a first look does not settle: turned, dark, cut, or none at all; and the same bits whatever else runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inversion_core.faces import Face, FaceDetector, FaceWarning, find_and_align, find_faces
from inversion_core.faces.cascade import Cascade
from inversion_core.faces.detector import CROSS_LOOKS, LOOK_PX, SURE
from inversion_core.faces.light import brightened
from inversion_core.faces.one_thread import on_one_thread
from inversion_core.faces.pose import is_plausible, roll_deg

BACKGROUND = (150, 160, 170)
UPRIGHT = np.array([[300.0, 300.0], [400.0, 300.0], [350.0, 350.0], [310.0, 410.0], [390.0, 410.0]])


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Grace Hopper (public domain), before a wall: a drawn face leaves the networks in doubt by itself."""
    wall = Image.new("RGB", (256, 256), BACKGROUND)
    wall.paste(Image.open(Path(__file__).parents[1] / "data" / "hopper.png"), (64, 64))
    return wall


def roll_apart(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


class Scripted:
    """A cascade that says what it is told: look after look, then nothing."""

    def __init__(self, *answers: list[Face]) -> None:
        self.answers, self.looks = list(answers), 0

    def look(self, image: Image.Image, scale: float = 1.0, *, smallest_px: float = 24) -> list[Face]:
        self.looks += 1
        return self.answers.pop(0) if self.answers else []


def face(score: float) -> Face:
    return Face(box=(250, 250, 450, 460), landmarks=UPRIGHT, score=score)


# --- turned


@pytest.mark.parametrize("degrees", [60, 90, 135, 180, 270])
def test_a_turned_face_is_set_upright(detector: FaceDetector, photo: Image.Image, degrees: int) -> None:
    turned = photo.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=BACKGROUND)
    (found,) = detector.detect(turned)
    assert roll_apart(roll_deg(found.landmarks), degrees) < 5
    assert is_plausible(found.landmarks)
    upright, _ = find_and_align(photo, 64, detector)
    again, _ = find_and_align(turned, 64, detector)
    difference = np.abs(np.asarray(upright.image, float) - np.asarray(again.image, float))
    assert difference.mean() < 12  # upside down it is 40


def test_a_sure_answer_stands_to_the_bit_and_costs_one_look(photo: Image.Image) -> None:
    (first,) = Cascade().look(photo, LOOK_PX / 256)
    (found,) = FaceDetector().detect(photo)
    assert first.score > SURE
    assert found.landmarks.tobytes() == first.landmarks.tobytes()
    scripted = Scripted([face(0.999)])
    assert len(FaceDetector(cascade=scripted).detect(Image.new("RGB", (640, 640)))) == 1
    assert scripted.looks == 1


# --- false ones


def test_a_weak_answer_that_no_second_look_shares_is_no_face() -> None:
    scripted = Scripted([face(0.9)])
    assert FaceDetector(cascade=scripted).detect(Image.new("RGB", (640, 640), BACKGROUND)) == []
    assert scripted.looks > 4


def test_an_eye_within_a_face_is_none() -> None:
    eye = Face(box=(330, 300, 360, 330), landmarks=(UPRIGHT - [350, 350]) * 0.1 + [345, 315], score=0.96)

    class Everywhere(Scripted):
        """Second looks see a face in the middle whatever they are shown."""

        def look(self, image: Image.Image, scale: float = 1.0, *, smallest_px: float = 24) -> list[Face]:
            if self.answers:
                return super().look(image, scale, smallest_px=smallest_px)
            middle, part = image.width / 2, image.width / 3
            box = (middle - part / 2, middle - part / 2, middle + part / 2, middle + part / 2)
            return [Face(box=box, landmarks=(UPRIGHT - [350, 350]) * part / 210 + middle, score=0.97)]

    none: list[list[Face]] = [[] for _ in CROSS_LOOKS[1:]]
    found = FaceDetector(cascade=Everywhere([eye], [face(0.99)], *none)).detect(Image.new("RGB", (640, 640)))
    assert len(found) == 1
    assert found[0].area > 10 * eye.area


@pytest.mark.parametrize(
    ("change", "is_one"),
    [
        (lambda points: points, True),
        (lambda points: points[:, ::-1] * [-1, 1], True),  # on its side
        (lambda points: -points, True),  # on its head: its own frame counts
        (lambda points: points * [-1, 1], False),  # left is right
        (lambda points: points[[3, 4, 2, 0, 1]], False),  # the mouth above the eyes, left still left
        (lambda points: points * [1, 0.2], False),
        (lambda points: points + np.array([[0, 0], [0, 0], [200, 0], [0, 0], [0, 0]]), False),
        (lambda points: np.zeros((5, 2)), False),
    ],
)
def test_landmarks_are_checked(change: object, is_one: bool) -> None:
    assert callable(change)
    assert is_plausible(change(UPRIGHT)) is is_one


# --- light and border


def test_a_dark_face_is_found_and_its_pixels_stay(detector: FaceDetector, photo: Image.Image) -> None:
    dark = photo.point(lambda value: value // 20)
    assert Cascade().look(dark, LOOK_PX / 256) == []
    aligned, found = find_and_align(dark, 64, detector)
    assert found == 1
    assert np.asarray(aligned.image).max() <= 255 // 20 + 1
    assert brightened(photo) is None


def test_a_face_that_the_border_cuts_is_warned_of(detector: FaceDetector, photo: Image.Image) -> None:
    (whole,) = detector.detect(photo)
    _, top, _, bottom = whole.box
    assert whole.warnings == ()
    cut = photo.crop((0, 0, 256, round(bottom - 0.15 * (bottom - top))))
    (found,) = find_faces(cut, detector)
    assert found.warnings == (FaceWarning.CUT_BY_BORDER,)
    assert found.warnings[0].sentence.startswith("The photo's border cuts the face")


# --- the same bits


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_what_else_runs_changes_no_bit(photo: Image.Image, threads: None) -> None:
    """The library that multiplies for torch rounds by the number of threads on some processors (MKL_CBWR=AVX2 shows it
    on all); so torch has one where faces are found, whatever it has elsewhere, and the caller keeps its own.
    """
    stop = threading.Event()

    def busy() -> None:
        matrix = torch.rand(200, 200)
        while not stop.is_set():
            for count in (1, 2):
                torch.set_num_threads(count)
                matrix @ matrix

    found = []
    engine = threading.Thread(target=busy)
    for count in (1, 2, 4, 2):
        torch.set_num_threads(count)
        if count == 4:
            engine.start()
        found.append([each.landmarks.tobytes() for each in FaceDetector().detect(photo)])
        assert on_one_thread(torch.get_num_threads)() == 1
        assert torch.get_num_threads() == count
    stop.set()
    engine.join()
    assert found[0]
    assert all(each == found[0] for each in found)

"""Films with the library on a tiny pack: they begin and end where they should, and stop when nobody waits."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence
from tiny import rough_pack

from inversion_worker.backend import Materials
from inversion_worker.contract import FilmFormat, FilmOrder, RenderOrder, Way
from inversion_worker.core_backend import CoreBackend
from inversion_worker.errors import JobRefused
from inversion_worker.sources import SourceCode

pytestmark = pytest.mark.unit

W = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
CODE = {"code": base64.b64encode(SourceCode(w_LD=W).to_bytes()).decode()}
WRONG = {"code": base64.b64encode(SourceCode(w_LD=W[:1]).to_bytes()).decode()}


@pytest.fixture(scope="module")
def backend() -> Iterator[CoreBackend]:
    backend = CoreBackend({"tiny": rough_pack()}, "tiny", "cpu")
    yield backend
    backend.close()


def order(source: dict[str, Any], **more: Any) -> RenderOrder:
    return RenderOrder(pack="tiny", source=source, **more)


def materials(is_wanted: Callable[[], bool] = lambda: True) -> Materials:
    return Materials(sent=b"", read=lambda key: None, is_wanted=is_wanted)


def face(backend: CoreBackend, order: RenderOrder) -> np.ndarray:  # type: ignore[type-arg]
    _, data = backend.render(order, materials())
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)


def frames(data: bytes) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [np.asarray(each.convert("RGB"), float) for each in ImageSequence.Iterator(Image.open(io.BytesIO(data)))]


@pytest.mark.parametrize("way", list(Way))
def test_from_one_code_to_another(backend: CoreBackend, way: Way) -> None:
    first, last = order(CODE, side=32), order({"seed": 3})
    told, data = backend.film(FilmOrder(first=first, last=last, frames=5, way=way), materials())
    found = frames(data)
    assert (len(found), told.width, told.pack) == (5, 32, "tiny")
    ends = face(backend, first), face(backend, order({"seed": 3}, side=32))
    assert np.abs(found[0] - ends[0]).mean() < 12 < np.abs(found[0] - ends[1]).mean()
    assert np.abs(found[-1] - ends[1]).mean() < 12
    opened = Image.open(io.BytesIO(data))
    opened.load()
    assert opened.info["duration"] == 40


def test_from_a_face_to_its_edit_and_back(backend: CoreBackend) -> None:
    edited = order(CODE, edits=[{"truncate": -1.0}], side=32)
    asked = FilmOrder(first=edited, frames=4, fps=10, there_and_back=True, format=FilmFormat.GIF)
    _, data = backend.film(asked, materials())
    found = frames(data)
    assert len(found) == 6
    assert np.abs(found[0] - face(backend, order(CODE, side=32))).mean() < 12
    assert np.abs(found[3] - face(backend, edited)).mean() < 12


def test_mp4(backend: CoreBackend) -> None:
    pytest.importorskip("av")
    asked = FilmOrder(first=order({"seed": 1}), last=order({"seed": 2}), frames=3, format=FilmFormat.MP4)
    assert backend.film(asked, materials())[1][4:8] == b"ftyp"


def test_it_stops_when_nobody_waits(backend: CoreBackend) -> None:
    looks: list[int] = []

    def is_wanted() -> bool:
        looks.append(1)
        return len(looks) < 3

    asked = FilmOrder(first=order({"seed": 1}), last=order({"seed": 2}), frames=60)
    with pytest.raises(JobRefused):
        backend.film(asked, materials(is_wanted))
    assert len(looks) == 3


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ({"inversion": "a" * 32}, {"seed": 1}),
        ({"seed": 1}, {"inversion": "a" * 32}),
        (WRONG, {"seed": 1}),
    ],
)
def test_what_cannot_be_had_is_refused(backend: CoreBackend, first: dict[str, Any], last: dict[str, Any]) -> None:
    with pytest.raises(JobRefused):
        backend.film(FilmOrder(first=order(first), last=order(last), frames=3), materials())

"""The corpus of strangers' pictures through the library and through the service's own look at them."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from corpus import BROKEN_COUNT, SIZE, Sound, broken, sound

from inversion_app import pictures
from inversion_app.errors import KINDS
from inversion_core.errors import InversionError
from inversion_core.pictures import load_photo

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

SOUND = sound()


def test_the_corpus_is_as_large_as_it_says() -> None:
    names = [one.name for one in (*broken(), *SOUND)]
    assert len(set(names)) == len(names)
    assert len(broken()) >= BROKEN_COUNT
    assert len(SOUND) >= 50
    assert len({one.data for one in broken()}) >= BROKEN_COUNT


@pytest.mark.parametrize("one", SOUND, ids=lambda one: one.name)
def test_a_sound_picture_is_shown_upright_in_its_colours(one: Sound) -> None:
    photo = load_photo(one.data)
    width, height = photo.size
    assert photo.mode == "RGB"
    assert width > height or width == height == 64
    seen = [photo.getpixel((width * x // 4, height * y // 4)) for y in (1, 3) for x in (1, 3)]
    np.testing.assert_allclose(seen, one.quarters, atol=one.tolerance)
    assert isinstance(pictures.inspect(one.data), pictures.Sound)


@pytest.mark.parametrize("one", [one for one in SOUND if "turned" in one.name], ids=lambda one: one.name)
def test_a_mask_is_measured_against_the_upright_photo(one: Sound) -> None:
    mask = SOUND[0].data  # as large as all of them when upright
    assert load_photo(one.data).size == SIZE
    found = pictures.inspect(one.data, mask)
    assert isinstance(found, pictures.Sound), found


def test_broken_ones_are_refused_by_both_and_by_name() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in broken():
            refusal = pictures.inspect(one.data)
            assert not isinstance(refusal, pictures.Sound), one.name
            assert KINDS[refusal[0]].status in (415, 422), one.name
            assert not re.search(r"0x[0-9a-f]{6}|<_|[a-z]Error", refusal[1]), refusal[1]
            status = refused_by_library(one.data)
            stricter = one.name.startswith("WebP claiming")  # the service is, for its memory
            assert status in (415, 422) or (status is None and stricter), one.name


def refused_by_library(data: bytes) -> int | None:
    """The status of the refusal; None for a picture that is taken."""
    try:
        load_photo(data)
    except InversionError as error:
        return error.status
    return None

"""Damage of every kind to every picture of the corpus: only our own errors come out, in words for people, and soon."""

from __future__ import annotations

import random
import re
import time

import pytest
from corpus import SIZE, sound

from inversion_app import pictures
from inversion_app.errors import KINDS
from inversion_core.errors import InversionError
from inversion_core.pictures import load_photo
from inversion_pictures.errors import PictureRefused
from inversion_pictures.masks import read_mask

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

ROUNDS = 150
MOST_S = 5.0
"""Of one picture as small as these; a busy machine takes its time."""
OF_THE_PROGRAM = re.compile(r"0x[0-9a-f]{6}|<_|object at|Traceback|\w+(Error|Exception|Warning)\b|PIL\.|Plugin")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file with some of its bytes changed, lost, doubled or taken from elsewhere in it."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(spoilt) + 1) if chance.random() < 0.5 else chance.randrange(min(len(spoilt), 400) + 1)
        size = chance.choice((1, 1, 2, 4, 16, 300))
        piece = spoilt[at : at + size]
        match chance.randrange(6):
            case 0:
                spoilt[at : at + size] = chance.randbytes(len(piece))
            case 1:
                del spoilt[at : at + size]
            case 2:
                spoilt[at:at] = piece * chance.choice((1, 2, 40))
            case 3:
                spoilt[at : at + size] = bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF))]) * len(piece)
            case 4:
                start = chance.randrange(len(spoilt) + 1)
                spoilt[at : at + size] = spoilt[start : start + size]
            case 5:
                del spoilt[max(at, 20) :]
    return bytes(spoilt)


def check(data: bytes) -> None:
    """Both doors, and that of masks."""
    began = time.monotonic()
    refusals = [_library(data), _service(data), _mask(data)]
    assert time.monotonic() - began < MOST_S
    for slug, message in filter(None, refusals):
        assert KINDS[slug].status in (415, 422)
        assert not OF_THE_PROGRAM.search(message), message
        assert message.endswith(".")


def _library(data: bytes) -> tuple[str, str] | None:
    try:
        photo = load_photo(data)
    except InversionError as error:
        return error.slug, str(error)
    assert (photo.mode, photo.info) == ("RGB", {})
    return None


def _service(data: bytes) -> tuple[str, str] | None:
    found = pictures.inspect(data)
    return None if isinstance(found, pictures.Sound) else found


def _mask(data: bytes) -> tuple[str, str] | None:
    try:
        read_mask(data, SIZE)
    except PictureRefused as refused:
        return refused.slug, str(refused)
    return None


@pytest.mark.parametrize("seed", range(3))
def test_damage_gives_only_our_own_errors(seed: int) -> None:
    chance = random.Random(seed)
    wholes = [one.data for one in sound() if len(one.data) < 60_000]
    for _ in range(ROUNDS):
        check(mutated(chance.choice(wholes), chance))

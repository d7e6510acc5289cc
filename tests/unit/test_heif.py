"""HEIC photos, where the extra `heif` is installed and where it is not. The photo is the corpus's quarters, encoded once."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
from corpus import QUARTERS, SIZE

from inversion_app import pictures
from inversion_core.errors import PictureInvalid, PictureUnsupported
from inversion_core.pictures import load_photo
from inversion_pictures.formats import FORMATS, HEIC_REMEDY, formats_taken, sniff
from inversion_pictures.reading import Limits

pytestmark = pytest.mark.unit

PHOTO = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAAOkAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAAPFtZGF0AAAA5SgBrwT42/LpOu3/5MP///5Xruy/yYf4Tul19+OTT/+myn//ohKBHfJlTejXn3FTf0viaNQQPwpMnaoTa83n+uAhulWbZKl3l7K3A56A3yusdiX31oHEwzV84GEnHm95Q3ArLEcZi6rR8euuLvm6nEKb/0wGiN/TLDf/9cbcZ1zLn3cLstgkttfn+UUNkyLZU5NIUNJyQQJ4PblTYTg9li/G2jdDd98Zxl0FLSehVVSOlEb9Yl8X4EL3t/X/8gKP/gg/Vb/g1JX7k8lsGc1KPrrRJ4MZOZ2ANtxB+pqmGT85S/2ZZPA="
)
needs_heif = pytest.mark.skipif("HEIF" not in formats_taken(), reason="the extra heif is not installed")


@needs_heif
@pytest.mark.parametrize("major", [b"heic", b"mif1"])
def test_a_heic_photo_is_decoded_by_the_library_and_the_service(major: bytes) -> None:
    data = PHOTO[:8] + major + PHOTO[12:]
    photo = load_photo(data)
    assert (photo.size, photo.info) == (SIZE, {})
    seen = [photo.getpixel((SIZE[0] * x // 4, SIZE[1] * y // 4)) for y in (1, 3) for x in (1, 3)]
    np.testing.assert_allclose(seen, QUARTERS, atol=8)
    assert pictures.inspect(data) == pictures.Sound()


@needs_heif
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_damaged_one_is_said_to_be_so(share: float) -> None:
    with pytest.raises(PictureInvalid, match=r"HEIC is (cut short|damaged)"):
        load_photo(PHOTO[: int(len(PHOTO) * share)])


@needs_heif
def test_a_large_one_is_refused_by_the_service_for_its_memory() -> None:
    small = replace(pictures.LIMITS, greedy_pixels={"HEIF": 6000})
    assert pictures.inspect(PHOTO, limits=small) == (
        "picture-too-large",
        "It has 96 x 64 px, 0.01 megapixels; at most 0 of HEIC are taken.",
    )


def test_without_the_extra_it_is_told_how_to_become_a_jpeg() -> None:
    assert sniff(PHOTO) == "HEIF"
    with pytest.raises(PictureUnsupported) as caught:
        load_photo(PHOTO, Limits(formats=FORMATS))
    assert str(caught.value) == f"It is a HEIC photo, which cannot be decoded here. {HEIC_REMEDY}"
    slug, said = pictures.inspect(PHOTO, limits=replace(pictures.LIMITS, formats=FORMATS))  # type: ignore[misc]
    assert (slug, said) == ("picture-unsupported", str(caught.value))

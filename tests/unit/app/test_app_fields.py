"""Whatever is wrong with a submission, the answer names the field at fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from app_fakes import npy, picture_bytes
from app_service import Service, url_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inversion_app.errors import FIELDS, KINDS
from inversion_worker.contract import JobOptions

pytestmark = pytest.mark.unit

URL = "/v1/inversions"
PHOTO = picture_bytes()
OPTIONS = list(JobOptions.model_fields)
WRONG: dict[str, list[bytes]] = {
    "image": [b"", b"no picture", PHOTO[:150], picture_bytes(size=(63, 80)), b"\0\0\0\x18ftypheic" + bytes(50)],
    "mask": [b"", b"no picture", PHOTO[:150], picture_bytes(size=(64, 64)), picture_bytes("JPEG")[:200]],
    "latents": [
        b"", b"no code", b"[[]]", b'{"latents": 1}', b"[[1], [1, 2]]", b"\x93NUMPY", npy(np.zeros((2, 2), np.float32)),
        npy(np.full((10, 128), np.nan, np.float32)), b"\x08\0\0\0\0\0\0\0{}      ",
    ],
}  # fmt: skip


def named(service: Service, field: str, **request: Any) -> str:
    """The kind of the refusal, which names the field."""
    answer = service.post(URL, **request)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"`{field}" in answer.json()["detail"], answer.text
    return str(answer.json()["type"].removeprefix("/problems/"))


@pytest.mark.parametrize(("field", "data"), [(field, data) for field, wrong in WRONG.items() for data in wrong])
def test_files(service: Service, field: str, data: bytes) -> None:
    named(service, field, files={"image": ("a.png", PHOTO), field: ("b", data)})
    if data:
        named(service, field, json={"image": url_of(PHOTO), field: url_of(data)})


@pytest.mark.parametrize("field", OPTIONS)
def test_options(service: Service, field: str) -> None:
    photo = {"image": ("a.png", PHOTO)}
    for value in ("?" * 3000, "\0", "-1e999"):
        if field not in ("pack", "optimizer") or len(value) > 64:
            assert named(service, field, files=photo, data={field: value}) == "option-invalid"
    for given_ in ({}, [[]], [0] * 100, "?" * 3000, -1.5):
        assert named(service, field, json={"image": url_of(PHOTO), field: given_}) == "option-invalid"
    twice = [("image", ("a.png", PHOTO)), (field, (None, "1")), (field, (None, "1"))]
    assert named(service, field, files=twice) == "option-invalid"
    assert named(service, field, files=[*photo.items(), (field, ("a", b"1"))]) == "option-invalid"
    assert named(service, field, files=photo, data={field: "x" * 5000}) == "form-invalid"


@pytest.mark.parametrize("field", ["image", "images", "mask", "latents"])
@pytest.mark.parametrize("value", ["", "x", "data:,x", "data:;base64,?", "data:;base64,", 1, {}, [[]], [{}], True])
def test_what_is_no_data_url(service: Service, field: str, value: object) -> None:
    named(service, field, json={"image": url_of(PHOTO), field: value})


def test_what_is_missing_or_unknown(service: Service) -> None:
    assert named(service, "image", json={}) == "image-missing"
    assert named(service, "image", files={"steps": (None, "5")}) == "image-missing"
    assert named(service, "image", files=[("image", ("a.png", PHOTO))] * 2) == "image-repeated"
    assert named(service, "nope", files={"image": ("a.png", PHOTO), "nope": ("b", b"x")}) == "option-unknown"
    assert named(service, "horses", files={"image": ("a.png", PHOTO)}, data={"pack": "horses"}) == "pack-not-found"
    named(service, "pack", files={"image": ("a.png", PHOTO)}, data={"pack": "horses"})
    named(service, "optimizer", files={"image": ("a.png", PHOTO)}, data={"optimizer": "nope"})


def test_a_part_that_is_encoded(service: Service) -> None:
    """The framework reads its bytes as they came, whatever the part says of them."""

    def sent(encoding: str) -> dict[str, Any]:
        head = f'Content-Disposition: form-data; name="image"; filename="a"\r\nContent-Transfer-Encoding: {encoding}'
        body = f"--x\r\n{head}\r\n\r\n".encode() + PHOTO + b"\r\n--x--\r\n"
        return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}

    assert named(service, "image", **sent("base64")) == "form-invalid"
    assert service.post(URL, **sent("Binary")).status_code == 202


@pytest.mark.parametrize("charset", ["unicode_escape", "raw_unicode_escape", "utf-7", "utf-16", "latin-1", "cp037"])
@pytest.mark.parametrize("name", [rb"\ud800", b"+2AA-", b"\x00\xd8", b"\x94"])
def test_text_in_another_charset(service: Service, charset: str, name: bytes) -> None:
    """Some make text that is no Unicode, and cannot be named in an answer: that was a 500."""
    body = b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + name + b"\r\n--x--\r\n"
    answer = service.post(
        URL, content=body, headers={"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    )
    assert (answer.status_code, charset in answer.json()["detail"]) == (422, True)
    answer = service.post(URL, content=b"{}", headers={"Content-Type": f"application/json; charset={charset}"})
    assert (answer.status_code, charset in answer.json()["detail"]) == (422, True)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.binary(max_size=12), value=st.binary(max_size=12))
def test_no_text_of_a_form_is_our_fault(service: Service, name: bytes, value: bytes) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n--x--\r\n"
    answer = service.post(URL, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert 400 <= answer.status_code < 500


def test_kinds_that_are_about_a_field_exist() -> None:
    assert FIELDS.keys() <= KINDS.keys()

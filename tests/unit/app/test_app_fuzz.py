"""Strangers send anything: whatever it is, the answer is no 5xx, and every refusal is a problem document."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest
from app_fakes import picture_bytes
from app_service import Service
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inversion_app import pictures
from inversion_app.errors import KINDS
from inversion_worker.contract import JobOptions

URL = "/v1/inversions"
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=150)
SOUND = {kind: picture_bytes(kind, (160, 120)) for kind in ("PNG", "JPEG", "WEBP")}

texts = st.text(max_size=60)
names = st.one_of(st.sampled_from([*JobOptions.model_fields, "image", ""]), texts)
values = st.one_of(texts, st.integers().map(str), st.sampled_from(["true", "", "1e3", "NaN", "adam", "mean", "\0"]))


def assert_sane(answer: httpx.Response) -> None:
    """202, or a 4xx of a known kind that says so in the right media type."""
    if answer.status_code == 202:
        return
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    kind = KINDS[answer.json()["type"].removeprefix("/problems/")]
    assert kind.status == answer.status_code


@FEW
@given(fields=st.lists(st.tuples(names, values), max_size=6), with_image=st.booleans())
def test_any_form_fields(service: Service, fields: list[tuple[str, str]], with_image: bool) -> None:
    parts: list[tuple[str, tuple[str | None, bytes]]] = [(name, (None, value.encode())) for name, value in fields]
    if with_image:
        parts.append(("image", ("face.png", SOUND["PNG"])))
    assert_sane(service.post(URL, files=parts or {"x": (None, "")}))


@FEW
@given(body=st.binary(max_size=400), kind=st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data"]))
def test_any_body(service: Service, body: bytes, kind: str) -> None:
    assert_sane(service.post(URL, content=body, headers={"Content-Type": kind}))


@FEW
@given(head=st.binary(max_size=120), data=st.binary(max_size=120))
def test_any_part(service: Service, head: bytes, data: bytes) -> None:
    body = b"--x\r\n" + head + b"\r\n\r\n" + data + b"\r\n--x--\r\n"
    assert_sane(service.post(URL, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}))


@FEW
@given(path=st.text(max_size=80), last=st.binary(max_size=20))
def test_any_id(service: Service, path: str, last: bytes) -> None:
    answer = service.get(f"{URL}/{quote(path)}", headers={"Last-Event-ID": last.hex()})
    assert answer.status_code in (404, 405)


@FEW
@given(kind=st.sampled_from(sorted(SOUND)), data=st.data())
def test_any_damage_through_the_api(service: Service, kind: str, data: st.DataObject) -> None:
    assert_sane(service.upload(damaged(SOUND[kind], data)))


@pytest.mark.parametrize("kind", sorted(SOUND))
@MANY
@given(data=st.data())
def test_any_damage(kind: str, data: st.DataObject) -> None:
    """The decoders themselves, without a process between: a refusal names a known problem of the picture."""
    refusal = pictures.inspect(damaged(SOUND[kind], data))
    assert isinstance(refusal, pictures.Sound) or KINDS[refusal[0]].status in (415, 422)


@MANY
@given(
    head=st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP"]), tail=st.binary(max_size=200)
)
def test_anything_behind_a_known_beginning(head: bytes, tail: bytes) -> None:
    refusal = pictures.inspect(head + tail)
    assert not isinstance(refusal, pictures.Sound)
    assert KINDS[refusal[0]].status == 422


def damaged(photo: bytes, data: st.DataObject) -> bytes:
    """The photo with some bytes changed, and perhaps cut short."""
    spoilt = bytearray(photo)
    where = st.integers(0, len(photo) - 1)
    for at, value in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), max_size=8)):
        spoilt[at] = value
    return bytes(spoilt[: data.draw(st.one_of(st.just(len(photo)), where))])

"""Nothing that a request asks for is left aside: every operation of the reference is tried with what it does not know."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from app_fakes import picture_bytes
from app_service import Service, refused, url_of
from fastapi import FastAPI
from PIL import Image

from inversion_app.main import create_app
from inversion_app.settings import AppSettings

pytestmark = pytest.mark.unit

URL = "/v1/inversions"
ID = "0123456789abcdef"
APP: FastAPI = create_app(AppSettings())
OPERATIONS = [
    pytest.param(
        method.upper(),
        path.format(inversion_id=ID, batch_id=ID, step=1, edit_id=ID, pack="faces-64", direction="smile"),
        operation,
        id=f"{method} {path}",
    )
    for path, operations in APP.openapi()["paths"].items()
    for method, operation in operations.items()
]
every = pytest.mark.parametrize(("method", "url", "operation"), OPERATIONS)
Operation = dict[str, Any]


def problems(operation: Operation, status: int) -> set[str]:
    """The kinds that the reference names for a status."""
    answer = operation["responses"].get(str(status), {"content": {}})
    return {name for content in answer["content"].values() for name in content.get("examples", {})}


def names(operation: Operation, where: str) -> list[str]:
    return [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == where]


@every
def test_an_unknown_query_parameter(service: Service, method: str, url: str, operation: Operation) -> None:
    known = names(operation, "query")
    for name in ("nope", *(each.capitalize() for each in known), ""):
        detail = refused(service.request(method, url, params={name: "1"}), 422, "option-unknown")
        assert f"`{name}`" in detail
        assert all(each in detail for each in known)
    assert "option-unknown" in problems(operation, 422)


@every
def test_a_repeated_query_parameter(service: Service, method: str, url: str, operation: Operation) -> None:
    lists = {each["name"] for each in operation.get("parameters", ()) if each["schema"].get("type") == "array"}
    for name in set(names(operation, "query")) - lists:
        answer = service.request(method, f"{url}?{name}=1&{name}=1")
        assert f"`{name}`" in refused(answer, 422, "option-invalid")
    assert "option-invalid" in problems(operation, 422)


@every
def test_a_body_where_none_is_taken(service: Service, method: str, url: str, operation: Operation) -> None:
    """And one that is compressed, where one is."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b""
        yield b"{}"

    if "requestBody" in operation:
        for name in ("gzip", "identity, br", "X"):
            content = gzip.compress(b"{}")
            headers = {"Content-Encoding": name, "Content-Type": "application/json"}
            answer = service.request(method, url, content=content, headers=headers)
            assert name in refused(answer, 415, "encoding-unsupported")
            assert answer.headers["accept-encoding"] == "identity"
        assert "encoding-unsupported" in problems(operation, 415)
        return
    for body in (b'{"steps": 5}', chunks()):
        answer = service.request(method, url, content=body)
        refused(answer, 400, "body-unexpected")
        assert answer.headers["connection"] == "close"
    refused(service.request(method, url, data={"steps": "5"}), 400, "body-unexpected")
    assert "body-unexpected" in problems(operation, 400)


@every
def test_a_header_field_that_nothing_honours(service: Service, method: str, url: str, operation: Operation) -> None:
    for name in ("If-Match", "If-Unmodified-Since", "Content-Range", "X-HTTP-Method-Override"):
        answer = service.request(method, url, headers={name: "x"})
        assert f"`{name.lower()}`" in refused(answer, 400, "header-unsupported")
    assert "header-unsupported" in problems(operation, 400)


@every
def test_a_repeated_header_field(service: Service, method: str, url: str, operation: Operation) -> None:
    for name in names(operation, "header"):
        lines = [(name, "1-0"), (name, "2-0")]
        answer = service.request(method, url, headers=lines)
        if name.lower() in ("accept", "prefer"):  # one list in two lines
            assert "option-invalid" not in answer.text
        else:
            assert f"`{name.lower()}`" in refused(answer, 422, "option-invalid")


class TestTaken:
    """What these refusals must leave alone."""

    def test_a_body_that_was_announced_and_is_empty(self, service: Service) -> None:
        """As some clients send a POST without a body."""

        async def nothing() -> AsyncIterator[bytes]:
            yield b""

        job_id = service.submitted()
        assert service.post(f"{URL}/{job_id}/cancel", content=nothing()).status_code == 200
        assert service.post(f"{URL}/{job_id}/cancel", headers={"Content-Length": "0"}).status_code == 200

    def test_a_body_as_it_is(self, service: Service) -> None:
        body = json.dumps({"image": url_of(picture_bytes())})
        for name in ("identity", "Identity", ""):
            headers = {"Content-Encoding": name, "Content-Type": "application/json"}
            assert service.post(URL, content=body, headers=headers).status_code == 202

    @pytest.mark.parametrize("url", ["/", "/docs", "/problems", "/static/app.js"])
    def test_pages_have_what_links_add(self, service: Service, url: str) -> None:
        assert service.get(url, params={"utm_source": "mail"}).status_code == 200

    def test_accept_in_two_lines(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.run(job_id)
        lines = [("Accept", "text/html"), ("Accept", "application/json")]
        answer = service.get(f"{URL}/{job_id}/latents", headers=lines)
        assert answer.headers["content-type"] == "application/json"


class TestImage:
    @pytest.mark.parametrize(
        ("params", "accept", "kind"),
        [
            ({}, "*/*", "png"), ({}, "image/jpeg", "jpeg"), ({}, "image/webp,*/*;q=0.8", "webp"),
            ({"format": "png"}, "image/webp", "png"), ({"format": "jpeg"}, "*/*", "jpeg"),
            ({"format": "webp"}, "*/*", "webp"),
        ],
    )  # fmt: skip
    def test_forms(self, service: Service, params: dict[str, str], accept: str, kind: str) -> None:
        job_id = service.submitted()
        service.jobs.run(job_id)
        answer = service.get(f"{URL}/{job_id}/image", params=params, headers={"Accept": accept})
        assert (answer.headers["content-type"], answer.headers["vary"]) == (f"image/{kind}", "Accept")
        assert answer.headers["content-disposition"] == f'inline; filename="{job_id[:8]}-image.{kind}"'
        png = service.get(f"{URL}/{job_id}/image")
        with Image.open(io.BytesIO(answer.content)) as given, Image.open(io.BytesIO(png.content)) as exact:
            assert (given.format, given.size) == (kind.upper(), exact.size)
            differ = [
                abs(a - b) for a, b in zip(given.convert("RGB").tobytes(), exact.convert("RGB").tobytes(), strict=True)
            ]
        assert max(differ) <= (6 if kind == "jpeg" else 0)

    def test_another_form(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.run(job_id)
        answer = service.get(f"{URL}/{job_id}/image", params={"format": "gif"})
        assert "`format`" in refused(answer, 422, "option-invalid")

"""Submitting as JSON, with a mask, a start code and preferences; twice; and many at once."""

from __future__ import annotations

import base64
import io
import json
from concurrent.futures import Future
from typing import Any

import httpx
import numpy as np
import pytest
from app_fakes import FACES, npy, picture_bytes
from app_service import Service
from PIL import Image
from safetensors.numpy import save

from app.preferences import wait_s
from worker.contract import ArtifactKey, JobOptions, JobStatus, Priority, StartKind

URL = "/v1/inversions"
CODE = np.linspace(-1, 1, 10 * 128, dtype=np.float32).reshape(10, 128)


def url_of(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


PHOTO = url_of(picture_bytes())


def refused(answer: httpx.Response, status: int, slug: str) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert (body["status"], body["type"]) == (status, f"/problems/{slug}"), body
    detail: str = body["detail"]
    return detail


class TestJson:
    def test_a_photo_and_every_option(self, service: Service) -> None:
        options: dict[str, Any] = {
            "pack": "faces-64", "optimizer": "sgd", "start": "mean", "steps": 7, "seed": 5, "frame_every": 2,
            "align": False, "target_loss": 0.01, "max_seconds": 2.5, "plateau_steps": 9, "paste": False, "priority": "high", "ttl": 60,
            "webhook": "https://example.com/hook?x=1", "webhook_events": ["done", "frame"],
        }  # fmt: skip
        assert set(options) == set(JobOptions.model_fields)
        answer = service.post(URL, json={"image": PHOTO, **options})
        assert answer.status_code == 202, answer.text
        body = answer.json()
        assert service.jobs.files[ArtifactKey.photo(body["id"])] == picture_bytes()
        assert body["options"] == options | {"webhook_events": ["frame", "done"]}
        assert answer.headers["location"] == f"{URL}/{body['id']}"

    def test_null_is_the_default(self, service: Service) -> None:
        nothing = dict.fromkeys(
            ("pack", "start", "target_loss", "max_seconds", "plateau_steps", "ttl", "webhook", "mask", "latents")
        )
        body = service.post(URL, json={"image": PHOTO, **nothing}).json()
        assert service.jobs.records[body["id"]].options == JobOptions()

    def test_with_a_charset(self, service: Service) -> None:
        headers = {"Content-Type": "Application/JSON; charset=utf-8"}
        assert service.post(URL, content=json.dumps({"image": PHOTO}), headers=headers).status_code == 202

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"image": NaN}', b"[" * 100_000, b'{"a": "\xed\xa0\x80"}'],
    )
    def test_what_is_no_object(self, service: Service, body: bytes) -> None:
        answer = service.post(URL, content=body, headers={"Content-Type": "application/json"})
        refused(answer, 422, "json-invalid")

    @pytest.mark.parametrize(
        "image",
        [
            None, 5, [], "", "abc", "https://example.com/a.png", "file:///etc/passwd", "data:image/png,abc",
            "data:image/png;base64", "data:image/png;base64,", "data:image/png;base64,%%%", "data:;base64,a",
            "data:" + "x" * 500 + ";base64,AAAA", "data:image/png;base64,AAAA\n", "data:image/png;base64,ä",
        ],
    )  # fmt: skip
    def test_what_is_no_data_url(self, service: Service, image: object) -> None:
        refused(service.post(URL, json={"image": image}), 422, "data-url-invalid")

    def test_no_image(self, service: Service) -> None:
        refused(service.post(URL, json={}), 422, "image-missing")
        refused(service.post(URL, json={"images": [PHOTO]}), 422, "option-unknown")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("steps", "5"), ("steps", 1.5), ("steps", True), ("align", "true"), ("align", 1), ("seed", None),
            ("target_loss", 0), ("target_loss", "0.1"), ("max_seconds", 3601), ("plateau_steps", 0), ("ttl", 59), ("ttl", 10**9),
            ("priority", "urgent"), ("webhook_events", "done"), ("webhook_events", []), ("webhook_events", ["x"]),
            ("webhook", "ftp://example.com"), ("webhook", "https://"), ("webhook", "https://u:p@example.com"),
            ("webhook", "https://example.com/#a"), ("webhook", "http://[::1"), ("webhook", "http://a:99999"),
            ("webhook", "http://a b"), ("webhook", "javascript:alert(1)"), ("webhook", "https://" + "a" * 3000),
        ],
    )  # fmt: skip
    def test_options_of_another_kind_are_named(self, service: Service, field: str, value: object) -> None:
        answer = service.post(URL, json={"image": PHOTO, field: value})
        assert f"`{field}`" in refused(answer, 422, "option-invalid")

    def test_a_lone_surrogate_is_no_text(self, service: Service) -> None:
        body = b'{"image": "' + PHOTO.encode() + b'", "pack": "\\ud800"}'
        answer = service.post(URL, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422

    def test_the_body_has_its_limit(self, service: Service) -> None:
        answer = service.post(URL, json={"image": url_of(bytes(300_000))})
        refused(answer, 413, "body-too-large")

    def test_the_picture_is_checked_as_in_a_form(self, service: Service) -> None:
        refused(service.post(URL, json={"image": url_of(b"<svg/>", "image/svg+xml")}), 415, "picture-unsupported")


class TestForm:
    def test_lists_have_commas(self, service: Service) -> None:
        job_id = service.submitted(webhook="https://example.com", webhook_events="done, failed", priority="low")
        options = service.jobs.records[job_id].options
        assert (options.webhook, options.priority) == ("https://example.com", Priority.LOW)
        assert [kind.value for kind in options.webhook_events] == ["done", "failed"]
        refused(service.upload(webhook_events="done,x"), 422, "option-invalid")

    @pytest.mark.parametrize("field", ["mask", "latents"])
    def test_text_where_a_file_belongs(self, service: Service, field: str) -> None:
        assert f"`{field}`" in refused(service.upload(**{field: "x"}), 422, "option-invalid")
        assert service.upload(**{field: ""}).status_code == 202  # a browser's empty field

    @pytest.mark.parametrize("field", ["mask", "latents"])
    def test_files_given_twice(self, service: Service, field: str) -> None:
        files = [("image", ("a.png", picture_bytes())), (field, ("b", b"x")), (field, ("c", b"x"))]
        assert f"`{field}`" in refused(service.post(URL, files=files), 422, "option-invalid")


class TestStart:
    def sent(self, service: Service, code: bytes, **fields: str) -> httpx.Response:
        files = {"image": ("a.png", picture_bytes()), "latents": ("code", code)}
        return service.post(URL, files=files, data=fields)

    def stored(self, service: Service, answer: httpx.Response) -> np.ndarray[Any, Any]:
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        assert service.jobs.records[job_id].options.start is StartKind.LATENTS
        code: np.ndarray[Any, Any] = np.load(io.BytesIO(service.jobs.files[ArtifactKey.start(job_id)]))
        assert (code.dtype, code.shape) == (np.float32, (10, 128))
        return code

    @pytest.mark.parametrize(
        "code",
        [
            npy(CODE), npy(CODE[None]), npy(np.asfortranarray(CODE)), npy(CODE.astype(np.float64)),
            npy(CODE.astype(">f4")), save({"latents": CODE}), save({"w": CODE}), save({"w": CODE, "latents": CODE}),
            json.dumps(CODE.tolist()).encode(), json.dumps({"latents": CODE.tolist()}).encode(),
        ],
    )  # fmt: skip
    def test_forms(self, service: Service, code: bytes) -> None:
        np.testing.assert_array_equal(self.stored(service, self.sent(service, code)), CODE)

    def test_in_json(self, service: Service) -> None:
        for latents in (CODE.tolist(), {"latents": CODE.tolist()}, url_of(npy(CODE), "application/octet-stream")):
            answer = service.post(URL, json={"image": PHOTO, "latents": latents, "start": "latents"})
            np.testing.assert_array_equal(self.stored(service, answer), CODE)

    @pytest.mark.parametrize("format", ["npy", "safetensors", "json"])
    def test_what_was_given_can_be_sent_back(self, service: Service, format: str) -> None:
        job_id = service.submitted()
        service.jobs.run(job_id)
        given = service.get(f"{URL}/{job_id}/latents?format={format}").content
        np.testing.assert_array_equal(
            self.stored(service, self.sent(service, given)), np.arange(1280, dtype=np.float32).reshape(10, 128)
        )

    @pytest.mark.parametrize(
        "code",
        [
            b"x", b"\x93NUMPY", npy(CODE)[:-1], npy(CODE) + b"x", npy(CODE[:9]), npy(CODE[:, :5]), npy(CODE[0]),
            npy(CODE.astype(int)), npy(np.full_like(CODE, np.nan)), npy(CODE.astype(np.float64) * 1e300),
            npy(CODE)[:60].replace(b"10", b"99"), b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False}",
            npy(CODE).replace(b"(10, 128)", b"(9999999,"), save({"a": CODE, "b": CODE}), save({"a": CODE.astype(int)}),
            b"\x10\0\0\0\0\0\0\0{garbage}" + bytes(99), b"\xff" * 8 + b"{", b"[", b"[[1, 2], [3]]", b"[[true]]",
            b'[["1"]]', b"{}", b'{"latents": 5}', json.dumps([[1] * 4097]).encode(), b"[" * 50_000,
            b"[[1e999]]", b"[]", b"[[]]",
        ],
    )  # fmt: skip
    def test_what_is_no_code(self, service: Service, code: bytes) -> None:
        refused(self.sent(service, code), 422, "latents-invalid")

    @pytest.mark.parametrize("said", [{"pack": "horses"}, {"digest": "sha256:" + 64 * "0"}])
    def test_a_code_of_another_pack(self, service: Service, said: dict[str, str]) -> None:
        metadata = {"pack": FACES.name, "version": FACES.version, "digest": FACES.digest}
        assert self.sent(service, save({"latents": CODE}, metadata)).status_code == 202
        refused(self.sent(service, save({"latents": CODE}, metadata | said)), 422, "latents-invalid")

    def test_a_start_of_that_name_needs_a_code_and_no_other(self, service: Service) -> None:
        assert "`latents` came along" in refused(service.upload(start="latents"), 422, "option-invalid")
        refused(self.sent(service, npy(CODE), start="mean"), 422, "option-invalid")


class TestMask:
    def sent(self, service: Service, mask: Image.Image | bytes, photo: bytes | None = None) -> httpx.Response:
        if isinstance(mask, Image.Image):
            buffer = io.BytesIO()
            mask.save(buffer, "PNG")
            mask = buffer.getvalue()
        photo = picture_bytes() if photo is None else photo
        return service.post(URL, files={"image": ("a", photo), "mask": ("m", mask)})

    def stored(self, service: Service, answer: httpx.Response) -> Image.Image:
        assert answer.status_code == 202, answer.text
        assert answer.json()["masked"]
        return Image.open(io.BytesIO(service.jobs.files[ArtifactKey.mask(answer.json()["id"])]))

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16"])
    def test_white_agrees(self, service: Service, mode: str) -> None:
        mask = Image.new("L", (96, 80), 0)
        mask.paste(255, (0, 0, 48, 80))
        if mode == "I;16":
            mask = Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)
        stored = self.stored(service, self.sent(service, mask if mode == "I;16" else mask.convert(mode)))
        assert (stored.mode, stored.size) == ("L", (96, 80))
        assert (stored.getpixel((10, 10)), stored.getpixel((90, 10))) == (255, 0)

    def test_what_is_transparent_is_free(self, service: Service) -> None:
        mask = Image.new("RGBA", (96, 80), (255, 255, 255, 255))
        mask.paste((255, 255, 255, 0), (48, 0, 96, 80))
        stored = self.stored(service, self.sent(service, mask))
        assert (stored.getpixel((10, 10)), stored.getpixel((90, 10))) == (255, 0)

    def test_it_is_as_large_as_the_upright_photo(self, service: Service) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        Image.new("RGB", (96, 80), "red").save(buffer, "JPEG", exif=exif)
        lying, upright = Image.new("L", (96, 80), 255), Image.new("L", (80, 96), 255)
        assert "80 x 96" in refused(self.sent(service, lying, buffer.getvalue()), 422, "mask-invalid")
        assert self.stored(service, self.sent(service, upright, buffer.getvalue())).size == (80, 96)

    @pytest.mark.parametrize("mask", [b"x", picture_bytes()[:200], picture_bytes(size=(80, 96)), b"<svg/>"])
    def test_what_is_no_mask(self, service: Service, mask: bytes) -> None:
        refused(self.sent(service, mask), 422, "mask-invalid")

    def test_all_black(self, service: Service) -> None:
        assert "black" in refused(self.sent(service, Image.new("L", (96, 80), 0)), 422, "mask-invalid")


class TestPrefer:
    def waited(self, service: Service, *prefer: str) -> httpx.Response:
        headers = [("Prefer", value) for value in prefer]
        return service.request("POST", URL, files={"image": ("a", picture_bytes())}, headers=headers)

    def test_ready_in_time(self, service: Service) -> None:
        service.jobs.runs = True
        answer = self.waited(service, "wait=30")
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert answer.headers["preference-applied"] == "wait=30"
        assert answer.headers["location"] == f"{URL}/{answer.json()['id']}"
        assert "retry-after" not in answer.headers

    def test_it_ends_while_it_is_waited_for(self, service: Service) -> None:
        waiting: Future[httpx.Response] = service.start(URL, "POST", files={"image": ("a", picture_bytes())},
                                                        headers={"Prefer": "wait=30"})  # fmt: skip
        while not service.jobs.records:
            service.pause(0.01)
        (job_id,) = service.jobs.records
        service.jobs.fail(job_id)
        answer = waiting.result(timeout=10)
        assert (answer.status_code, answer.json()["status"]) == (200, "failed")

    def test_not_ready_in_time(self, service: Service) -> None:
        answer = self.waited(service, "wait=0")
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert answer.headers["preference-applied"] == "wait=0"
        assert answer.headers["retry-after"] == "3"

    def test_without_it_nothing_is_waited_for(self, service: Service) -> None:
        service.jobs.runs = True
        for prefer in ((), ("respond-async",), ("wait=soon", "handling=strict")):
            answer = self.waited(service, *prefer)
            assert (answer.status_code, "preference-applied" in answer.headers) == (202, False)

    @pytest.mark.parametrize(
        ("lines", "seconds"),
        [
            (["wait=5"], 5), (["WAIT = 5"], 5), (['wait="5"'], 5), (["foo, wait=5"], 5), (["foo; bar=1, wait=5;x"], 5),
            (["foo", "wait=5"], 5), (["wait=5", "wait=6"], 5), (["wait=99999"], 60), (["wait=-1"], None),
            (["wait=1.5"], None), (["wait"], None), (["respond-async, wait=5"], None), (["wait=5, respond-async"], 5),
            ([""], None), (["wait=" + "9" * 400], None),
        ],
    )  # fmt: skip
    def test_how_it_is_read(self, lines: list[str], seconds: int | None) -> None:
        class Request:
            headers = httpx.Headers([("prefer", line) for line in lines])

        Request.headers.getlist = Request.headers.get_list  # type: ignore[attr-defined]
        assert wait_s(Request, 60) == seconds  # type: ignore[arg-type]


class TestIdempotency:
    def send(self, service: Service, key: str = "k1", url: str = URL, **fields: str) -> httpx.Response:
        files = {"image": ("a.png", picture_bytes())}  # with a boundary of its own each time
        return service.post(url, files=files, data=fields, headers={"Idempotency-Key": key})

    def test_the_same_again(self, service: Service) -> None:
        first = self.send(service, steps="5")
        assert "idempotent-replayed" not in first.headers
        for key in ("k1", '"k1"'):
            again = self.send(service, key, steps="5")
            assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
            assert again.headers["idempotent-replayed"] == "true"
            assert again.headers["location"] == first.headers["location"]
        assert len(service.jobs.records) == 1

    def test_another_body(self, service: Service) -> None:
        self.send(service, steps="5")
        refused(self.send(service, steps="6"), 422, "idempotency-key-reused")
        other = {"image": ("a.png", picture_bytes(size=(100, 100)))}
        answer = service.post(URL, files=other, data={"steps": "5"}, headers={"Idempotency-Key": "k1"})
        refused(answer, 422, "idempotency-key-reused")
        refused(self.send(service, url="/v1/batches", steps="5"), 422, "idempotency-key-reused")
        assert self.send(service, "k2", steps="6").status_code == 202

    def test_still_being_accepted(self, service: Service) -> None:
        first = self.send(service)
        (print_, _) = service.jobs.once[":k1"]
        service.jobs.once[":k1"] = (print_, "")
        answer = self.send(service)
        refused(answer, 409, "idempotency-key-in-use")
        assert answer.headers["retry-after"] == "1"
        service.jobs.once[":k1"] = (print_, first.json()["id"])
        assert self.send(service).status_code == 202

    def test_what_was_refused_may_be_corrected(self, service: Service) -> None:
        assert self.send(service, steps="-1").status_code == 422
        assert self.send(service, steps="1").status_code == 202

    def test_what_was_made_is_gone(self, service: Service) -> None:
        job_id = self.send(service).json()["id"]
        service.jobs.expire(job_id)
        refused(self.send(service), 410, "inversion-expired")

    def test_with_waiting(self, service: Service) -> None:
        job_id = self.send(service).json()["id"]
        service.jobs.run(job_id)
        answer = service.post(URL, files={"image": ("a.png", picture_bytes())},
                              headers={"Idempotency-Key": "k1", "Prefer": "wait=5"})  # fmt: skip
        assert (answer.status_code, answer.json()["id"]) == (200, job_id)

    @pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ä"])
    def test_wrong_keys(self, service: Service, key: str) -> None:
        answer = service.post(URL, files={"image": ("a.png", picture_bytes())},
                              headers={"Idempotency-Key": key.encode("latin-1")})  # fmt: skip
        refused(answer, 422, "option-invalid")


class TestBatch:
    BATCHES = "/v1/batches"

    def submitted(self, service: Service, count: int = 3, **fields: str) -> dict[str, Any]:
        files = [("image", (f"{n}.png", picture_bytes(size=(90 + n, 80)))) for n in range(count)]
        answer = service.post(self.BATCHES, files=files, data=fields)
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        assert answer.headers["location"] == f"{self.BATCHES}/{body['id']}" == body["links"]["self"]
        return body

    def test_a_form(self, service: Service) -> None:
        body = self.submitted(service, 3, steps="7")
        assert (body["status"], body["total"], body["counts"]["queued"]) == ("queued", 3, 3)
        for index, inversion in enumerate(body["inversions"]):
            assert inversion["steps"] == 7
            assert inversion["links"]["batch"] == body["links"]["self"]
            photo = service.jobs.files[ArtifactKey.photo(inversion["id"])]
            assert photo == picture_bytes(size=(90 + index, 80))

    def test_json(self, service: Service) -> None:
        answer = service.post(self.BATCHES, json={"images": [PHOTO] * 64, "steps": 3})
        assert (answer.status_code, answer.json()["total"]) == (202, 64)

    def test_too_many(self, service: Service) -> None:
        refused(service.post(self.BATCHES, json={"images": [PHOTO] * 65}), 422, "batch-too-large")
        for count in (65, 66, 67, 100):
            tiny = [("image", (f"{n}", b"x")) for n in range(count)]
            refused(service.post(self.BATCHES, files=tiny), 422, "batch-too-large")

    def test_all_or_none(self, service: Service) -> None:
        answer = service.post(self.BATCHES, json={"images": [PHOTO, PHOTO, url_of(b"x")]})
        assert "photo 2" in refused(answer, 415, "picture-unsupported")
        assert not service.jobs.records

    @pytest.mark.parametrize("body", [{}, {"images": []}, {"images": 5}, {"images": None}])
    def test_none_at_all(self, service: Service, body: dict[str, Any]) -> None:
        refused(service.post(self.BATCHES, json=body), 422, "image-missing")

    def test_no_mask_and_no_start(self, service: Service) -> None:
        for extra in ({"mask": PHOTO}, {"latents": CODE.tolist()}):
            refused(service.post(self.BATCHES, json={"images": [PHOTO], **extra}), 422, "option-unknown")
        refused(service.post(self.BATCHES, json={"images": [PHOTO], "start": "latents"}), 422, "option-invalid")

    def test_its_status_is_that_of_the_whole(self, service: Service) -> None:
        body = self.submitted(service)
        url = body["links"]["self"]
        first, second, third = [inversion["id"] for inversion in body["inversions"]]
        service.jobs.start(first)
        assert service.get(url).json()["status"] == "running"
        service.jobs.succeed(first)
        assert service.get(url).json()["status"] == "running"
        service.jobs.run(second)
        answer = service.get(url)
        assert answer.headers["retry-after"] == "3"
        assert service.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        service.jobs.fail(third)
        answer = service.get(url)
        assert (answer.json()["status"], "retry-after" in answer.headers) == ("failed", False)
        assert answer.json()["counts"] | {"queued": 0} == {
            "queued": 0, "running": 0, "succeeded": 2, "failed": 1, "canceled": 0, "deleted": 0,
        }  # fmt: skip
        service.request("DELETE", f"{URL}/{third}")
        body = service.get(url).json()
        assert (body["status"], body["inversions"][2], body["counts"]["deleted"]) == ("succeeded", None, 1)

    def test_cancel_all(self, service: Service) -> None:
        body = self.submitted(service)
        service.jobs.run(body["inversions"][0]["id"])
        answer = service.post(body["links"]["cancel"])
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
        assert answer.json()["counts"]["canceled"] == 2
        assert "cancel" not in answer.json()["links"]

    def test_delete_all(self, service: Service) -> None:
        body = self.submitted(service)
        url = body["links"]["self"]
        assert service.request("DELETE", url).status_code == 204
        assert (service.jobs.records, service.jobs.files) == ({}, {})
        refused(service.get(url), 404, "batch-not-found")

    def test_expired_and_unknown(self, service: Service) -> None:
        body = self.submitted(service)
        del service.jobs.batches[body["id"]]
        service.jobs.tombstones.add(("", body["id"]))
        refused(service.get(body["links"]["self"]), 410, "batch-expired")
        for wrong in ("x", "0" * 32, "a" * 65, "..%2f"):
            assert service.get(f"{self.BATCHES}/{wrong}").status_code == 404

    def test_idempotency(self, service: Service) -> None:
        answers = [
            service.post(self.BATCHES, json={"images": [PHOTO]}, headers={"Idempotency-Key": "k"}) for _ in range(2)
        ]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        assert answers[1].headers["idempotent-replayed"] == "true"
        assert len(service.jobs.records) == 1


def test_another_tenants_are_as_if_they_were_not(service: Service) -> None:
    """Whoever asks is tenant "" here; records of others are made by hand."""
    job_id = service.submitted()
    batch = service.post("/v1/batches", json={"images": [PHOTO]}).json()
    service.jobs.run(job_id)
    for record_id in list(service.jobs.records):
        service.jobs.change(record_id, tenant="other")
    service.jobs.batches[batch["id"]] = service.jobs.batches[batch["id"]].model_copy(update={"tenant": "other"})
    for below in ("", "/frames", "/frames/0", "/animation", "/strip", "/aligned", "/image", "/pasted", "/latents",
                  "/metrics", "/events"):  # fmt: skip
        refused(service.get(f"{URL}/{job_id}{below}"), 404, "inversion-not-found")
    for method, below in (("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")):
        refused(service.request(method, f"{URL}/{job_id}{below}"), 404, "inversion-not-found")
        if below != "/retry":
            url = f"/v1/batches/{batch['id']}{below}"
            refused(service.request(method, url), 404, "batch-not-found")
    assert service.get(URL).json() == {"inversions": [], "next": None}
    assert service.get("/v1/usage").json()["total"]["submitted"] == 0
    service.jobs.tombstones.add(("other", job_id))
    del service.jobs.records[job_id]
    refused(service.get(f"{URL}/{job_id}"), 404, "inversion-not-found")
    assert all(record.status is not JobStatus.CANCELED for record in service.jobs.records.values())

"""Submitting as JSON or as a form, with a mask or a start code."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from app_fakes import FACES, npy, picture_bytes
from app_service import Service, refused, url_of
from PIL import Image
from safetensors.numpy import save

from inversion_worker.contract import ArtifactKey, JobOptions, JobStatus, Priority, StartKind

URL = "/v1/inversions"
CODE = np.linspace(-1, 1, 10 * 128, dtype=np.float32).reshape(10, 128)
PHOTO = url_of(picture_bytes())


class TestJson:
    def test_a_photo_and_every_option(self, service: Service) -> None:
        options: dict[str, Any] = {
            "pack": "faces-64", "optimizer": "sgd", "start": "mean", "steps": 7, "detail_steps": 3, "detail_px": 32, "seed": 5, "frame_every": 2,
            "align": False, "target_loss": 0.01, "max_seconds": 2.5, "plateau_steps": 9, "focus": 4.5, "paste": False, "priority": "high", "ttl": 60,
            "webhook": "https://example.com/hook?x=1", "webhook_events": ["done", "frame"],
        }  # fmt: skip
        assert set(options) == set(JobOptions.model_fields) - {"face", "quad"}  # they contradict `align`
        answer = service.post(URL, json={"image": PHOTO, **options})
        assert answer.status_code == 202, answer.text
        body = answer.json()
        assert service.jobs.files[ArtifactKey.photo(body["id"])] == picture_bytes()
        assert body["options"] == options | {"webhook_events": ["frame", "done"], "face": None, "quad": None}
        assert answer.headers["location"] == f"{URL}/{body['id']}"

    def test_null_is_the_default(self, service: Service) -> None:
        nothing = dict.fromkeys(
            ("pack", "optimizer", "start", "steps", "detail_steps", "detail_px", "face", "quad", "focus", "target_loss", "max_seconds", "plateau_steps", "ttl",
             "webhook", "mask", "latents")
        )  # fmt: skip
        body = service.post(URL, json={"image": PHOTO, **nothing}).json()
        assert service.jobs.records[body["id"]].options == JobOptions(optimizer="adam", steps=100, detail_steps=0)

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
            ("focus", -1), ("focus", 101), ("focus", "4"), ("face", -1), ("face", "1"), ("face", 1000), ("quad", 3),
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

    def test_0_and_1_are_black_and_white(self, service: Service) -> None:
        mask = Image.new("L", (96, 80), 0)
        mask.paste(1, (0, 0, 48, 80))
        stored = self.stored(service, self.sent(service, mask))
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

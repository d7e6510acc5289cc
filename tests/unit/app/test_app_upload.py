"""POST /v1/inversions: what is taken, and that everything else is refused with its own problem."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient, picture_bytes
from app_service import LIMIT_BYTES, Service, running

from inversion_app import pictures
from inversion_app.settings import AppSettings
from inversion_pictures.formats import FORMATS, HEIC_REMEDY
from inversion_worker.contract import ArtifactKey, JobOptions, StartKind

URL = "/v1/inversions"


def refused(answer: httpx.Response, status: int, slug: str) -> str:
    """Assert that the answer is this problem; its detail."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert (body["status"], body["type"]) == (status, f"/problems/{slug}"), body
    assert answer.status_code == status
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == URL
    return str(body["detail"])


@pytest.fixture(autouse=True)
def nothing_left(service: Service) -> Iterator[None]:
    """Whatever was refused made no job and stored no byte."""
    yield
    accepted = {ArtifactKey.photo(job_id) for job_id in service.jobs.records}
    assert set(service.jobs.files) == accepted


class TestAccepted:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_answers_202_and_says_where_to_look(self, service: Service, kind: str) -> None:
        photo = picture_bytes(kind)
        answer = service.upload(photo)
        body = answer.json()
        assert answer.status_code == 202
        assert answer.headers["location"] == body["links"]["self"] == f"{URL}/{body['id']}"
        assert answer.headers["retry-after"] == "3"
        assert (body["status"], body["queue_position"]) == ("queued", 0)
        assert set(body["links"]) == {"self", "events", "frames", "cancel", "finish"}
        assert service.jobs.files[ArtifactKey.photo(body["id"])] == photo

    @pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "CMYK", "1", "I;16"])
    def test_unusual_but_sound_modes(self, service: Service, mode: str) -> None:
        kind = "JPEG" if mode == "CMYK" else "PNG"
        assert service.upload(picture_bytes(kind, mode=mode)).status_code == 202

    def test_options_reach_the_job(self, service: Service) -> None:
        job_id = service.submitted(
            pack="faces-64", optimizer="sgd", start="mean", steps="7", seed="5", frame_every="2", align="false"
        )
        assert service.jobs.records[job_id].options == JobOptions(
            pack="faces-64",
            optimizer="sgd",
            start=StartKind.MEAN,
            steps=7,
            detail_steps=0,
            seed=5,
            frame_every=2,
            align=False,
        )

    def test_empty_values_are_defaults(self, service: Service) -> None:
        job_id = service.submitted(pack="", start="", steps="")
        assert service.jobs.records[job_id].options == JobOptions(optimizer="adam", steps=100, detail_steps=0)

    def test_queued_while_no_worker_lives(self, service: Service) -> None:
        service.jobs.announced = []
        assert service.upload(pack="any", optimizer="any").status_code == 202

    def test_smallest_picture(self, service: Service) -> None:
        assert service.upload(picture_bytes(size=(64, 64))).status_code == 202

    def test_a_photo_larger_than_what_is_kept_in_memory(self, service: Service, tmp_path: Path) -> None:
        photo = picture_bytes("JPEG") + bytes(LIMIT_BYTES - 20_000)  # trailing bytes are no part of the picture
        job_id = service.upload(photo).json()["id"]
        assert service.jobs.files[ArtifactKey.photo(job_id)] == photo


class TestForm:
    @pytest.mark.parametrize("kind", ["text/json", "application/x-www-form-urlencoded", "image/jpeg", ""])
    def test_not_multipart(self, service: Service, kind: str) -> None:
        answer = service.post(URL, content=b"{}", headers={"Content-Type": kind})
        assert "curl -F" in refused(answer, 415, "not-multipart")

    def test_no_body(self, service: Service) -> None:
        refused(service.post(URL), 415, "not-multipart")

    @pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary="])
    def test_no_boundary(self, service: Service, kind: str) -> None:
        refused(service.post(URL, content=b"--x--", headers={"Content-Type": kind}), 422, "form-invalid")

    @pytest.mark.parametrize("charset", ["idna", "undefined", "punycode", "base64", "no-such", "utf-16"])
    def test_hostile_charsets(self, service: Service, charset: str) -> None:
        body = b'--x\r\nContent-Disposition: form-data; name="\xff\xfe..a"\r\n\r\n\xff..\x80\r\n--x--\r\n'
        answer = service.post(
            URL, content=body, headers={"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
        )
        assert answer.status_code == 422

    def test_cut_short(self, service: Service) -> None:
        body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nab'
        answer = service.post(URL, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert "cut short" in refused(answer, 422, "form-invalid")

    def test_no_image(self, service: Service) -> None:
        refused(service.post(URL, files={"steps": (None, "5")}), 422, "image-missing")

    def test_image_as_text(self, service: Service) -> None:
        assert "text" in refused(service.post(URL, files={"image": (None, "abc")}), 422, "image-missing")

    def test_empty_image(self, service: Service) -> None:
        assert "empty" in refused(service.upload(b""), 422, "image-missing")

    @pytest.mark.parametrize("count", [2, 3])
    def test_several_images(self, service: Service, count: int) -> None:
        photos = [("image", (f"{i}.png", picture_bytes())) for i in range(count)]
        refused(service.post(URL, files=photos), 422, "image-repeated")

    def test_unknown_field_is_named_and_the_known_are_listed(self, service: Service) -> None:
        detail = refused(service.upload(stepz="5"), 422, "option-unknown")
        assert "`stepz`" in detail
        assert (
            "image, mask, latents, source, metadata, pack, optimizer, start, steps, detail_steps, detail_px, seed, frame_every, align"
            in detail
        )

    @pytest.mark.parametrize("part", [(None, ""), ("", b""), ("a.png", b"x")], ids=["empty", "no file", "file"])
    def test_unknown_field_whatever_is_in_it(self, service: Service, part: tuple[str | None, str | bytes]) -> None:
        files = {"image": ("a.png", picture_bytes()), "photo": part}
        assert "`photo`" in refused(service.post(URL, files=files), 422, "option-unknown")

    @pytest.mark.parametrize(("field", "slug"), [("mask", "mask-invalid"), ("latents", "latents-invalid")])
    def test_an_empty_file(self, service: Service, field: str, slug: str) -> None:
        """Somebody chose it, so leaving it aside would do another thing than was asked for."""
        files = {"image": ("a.png", picture_bytes()), field: ("chosen", b"")}
        detail = refused(service.post(URL, files=files), 422, slug)
        assert f"`{field}`" in detail
        assert "empty" in detail

    @pytest.mark.parametrize("field", ["mask", "latents"])
    def test_no_file_chosen(self, service: Service, field: str) -> None:
        """A browser sends a field of files that nobody used as a part without a name and without a byte."""
        head = 'Content-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n'
        parts = [head.format("image", "a.png").encode() + picture_bytes(), head.format(field, "").encode()]
        body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
        answer = service.post(URL, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 202, answer.text

    def test_a_file_where_a_value_belongs(self, service: Service) -> None:
        files = {"image": ("a.png", picture_bytes()), "steps": ("b.png", b"5")}
        refused(service.post(URL, files=files), 422, "option-invalid")

    def test_option_twice(self, service: Service) -> None:
        files = [("image", ("a.png", picture_bytes())), ("steps", (None, "5")), ("steps", (None, "6"))]
        assert "`steps`" in refused(service.post(URL, files=files), 422, "option-invalid")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("steps", "-1"), ("steps", "1001"), ("steps", "many"), ("seed", "-1"), ("frame_every", "0"),
            ("align", "perhaps"), ("align", "1"), ("start", "nowhere"),
        ],
    )  # fmt: skip
    def test_invalid_values_are_named(self, service: Service, field: str, value: str) -> None:
        assert f"`{field}`" in refused(service.upload(**{field: value}), 422, "option-invalid")


class TestPacks:
    def test_unknown_pack_lists_the_known(self, service: Service) -> None:
        assert "faces-64, small" in refused(service.upload(pack="horses"), 422, "pack-not-found")

    def test_optimizer_that_the_pack_lacks(self, service: Service) -> None:
        assert "Offered: lbfgs, nag" in refused(service.upload(pack="small", optimizer="adam"), 422, "option-invalid")

    @pytest.mark.parametrize(("pack", "optimizer"), [("", "adam"), ("faces-64", "adam"), ("small", "lbfgs")])
    def test_without_a_name_the_optimizer_is_the_packs_own(self, service: Service, pack: str, optimizer: str) -> None:
        answer = service.upload(pack=pack)
        assert answer.status_code == 202
        assert answer.json()["options"]["optimizer"] == optimizer

    def test_while_no_worker_is_there_the_optimizer_is_left_to_the_worker(self, service: Service) -> None:
        service.jobs.announced = []
        assert service.upload().json()["options"]["optimizer"] is None

    def test_start_that_the_pack_lacks(self, service: Service) -> None:
        detail = refused(service.upload(pack="small", optimizer="lbfgs", start="encoder"), 422, "option-invalid")
        assert "Offered: mean" in detail

    def test_without_a_name_the_default_pack_is_asked(self, service: Service) -> None:
        refused(service.upload(optimizer="lbfgs"), 422, "option-invalid")


class TestBodyLimit:
    def test_announced(self, service: Service) -> None:
        answer = service.upload(bytes(LIMIT_BYTES + 1))
        assert f"{LIMIT_BYTES:,}" in refused(answer, 413, "body-too-large")
        assert answer.headers["connection"] == "close"

    @pytest.mark.parametrize("announced", [None, "10", "0", "nonsense"])
    def test_counted_while_it_arrives(self, service: Service, announced: str | None) -> None:
        """Without a length, or with a false one, not much more than the limit is ever read."""
        sent_bytes = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent_bytes
            yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            for _ in range(1000):
                sent_bytes += 10_000
                yield bytes(10_000)

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        if announced is not None:
            headers["Content-Length"] = announced
        refused(service.post(URL, content=body(), headers=headers), 413, "body-too-large")
        assert sent_bytes <= LIMIT_BYTES + 20_000

    def test_absurd_length(self, service: Service) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "9" * 5000}
        refused(service.post(URL, content=b"", headers=headers), 413, "body-too-large")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestPicture:
    @pytest.mark.parametrize(
        "content",
        [
            b"no picture",
            b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%PDF-1.7",
            b"\0",
        ],
    )
    def test_another_format(self, service: Service, content: bytes) -> None:
        assert "JPEG" in refused(service.upload(content), 415, "picture-unsupported")

    @pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic", b"heix\0\0\0\0mif1heix"])
    def test_a_heic_photo_is_told_how_to_become_a_jpeg(self, brands: bytes) -> None:
        without = replace(pictures.LIMITS, formats=FORMATS)
        found = pictures.inspect(b"\0\0\0\x18ftyp" + brands + bytes(100), limits=without)
        assert found == ("picture-unsupported", f"It is a HEIC photo, which cannot be decoded here. {HEIC_REMEDY}")

    @pytest.mark.parametrize("brands", [b"mif1\0\0\0\0mif1miaf", b"mif1\0\0\0\0avifmif1"])
    def test_other_files_of_that_family_are_not_called_heic(self, service: Service, brands: bytes) -> None:
        assert "HEIC" not in service.upload(b"\0\0\0\x18ftyp" + brands + bytes(100)).text

    @pytest.mark.parametrize("size", [(1, 1), (63, 500), (500, 63)])
    def test_too_small(self, service: Service, size: tuple[int, int]) -> None:
        detail = refused(service.upload(picture_bytes(size=size)), 422, "picture-too-small")
        assert f"{size[0]} x {size[1]}" in detail

    @pytest.mark.parametrize("size", [(10_000, 6_000), (50_000_001, 64), (2**31 - 1, 2**31 - 1)])
    def test_bomb_is_known_by_its_header(self, service: Service, size: tuple[int, int]) -> None:
        refused(service.upload(png_header(*size)), 422, "picture-too-large")

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    @pytest.mark.parametrize("kept", [0.02, 0.3, 0.9])
    def test_truncated(self, service: Service, kind: str, kept: float) -> None:
        photo = picture_bytes(kind, (300, 300))
        cut = photo[: max(12, int(len(photo) * kept))]
        refused(service.upload(cut), 422, "picture-invalid")

    def test_decoding_has_a_time_limit(self, portal: BlockingPortal) -> None:
        jobs = FakeJobClient()
        with running(portal, AppSettings(decode_timeout_s=1e-6), jobs) as service:
            assert "longer than" in refused(service.upload(), 422, "picture-invalid")
        assert not jobs.files

    def test_size_exactly_at_the_limit_is_not_refused_for_it(self) -> None:
        refusal = pictures.inspect(png_header(10_000, 5_000))
        assert refusal is not None
        assert refusal[0] == "picture-invalid"

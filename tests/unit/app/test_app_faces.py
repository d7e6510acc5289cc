"""Looking at a photo, choosing a face, and what is known of a mask before a job is made."""

from __future__ import annotations

import json
import time
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import SEEN, FakeJobClient, picture_bytes
from app_service import LIMIT_BYTES, Service, refused, running, url_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from inversion_app.errors import ProblemError
from inversion_app.settings import AppSettings
from inversion_app.uploads import crop_of
from inversion_worker.contract import FaceInfo, JobOptions, Quad, Seen, quad_fault, share_inside
from inversion_worker.frames import png
from inversion_worker.transitions import encode_fields

pytestmark = pytest.mark.unit

URL, LOOK = "/v1/inversions", "/v1/faces"
PHOTO = picture_bytes()
"""96 x 80 px."""
LEFT: Quad = ((0, 0), (0, 40), (40, 40), (40, 0))
QUAD = "0,0,0,40,40,40,40,0"


def mask(box: tuple[int, int, int, int] | None = None, size: tuple[int, int] = (96, 80)) -> bytes:
    """Black, with a white rectangle."""
    picture = Image.new("L", size)
    if box is not None:
        picture.paste(255, box)
    return png(picture)


def looked(service: Service, photo: bytes = PHOTO, **fields: str) -> Any:
    return service.post(LOOK, files={"image": ("a.png", photo)}, data=fields)


class TestLook:
    def test_the_faces_of_a_photo(self, service: Service) -> None:
        answer = looked(service)
        assert answer.status_code == 200, answer.text
        assert answer.json() == json.loads(SEEN.model_dump_json())
        assert answer.headers["cache-control"] == "private, no-store"
        assert service.post(LOOK, json={"image": url_of(PHOTO)}).json() == answer.json()
        assert service.jobs.looks == [(PHOTO, "")] * 2
        assert (service.jobs.records, service.jobs.files) == ({}, {})

    def test_a_photo_without_any(self, service: Service) -> None:
        service.jobs.seen = Seen(photo=SEEN.photo, faces=[])
        assert looked(service).json()["faces"] == []

    def test_where_no_worker_answers(self, service: Service) -> None:
        service.jobs.seen = None
        answer = looked(service)
        refused(answer, 503, "no-worker-answers")
        assert int(answer.headers["retry-after"]) > 0

    def test_what_is_sent_is_checked_as_an_upload_is(self, service: Service) -> None:
        refused(looked(service, b"no picture"), 415, "picture-unsupported")
        refused(looked(service, PHOTO[:-30]), 422, "picture-invalid")
        refused(looked(service, bytes(LIMIT_BYTES + 1)), 413, "body-too-large")
        refused(service.post(LOOK, json={}), 422, "image-missing")
        assert "`steps`" in refused(looked(service, steps="5"), 422, "option-unknown")
        assert "`steps`" in refused(looked(service, steps=""), 422, "option-unknown")
        files = {"image": ("a.png", PHOTO), "mask": ("b.png", mask())}
        assert "`mask`" in refused(service.post(LOOK, files=files), 422, "option-unknown")
        refused(service.post(LOOK, files=[("image", ("a", PHOTO)), ("image", ("b", PHOTO))]), 422, "image-repeated")
        assert service.jobs.looks == []

    def test_looks_that_are_too_many_are_told_to_come_back(self, portal: BlockingPortal) -> None:
        settings = AppSettings(look_slots=1, look_timeout_s=0.3)
        with running(portal, settings, Slow(0.6)) as service:
            first = service.start(LOOK, method="POST", files={"image": ("a.png", PHOTO)})
            service.pause(0.1)
            began = time.monotonic()
            refused(looked(service), 503, "no-worker-answers")
            assert time.monotonic() - began < 2
            assert first.result(10).status_code == 200
            assert looked(service).status_code == 200  # the place is free again


class Slow(FakeJobClient):
    """Looks take a while."""

    def __init__(self, look_s: float) -> None:
        super().__init__()
        self.look_s = look_s

    async def look(self, photo: bytes, timeout_s: float, *, tenant: str | None = None) -> Seen:
        await anyio.sleep(self.look_s)
        return await super().look(photo, timeout_s, tenant=tenant)


class TestChoice:
    def test_a_face_is_chosen(self, service: Service) -> None:
        job_id = service.submitted(face="1")
        assert service.jobs.records[job_id].options.face == 1
        assert service.jobs.looks == [(PHOTO, None)]  # it counts as no look

    def test_more_than_there_are(self, service: Service) -> None:
        assert "the photo has 2" in refused(service.upload(face="2"), 422, "no-such-face")
        assert service.jobs.records == {}
        service.jobs.seen = Seen(photo=SEEN.photo, faces=[])
        refused(service.upload(face="0"), 422, "no-face-found")

    def test_while_no_worker_answers_the_job_finds_out(self, service: Service) -> None:
        service.jobs.seen = None
        assert service.upload(face="7").status_code == 202

    @pytest.mark.parametrize("quad", [LEFT, [part for corner in LEFT for part in corner]])
    def test_a_quad_as_points_or_as_numbers(self, service: Service, quad: object) -> None:
        answer = service.post(URL, json={"image": url_of(PHOTO), "quad": quad})
        assert answer.status_code == 202, answer.text
        assert answer.json()["options"]["quad"] == [list(corner) for corner in LEFT]
        assert service.jobs.looks == []

    def test_a_quad_in_a_form_and_in_a_batch(self, service: Service) -> None:
        record = service.jobs.records[service.submitted(quad=QUAD)]
        assert record.options.quad == LEFT
        assert JobOptions.model_validate_json(encode_fields(options=record.options)["options"]) == record.options
        answer = service.post("/v1/batches", files=[("image", ("a", PHOTO))] * 2, data={"quad": QUAD})
        assert [one["options"]["quad"][1] for one in answer.json()["inversions"]] == [[0, 40]] * 2

    @pytest.mark.parametrize(
        ("quad", "why"),
        [
            ("0,0,40,0,40,40,0,40", "mirrored"),
            ("0,0,40,40,0,40,40,0", "not convex"),
            ("0,0,0,40,10,10,40,0", "not convex"),
            ("0,0,0,4,4,4,4,0", "shortest side"),
            ("0,0,0,400,10,400,10,0", "too far from a square"),
            ("0,0,0,40,40,42,40,-1e9", "between"),
            ("0,0,0,nan,40,40,40,0", "between"),
            ("96,0,96,40,136,40,136,0", "beside"),
            ("-50,-50,-50,-5,-5,-5,-5,-50", "beside"),
        ],
    )
    def test_a_quad_that_is_no_crop(self, service: Service, quad: str, why: str) -> None:
        assert why in refused(service.upload(quad=quad), 422, "quad-invalid")
        files = [("image", ("a", PHOTO))] * 2
        assert why in refused(service.post("/v1/batches", files=files, data={"quad": quad}), 422, "quad-invalid")

    @pytest.mark.parametrize(
        "quad", ["x", 5, [1] * 7, [[0, 0]] * 3, [["0", "0"]] * 4, [[0, 0, 0]] * 4, [[True, 0]] * 4, {}, [[]] * 8]
    )
    def test_what_is_no_quad_in_json(self, service: Service, quad: object) -> None:
        answer = service.post(URL, json={"image": url_of(PHOTO), "quad": quad})
        assert "`quad`" in refused(answer, 422, "option-invalid")

    @pytest.mark.parametrize("quad", ["0,0,0,40,40,40,40", "x", "0,0,0,40,40,40,40,0,1", "[0,0,0,40,40,40,40,0]"])
    def test_what_is_no_quad_at_all(self, service: Service, quad: str) -> None:
        assert "`quad`" in refused(service.upload(quad=quad), 422, "option-invalid")

    @pytest.mark.parametrize(
        "fields",
        [
            {"face": "0", "quad": QUAD},
            {"face": "0", "align": "false"},
            {"quad": QUAD, "align": "false"},
            {"face": "-1"},
        ],
    )
    def test_what_contradicts_itself(self, service: Service, fields: dict[str, str]) -> None:
        refused(service.upload(**fields), 422, "option-invalid")


class TestMask:
    def upload(self, service: Service, box: tuple[int, int, int, int], **fields: str) -> Any:
        files = {"image": ("a.png", PHOTO), "mask": ("b.png", mask(box))}
        return service.post(URL, files=files, data=fields)

    @pytest.mark.parametrize(
        ("box", "fields"),
        [
            ((60, 0, 96, 80), {"quad": QUAD}),
            ((0, 0, 3, 80), {"align": "false"}),  # the centre crop begins at column 8
            ((60, 0, 96, 80), {}),
            ((0, 0, 30, 80), {"face": "1"}),
        ],
    )
    def test_one_that_is_black_where_it_counts_is_refused_with_the_upload(
        self, service: Service, box: tuple[int, int, int, int], fields: dict[str, str]
    ) -> None:
        assert "black" in refused(self.upload(service, box, **fields), 422, "mask-invalid")
        assert service.jobs.records == {}

    @pytest.mark.parametrize(
        ("box", "fields"),
        [
            ((0, 0, 30, 80), {"quad": QUAD}),
            ((20, 0, 25, 80), {"align": "false"}),
            ((2, 2, 6, 6), {}),
            ((50, 0, 96, 80), {"face": "1"}),
        ],
    )
    def test_one_that_is_not_is_taken(
        self, service: Service, box: tuple[int, int, int, int], fields: dict[str, str]
    ) -> None:
        assert self.upload(service, box, **fields).status_code == 202

    def test_while_no_worker_answers_the_job_finds_out(self, service: Service) -> None:
        service.jobs.seen = None
        assert self.upload(service, (60, 0, 96, 80)).status_code == 202

    def test_when_none_has_answered_the_next_uploads_do_not_wait_too(self, service: Service) -> None:
        service.jobs.seen = None
        for _ in range(3):
            assert self.upload(service, (60, 0, 96, 80)).status_code == 202
        assert len(service.jobs.looks) == 1
        assert looked(service).status_code == 503  # whoever wants nothing but a look asks all the same
        assert len(service.jobs.looks) == 2

    def test_an_upload_need_not_ask(self, portal: BlockingPortal) -> None:
        with running(portal, AppSettings(upload_look_s=0), FakeJobClient()) as service:
            assert self.upload(service, (60, 0, 96, 80)).status_code == 202
            assert service.jobs.looks == []

    def test_without_a_mask_or_a_choice_nobody_is_asked(self, service: Service) -> None:
        service.submitted()
        assert service.jobs.looks == []


def test_the_record_tells_of_every_face(service: Service) -> None:
    job_id = service.submitted()
    before = service.get(f"{URL}/{job_id}").json()
    assert (before["photo"], before["faces"], before["face_index"], before["warnings"]) == (None, [], None, [])
    service.jobs.run(job_id)
    body = service.get(f"{URL}/{job_id}").json()
    assert body["photo"] == {"width": 96, "height": 80}
    assert body["faces"] == json.loads(SEEN.model_dump_json())["faces"]
    assert (body["face_index"], body["face"]["found"]) == (0, 2)
    assert body["face"]["quad"] == body["faces"][0]["quad"]
    assert body["warnings"] == [{"kind": "cut-by-border", "detail": "The border cuts it."}]


def test_what_an_earlier_release_reads_of_a_face_has_not_changed() -> None:
    """Its FaceInfo refuses fields that it does not know."""
    assert set(FaceInfo.model_fields) == {"found", "quad"}


POINT = st.tuples(st.floats(-200, 200), st.floats(-200, 200))


@given(st.tuples(POINT, POINT, POINT, POINT), st.integers(1, 300), st.integers(1, 300))
def test_geometry_holds_for_any_four_points(quad: Quad, width: int, height: int) -> None:
    share = share_inside(quad, width, height)
    if quad_fault(quad) is None:
        assert 0 <= share <= 1 + 1e-6
        assert quad_fault(quad[1:] + quad[:1]) is None  # type: ignore[arg-type]  # turned by a quarter
        assert quad_fault(quad[::-1]) is not None  # type: ignore[arg-type]  # mirrored
        inside = share_inside(quad, 1e4, 1e4)
        assert share <= inside + 1e-6


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(ANY)
def test_whatever_is_sent_as_a_quad_is_four_points_or_refused(value: object) -> None:
    try:
        options = JobOptions.model_validate({"quad": value})
        crop_of(options)
    except (ValidationError, ProblemError):
        return
    assert options.quad is None or quad_fault(options.quad) is None


def test_how_much_of_a_quad_lies_in_the_photo() -> None:
    assert share_inside(LEFT, 100, 100) == 1
    assert share_inside(LEFT, 20, 100) == pytest.approx(0.5)
    assert share_inside(((-20, -20), (-20, 20), (20, 20), (20, -20)), 100, 100) == pytest.approx(0.25)
    assert share_inside(((50, 0), (0, 50), (50, 100), (100, 50)), 50, 50) == pytest.approx(0.25)
    assert share_inside(LEFT, 100, 100) == share_inside(((0, 0), (0, 4e5), (4e5, 4e5), (4e5, 0)), 1e6, 1e6)

"""A sender's own words: taken by their shape, given back wherever the inversion is told of, and nowhere else."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from app_fakes import picture_bytes
from app_service import Service, refused, url_of
from hypothesis import given
from hypothesis import strategies as st
from test_app_events import parse

from inversion_app.errors import ProblemError
from inversion_app.metadata import MAX_DEPTH, check_metadata, read_metadata
from inversion_app.webhooks import next_message
from inversion_client.uploading import form_of
from inversion_worker.contract import MAX_METADATA_BYTES, EventKind, JobDone, JobOptions
from inversion_worker.transitions import decode_record, encode_fields

pytestmark = pytest.mark.unit

URL = "/v1/inversions"
PHOTO = url_of(picture_bytes())
METADATA = {"order": "A-1001", "pages": [1, None, {"ü": 2.5}], "last": None}
NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
OBJECTS = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | NUMBERS | st.text(max_size=20) | st.lists(NUMBERS, max_size=5)
)


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"a": found}
    return found


def test_it_comes_back_in_records_and_events(service: Service) -> None:
    by_json = service.post(URL, json={"image": PHOTO, "metadata": METADATA}).json()
    by_form = service.upload(metadata=json.dumps(METADATA, indent=2)).json()
    for told in (by_json, by_form):
        assert told["metadata"] == METADATA
        service.jobs.run(told["id"])
        assert service.get(told["links"]["self"]).json()["metadata"] == METADATA
        events = parse(service.get(told["links"]["events"]).text)
        assert [data["metadata"] for _, _, data in events] == [METADATA] * 5
    assert [one["metadata"] for one in service.get(URL).json()["inversions"]] == [METADATA] * 2


def test_without_any_nothing_is_told(service: Service) -> None:
    job_id = service.submitted()
    service.jobs.run(job_id)
    assert service.get(f"{URL}/{job_id}").json()["metadata"] is None
    assert not any("metadata" in data for _, _, data in parse(service.get(f"{URL}/{job_id}/events").text))


@pytest.mark.parametrize("nothing", [{"data": {"metadata": ""}}, {"json": {"metadata": None}}])
def test_empty_and_null_are_none(service: Service, nothing: dict[str, Any]) -> None:
    if "json" in nothing:
        answer = service.post(URL, json={"image": PHOTO, **nothing["json"]})
    else:
        answer = service.upload(**nothing["data"])
    assert (answer.status_code, answer.json()["metadata"]) == (202, None)


def test_webhooks_say_it_and_the_links_of_the_end(service: Service) -> None:
    job_id = service.post(URL, json={"image": PHOTO, "metadata": METADATA}).json()["id"]
    service.jobs.run(job_id)
    message = next_message(service.jobs.records[job_id], [("1-0", JobDone(step=5, loss=0.25))], list(EventKind))
    assert message is not None
    data = json.loads(message.body)["data"]
    assert (data["metadata"], data["links"]) == (METADATA, service.get(f"{URL}/{job_id}").json()["links"])
    assert {"latents", "image", "pasted", "aligned", "animation"} <= data["links"].keys()


def test_every_photo_of_a_batch_has_it_and_a_retry_too(service: Service) -> None:
    batch = service.post("/v1/batches", json={"images": [PHOTO, PHOTO], "metadata": METADATA}).json()
    assert [one["metadata"] for one in batch["inversions"]] == [METADATA] * 2
    job_id = batch["inversions"][0]["id"]
    service.jobs.fail(job_id)
    assert service.post(f"{URL}/{job_id}/retry").json()["metadata"] == METADATA


@pytest.mark.parametrize(
    "text",
    ["[]", "1", "null", "{", "x", '{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 2}}', '{"a": 1e999}', '{"a": NaN}',
     json.dumps(deep(MAX_DEPTH + 1)), '{"a": "' + (MAX_METADATA_BYTES - 7) * "x" + '"}'],
)  # fmt: skip
def test_what_is_none_is_refused_without_being_repeated(service: Service, text: str) -> None:
    assert "`metadata`" in refused(service.upload(metadata=text), 422, "option-invalid")
    if text not in ("null", "{", "x"):
        body = f'{{"image": "{PHOTO}", "metadata": {text}}}'
        answer = service.post(URL, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["type"][10:]) in ((422, "option-invalid"), (422, "json-invalid"))


def test_the_largest_and_the_deepest(service: Service) -> None:
    largest = {"a": (MAX_METADATA_BYTES - 8) // 2 * "ü"}
    assert len(json.dumps(largest, ensure_ascii=False, separators=(",", ":")).encode()) == MAX_METADATA_BYTES
    assert service.upload(metadata=json.dumps(largest, ensure_ascii=False)).json()["metadata"] == largest
    assert service.upload(metadata=json.dumps(deep(MAX_DEPTH))).json()["metadata"] == deep(MAX_DEPTH)
    refused(service.upload(metadata=json.dumps({"a": largest["a"] + "b"}, ensure_ascii=False)), 422, "option-invalid")


def test_it_belongs_to_inversions_alone(service: Service) -> None:
    refused(service.post("/v1/faces", json={"image": PHOTO, "metadata": METADATA}), 422, "option-unknown")


def test_an_idempotency_key_counts_it(service: Service) -> None:
    headers = {"Idempotency-Key": "k"}
    first = service.upload(headers=headers, metadata='{"a": 1}').json()["id"]
    assert service.upload(headers=headers, metadata=' {"a":1}').json()["id"] == first
    refused(service.upload(headers=headers, metadata='{"a": 2}'), 422, "idempotency-key-reused")


def test_no_line_of_the_log_has_it(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        job_id = service.upload(metadata='{"name": "Bletchley"}').json()["id"]
        service.jobs.run(job_id)
        service.get(f"{URL}/{job_id}")
        service.upload(metadata='{"Bletchley": 1, "Bletchley": 2}')
    assert "Bletchley" not in caplog.text


@given(OBJECTS)
def test_whatever_is_taken_is_stored_and_read_unchanged(value: dict[str, Any]) -> None:
    try:
        taken = read_metadata(form_of({"metadata": value})["metadata"])
    except ProblemError:
        assert len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA_BYTES
        return
    assert taken == check_metadata(value) == value
    when = "2026-11-22T13:00:00Z"
    stored = encode_fields(metadata=taken, options=JobOptions()) | {"id": '"a"', "status": '"queued"'}
    record = decode_record(stored | {"created_at": f'"{when}"', "expires_at": f'"{when}"'})
    assert record is not None
    assert record.metadata == value

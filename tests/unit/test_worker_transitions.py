"""Job records as they lie in Redis."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from inversion_worker.contract import EventKind, FaceInfo, JobOptions, JobRecord, JobStatus
from inversion_worker.transitions import decode_record, encode_fields

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("options", [JobOptions(), JobOptions(optimizer="adam", focus=0, ttl=60, seed=3)])
def test_a_record_is_read_as_it_was_written(options: JobOptions) -> None:
    record = JobRecord(
        id="job",
        status=JobStatus.RUNNING,
        options=options,
        created_at=datetime.now(UTC),
        expires_at=datetime.now(UTC),
        face=FaceInfo(found=0),
    )
    stored = encode_fields(**{name: getattr(record, name) for name in JobRecord.model_fields})
    assert decode_record(stored) == record
    assert decode_record(stored | {"of_later": "1"}) == record


def test_an_option_that_was_not_chosen_is_not_written() -> None:
    """A worker of before knows nothing of later options, and refuses what it does not know."""
    stored = json.loads(encode_fields(options=JobOptions(optimizer="adam"))["options"])
    assert stored["optimizer"] == "adam"
    assert not {"focus", "target_loss", "webhook", "webhook_events"} & set(stored)


def test_the_events_that_a_webhook_is_told_of_are_written_where_they_were_chosen() -> None:
    options = JobOptions(webhook="https://editor.example", webhook_events=(EventKind.DONE,))
    assert json.loads(encode_fields(options=options)["options"])["webhook_events"] == ["done"]

"""The OpenAPI document is what people and generators of clients read: nothing in it is left unsaid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args

import jsonschema_rs
import pytest
from fastapi import FastAPI

from inversion_app import cross_origin, examples, told
from inversion_app.main import TAGS, create_app
from inversion_app.settings import AppSettings
from inversion_app.webhooks import next_message
from inversion_worker.contract import (
    EventKind,
    FrameReady,
    JobCanceled,
    JobDeleted,
    JobDone,
    JobEvent,
    JobExpired,
    JobFailed,
    JobOptions,
    JobQueued,
    JobRecord,
    JobStarted,
    JobStatus,
    Problem,
)

pytestmark = pytest.mark.unit

JSON = "application/json"
SAFE = {"accept"}
"""A page may always send these (Fetch standard, CORS-safelisted request-header)."""
Node = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Node:
    app: FastAPI = create_app(AppSettings())
    return json.loads(json.dumps(app.openapi()))  # type: ignore[no-any-return]


def operations(document: Node) -> Iterator[tuple[str, Node]]:
    """Every operation and its name, webhooks too."""
    for path, methods in (document["paths"] | document["webhooks"]).items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def schema_of(document: Node, schema: Node) -> Node:
    return document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema


def shown(document: Node, content: Node) -> list[Any]:
    """The examples of a body."""
    if "example" in content:
        return [content["example"]]
    if "examples" in content:
        return [example["value"] for example in content["examples"].values()]
    schema = schema_of(document, content["schema"])
    return [schema["example"]] if "example" in schema else schema.get("examples", [])


def is_binary(content: Node) -> bool:
    return bool(content["schema"].get("format") == "binary")


def test_every_operation_says_what_it_does(document: Node) -> None:
    names = []
    for name, operation in operations(document):
        assert operation["summary"], name
        assert len(operation["description"]) > 10, name
        assert set(operation["tags"]) <= dict(TAGS).keys(), name
        names.append(operation["operationId"])
    assert len(set(names)) == len(names) > 25
    assert all(re.fullmatch("[a-z]+(_[a-z]+)?", name) for name in names), names


def test_every_tag_is_explained_and_used(document: Node) -> None:
    used = {tag for _, operation in operations(document) for tag in operation["tags"]}
    assert [tag["name"] for tag in document["tags"]] == list(dict(TAGS))
    assert used == dict(TAGS).keys()
    assert all(tag["description"] for tag in document["tags"])


def test_every_parameter_is_described_and_shown(document: Node) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            where = (name, parameter["name"])
            assert parameter["description"], where
            assert {"examples", "default"} & parameter["schema"].keys(), where


def test_every_answer_is_described_and_shown(document: Node) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert answer["description"] not in ("", "Successful Response"), (name, status)
            for kind, content in answer.get("content", {}).items():
                assert is_binary(content) or shown(document, content), (name, status, kind)


def test_every_body_is_shown(document: Node) -> None:
    for name, operation in operations(document):
        if "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]
        assert shown(document, content[JSON]), name
        if "multipart/form-data" in content:
            whole = content["multipart/form-data"]["schema"]
            for field, schema in whole["properties"].items():
                file = schema.get("format") == "binary" or schema.get("items", {}).get("format") == "binary"
                assert schema["description"], (name, field)
                assert file or field in whole.get("required", ()) or "default" in schema, (name, field)
                assert "examples" not in schema, (name, field)  # the reference would send them along
            assert "curl -F" in operation["description"], name


def test_pages_of_other_origins_may_send_and_read_every_header(document: Node) -> None:
    for name, operation in operations({**document, "webhooks": {}}):
        sent = {each["name"].lower() for each in operation.get("parameters", ()) if each["in"] == "header"}
        told = {each for answer in operation["responses"].values() for each in answer.get("headers", ())}
        assert sent - SAFE <= {each.lower() for each in cross_origin.ASKED}, name
        assert told - {"WWW-Authenticate"} <= set(cross_origin.TOLD), name


def test_every_field_is_described(document: Node) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, about in schema.get("properties", {}).items():
            assert about.get("description"), (name, field)


def test_every_example_is_one(document: Node) -> None:
    checked = 0
    for name, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in (*bodies, *operation["responses"].values()):
            for kind, content in body.get("content", {}).items():
                if "json" not in kind:
                    continue
                schema = {**content["schema"], "components": document["components"]}
                for example in shown(document, content):
                    problems = [error.message for error in jsonschema_rs.iter_errors(schema, example)]
                    assert not problems, (name, kind, problems)
                    checked += 1
    assert checked > 100


def test_every_option_and_parameter_is_shown_as_it_may_be(document: Node) -> None:
    for _, operation in operations(document):
        fields = {parameter["name"]: parameter["schema"] for parameter in operation.get("parameters", ())}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            fields |= content["schema"].get("properties", {})
        for name, schema in fields.items():
            for example in schema.get("examples", ()):
                whole = {**schema, "components": document["components"]}
                assert not list(jsonschema_rs.iter_errors(whole, example)), (name, example)


def test_turned_away_callers_are_told_when_to_come_back(document: Node) -> None:
    for name, operation in operations(document):
        for status, field in (("429", "Retry-After"), ("503", "Retry-After"), ("401", "WWW-Authenticate")):
            if status in operation["responses"]:
                assert field in operation["responses"][status]["headers"], (name, status)


RECORD = JobRecord(
    id=examples.ID,
    status=JobStatus.SUCCEEDED,
    options=JobOptions(),
    source=examples.SOURCE_ID,
    metadata=examples.METADATA,
    created_at=datetime.fromisoformat(examples.TIME),
    expires_at=datetime.fromisoformat(examples.LATER),
    pack_name="faces-128",
    frames=[0, 5],
    result_step=98,
    pasted=True,
)
EVENTS: dict[EventKind, JobEvent] = {
    EventKind.QUEUED: JobQueued(),
    EventKind.STARTED: JobStarted(attempt=1, steps=18, aligned_key="k"),
    EventKind.FRAME: FrameReady(step=5, loss=0.0512, frame_key="k"),
    EventKind.DONE: JobDone(step=98, loss=0.0212),
    EventKind.FAILED: JobFailed(error=Problem(**examples.TOLD["failed"]["error"])),
    EventKind.CANCELED: JobCanceled(),
    EventKind.EXPIRED: JobExpired(),
    EventKind.DELETED: JobDeleted(),
}


@pytest.mark.parametrize("kind", list(EventKind))
def test_webhooks_are_told_what_the_document_says(document: Node, kind: EventKind) -> None:
    message = next_message(RECORD, [("1763816400000-0", EVENTS[kind])], list(EventKind))
    assert message is not None
    sent = json.loads(message.body)
    sent["data"].get("error", {}).pop("instance", None)  # null, and the framework leaves nulls of examples out
    shown_ = document["webhooks"]["inversion"]["post"]["requestBody"]["content"][JSON]["examples"][kind]["value"]
    assert sent | {"timestamp": shown_["timestamp"]} == shown_
    told.Told.model_validate(sent)
    assert sent["type"] in get_args(told.Told.model_fields["type"].annotation)


@pytest.mark.parametrize("kind", list(EventKind))
def test_the_event_stream_is_shown_by_each_kind(document: Node, kind: EventKind) -> None:
    answer = document["paths"]["/v1/inversions/{inversion_id}/events"]["get"]["responses"]["200"]
    text = answer["content"]["text/event-stream"]["examples"][kind]["value"]
    fields = dict(line.split(": ", 1) for line in text.strip().split("\n"))
    assert (fields["event"], json.loads(fields["data"])) == (kind, examples.TOLD[kind])

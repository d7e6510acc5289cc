"""Bodies that are one JSON object of a model: counted and checked before anything is built of them."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from inversion_app.bodies import check_charset, counted
from inversion_app.errors import ProblemError, explain
from inversion_app.strict_json import Limits, read_json

Model = TypeVar("Model", bound=BaseModel)

_SMALL_BYTES = 16_384
"""A body of so many is read at once; a larger one in a thread."""
_CHOICES = ("source", "mix", "mask", "from", "to", "context")
"""Fields whose value is one of several models."""
PROBLEMS = ("not-json", "json-invalid", "body-too-large", "option-invalid")
"""Kinds of problems of such a body."""


async def read_model(request: Request, model: type[Model], max_bytes: int, limits: Limits) -> Model:
    """The body of `request` as a model, as strict as JSON allows. Raises: ProblemError."""
    kind = request.headers.get("content-type", "")
    if kind.split(";")[0].strip().lower() != "application/json":
        raise ProblemError("not-json", f"Content-Type: {kind[:100] or 'none'}.")
    check_charset(kind, "json-invalid")
    data = bytearray()
    try:
        async with aclosing(counted(request, max_bytes)) as chunks:
            async for chunk in chunks:
                data += chunk
    except ClientDisconnect as error:
        raise ProblemError("json-invalid", "The connection ended before the body did.") from error
    if len(data) <= _SMALL_BYTES:
        return _model(model, bytes(data), limits)
    return await asyncio.to_thread(_model, model, bytes(data), limits)


def _model(model: type[Model], data: bytes, limits: Limits) -> Model:
    try:
        found = read_json(data, limits)
    except ValueError as error:
        raise ProblemError("json-invalid", f"{error}.") from error
    if not isinstance(found, dict):
        raise ProblemError("json-invalid", "It holds no object.")
    try:
        return _validated(model, data, found)
    except ValidationError as error:
        if unknown := [each for each in error.errors() if each["type"] == "extra_forbidden"]:
            raise ProblemError("option-unknown", f"`{_place(unknown[0]['loc'])}` is no field here.") from error
        told = [{**each, "loc": (_place(each["loc"]),)} for each in error.errors(include_url=False)]
        raise ProblemError("option-invalid", explain(told[:3])) from error


def _validated(model: type[Model], data: bytes, found: Any) -> Model:
    """To JSON 5.0 and 5 are the same number, and so they are to JSON Schema. Raises: ValidationError."""
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        if not any(each["type"].startswith("int_") for each in error.errors()):
            raise
        return model.model_validate_json(json.dumps(_whole(found)), strict=True)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _place(loc: tuple[int | str, ...]) -> str:
    """`edits[0].strength`. Behind what may be one of several models stands which it is: that is left out."""
    text, is_choice = "", False
    for index, part in enumerate(loc):
        if isinstance(part, int):
            text, is_choice = f"{text}[{part}]", True
        elif is_choice and index + 1 < len(loc):
            is_choice = False
        elif not is_choice:
            text, is_choice = f"{text}.{part}".lstrip("."), part in _CHOICES
    return text[:200]


def body_of(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """The request body of a route that reads a model by hand, for the OpenAPI document."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inlined(schema, definitions), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """A schema with everything that it refers to written out. None of ours refers to itself."""
    if isinstance(node, list):
        return [_inlined(part, definitions) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        own = {name: value for name, value in node.items() if name != "$ref"}
        return _inlined({**definitions[node["$ref"].rsplit("/", 1)[-1]], **own}, definitions)
    return {name: _inlined(part, definitions) for name, part in node.items()}

"""The OpenAPI document: the framework's, less the validation errors that this service never answers with.

And with what holds for every guarded address: the key, and how a request is turned away at the door.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from inversion_app.errors import MEDIA_TYPE, responses
from inversion_app.guard import is_public
from inversion_app.settings import AppSettings

_STOCK_ERRORS = ("HTTPValidationError", "ValidationError")
"""Every refusal here is a problem document, and routes declare theirs (inversion_app/errors.py: `responses`)."""
_SCHEME = "apiKey"
_KEY_PROBLEMS = ("key-missing", "key-invalid", "scope-missing")
_ASKED_PROBLEMS = ("option-unknown", "option-invalid", "header-unsupported")
"""How every operation refuses what it does not know; see inversion_app/asked.py."""


def operation_id(route: APIRoute) -> str:
    """What generated clients call the operation: inversions_submit, results_image, packs."""
    name, tag = route.name.rstrip("_"), str(route.tags[0]) if route.tags else "page"
    return name if name == tag else f"{tag}_{name}"


def use_problem_documents(app: FastAPI, settings: AppSettings) -> None:
    """Make `app.openapi()` tell what routes cannot know, and leave out what never happens."""
    stock = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = _with_what_is_not_taken(_without_stock_errors(stock()))
            app.openapi_schema = _with_the_door(document, settings)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's documented way


def _with_what_is_not_taken(document: dict[str, Any]) -> dict[str, Any]:
    for operations in document["paths"].values():
        for operation in operations.values():
            body = "encoding-unsupported" if "requestBody" in operation else "body-unexpected"
            _add(operation, *_ASKED_PROBLEMS, body)
    return document


def _add(operation: dict[str, Any], *slugs: str) -> None:
    """Further kinds of problems beside those that an operation has."""
    for status, answer in responses(*slugs).items():
        there = operation["responses"].setdefault(str(status), answer)
        examples = there["content"][MEDIA_TYPE]["examples"]
        examples |= {name: example for name, example in _examples(answer).items() if name not in examples}
        there["description"] = "; ".join(example["summary"] for example in examples.values())


def _examples(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["content"][MEDIA_TYPE]["examples"]
    return found


def _with_the_door(document: dict[str, Any], settings: AppSettings) -> dict[str, Any]:
    """Add the key to every guarded operation, and the answers to a caller who is turned away."""
    is_open = settings.auth == "off"
    turned_away = ("host-unknown", "rate-limited") if is_open else (*_KEY_PROBLEMS, "rate-limited")
    for path, operations in document["paths"].items():
        for method, operation in operations.items() if not is_public(path) else ():
            _add(operation, *turned_away, *(() if method == "get" else ("cross-site",)))
    return document if is_open else _with_the_key(document)


def _with_the_key(document: dict[str, Any]) -> dict[str, Any]:
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[_SCHEME] = {"type": "http", "scheme": "bearer", "description": "A key of `inversion-keys create`: inv_..."}
    needed: list[dict[str, list[str]]] = [{_SCHEME: []}]
    for path, operations in document["paths"].items():
        for operation in operations.values() if not is_public(path) else ():
            operation["security"] = needed
    return document


def _without_stock_errors(document: dict[str, Any]) -> dict[str, Any]:
    for operations in (*document["paths"].values(), *document["webhooks"].values()):
        for operation in operations.values():
            responses = operation["responses"]
            if "application/json" in responses.get("422", {}).get("content", {}):
                del responses["422"]
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    for name in _STOCK_ERRORS:
        document["components"]["schemas"].pop(name, None)
    return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is no parameter that may be null: nothing in an address or a header is."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}

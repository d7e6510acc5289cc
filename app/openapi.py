"""The OpenAPI document: the framework's, less the validation errors that this service never answers with."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_STOCK_ERRORS = ("HTTPValidationError", "ValidationError")
"""Every refusal here is a problem document, and routes declare theirs (app/errors.py: `responses`)."""


def use_problem_documents(app: FastAPI) -> None:
    """Make `app.openapi()` leave out the stock 422 of routes that take a parameter, and null where none can be."""
    stock = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _without_stock_errors(stock())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's documented way


def _without_stock_errors(document: dict[str, Any]) -> dict[str, Any]:
    for operations in document["paths"].values():
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

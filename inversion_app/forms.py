"""What can be sent, for the OpenAPI document: the same fields as a form and as JSON.

The bodies are read by hand (inversion_app/bodies.py), as a stream and with limits, so the framework cannot derive this.
"""

from __future__ import annotations

from typing import Any

from inversion_app import examples
from inversion_app.bodies import IMAGE, IMAGES, LATENTS, MASK, METADATA, SOURCE
from inversion_app.codes import JSON, NPY, SAFETENSORS
from inversion_app.deps import ID_PATTERN
from inversion_app.metadata import MAX_DEPTH
from inversion_worker.contract import MAX_BATCH, MAX_METADATA_BYTES, JobOptions

Schema = dict[str, Any]

_PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAFElEQVR42mP8zwABTAyjjFEGyQwAzx8Bf7QK4E8AAAAASUVORK5CYII="
)
"""A white picture of 64 x 64 px."""
DATA_URL = "^data:[^,]*;base64,[A-Za-z0-9+/]+=*$"
PHOTO = (
    "The photo: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF, or HEIC if the service has the extra `heif`. The first frame "
    "of an animation and the first full page of a TIFF are used. Colour profiles are honoured."
)
MASK_TEXT = (
    "An image of the size of the upright photo: white where the result must match the photo, black or transparent "
    "where it is free, grey in between. A mask with the values 0 and 1 is read as black and white. It is cropped "
    "together with the face."
)
CODE_TEXT = (
    "A code of the same pack to start from: (layers, dimensions), as npy, safetensors or JSON, in the format that "
    "`links.latents` returns. Any pack named in it is checked."
)
SOURCE_TEXT = (
    "In the place of a photo: an inversion of yours to go on from, in whatever state. Its photo and mask are copied: "
    "the new inversion does not depend on it. It starts from the best code so far, unless `start` or `latents` says "
    "otherwise. `pack`, and `face`, `quad` and `align` together, are those of that inversion unless you set them; all "
    "other options have their defaults."
)
METADATA_TEXT = (
    "A JSON object of your own, such as the number of an order. It comes back in the inversion, its events and its "
    f"webhooks, and is deleted with it. At most {MAX_METADATA_BYTES:,} bytes as compact JSON in UTF-8, and {MAX_DEPTH} "
    "objects and lists within each other."
)
_PHOTO_OR_SOURCE = [{"required": [IMAGE]}, {"required": [SOURCE]}]
_NUMBER = r"-?[0-9]{1,7}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?"
_EXAMPLE_OPTIONS = {"steps": 50, "optimizer": "adam", "align": False, "seed": 1, METADATA: examples.METADATA}


def one_photo() -> Schema:
    """The request body of a submission."""
    encoding = {LATENTS: {"contentType": ", ".join((NPY, SAFETENSORS, JSON))}}
    return _body(
        {
            "type": "object",
            "properties": {
                IMAGE: _file(PHOTO),
                MASK: _file(MASK_TEXT),
                LATENTS: _file(CODE_TEXT),
                SOURCE: {"type": "string", "format": "source", "description": f"{SOURCE_TEXT} As JSON.", "default": ""},
                **_form_options(),
            },
            "anyOf": _PHOTO_OR_SOURCE,
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                IMAGE: _data_url(PHOTO),
                MASK: _data_url(MASK_TEXT) | {"type": ["string", "null"], "default": None},
                LATENTS: _code_value(),
                SOURCE: _source(),
                **_options(),
            },
            "anyOf": _PHOTO_OR_SOURCE,
            "additionalProperties": False,
        },
        {IMAGE: _PIXEL, **_EXAMPLE_OPTIONS},
        encoding,
    )


def many_photos() -> Schema:
    """The request body of a batch."""
    text = f"1 to {MAX_BATCH} photos; the batch keeps their order."
    several = {"minItems": 1, "maxItems": MAX_BATCH, "type": "array", "description": text}
    return _body(
        {
            "type": "object",
            "properties": {IMAGE: {**several, "items": _file(PHOTO)}, **_form_options()},
            "required": [IMAGE],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {IMAGES: {**several, "items": _data_url(PHOTO)}, **_options()},
            "required": [IMAGES],
            "additionalProperties": False,
        },
        {IMAGES: [_PIXEL, _PIXEL], **_EXAMPLE_OPTIONS},
    )


def only_photo() -> Schema:
    """The request body of a look."""
    return _body(
        {
            "type": "object",
            "properties": {IMAGE: _file(PHOTO)},
            "required": [IMAGE],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {IMAGE: _data_url(PHOTO)},
            "required": [IMAGE],
            "additionalProperties": False,
        },
        {IMAGE: _PIXEL},
    )


def _body(form: Schema, value: Schema, example: Schema, encoding: Schema | None = None) -> Schema:
    multipart = {"schema": form, "encoding": encoding} if encoding else {"schema": form}
    content = {"multipart/form-data": multipart, "application/json": {"schema": value, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _file(description: str) -> Schema:
    return {"type": "string", "format": "binary", "description": description}


def _data_url(description: str) -> Schema:
    text = f"{description} As a base64 data URL: data:image/jpeg;base64,..."
    return {"type": "string", "format": "data-url", "pattern": DATA_URL, "description": text}


def _source() -> Schema:
    name = {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$", "description": "Id of an inversion."}
    return {
        "type": ["object", "null"], "properties": {"inversion": name}, "required": ["inversion"],
        "additionalProperties": False, "description": SOURCE_TEXT, "default": None,
        "examples": [{"inversion": examples.SOURCE_ID}],
    }  # fmt: skip


def _code_value() -> Schema:
    rows = {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": {"type": "number"}}}
    told = {"type": "object", "required": [LATENTS], "properties": {LATENTS: rows}}
    return {
        "anyOf": [
            rows,
            told,
            {"type": "string", "format": "code-url", "pattern": DATA_URL},
            {"type": "null"},
        ],
        "description": f"{CODE_TEXT} In JSON: its rows, the whole response of `links.latents`, or a data URL.",
        "default": None,
    }


def _options() -> Schema:
    """The options as the contract has them, with what it refers to written out; and the metadata."""
    schema = JobOptions.model_json_schema()
    found: Schema = _resolved(schema["properties"], schema["$defs"])
    found["quad"] |= _points()
    found[METADATA] = {
        "type": ["object", "null"], "description": METADATA_TEXT, "default": None, "examples": [examples.METADATA],
    }  # fmt: skip
    return found


def _points() -> Schema:
    """A quad, as four points or as eight numbers."""
    number = {"type": "number"}
    point = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    points = {"type": "array", "items": point, "minItems": 4, "maxItems": 4}
    return {"anyOf": [points, {"type": "array", "items": number, "minItems": 8, "maxItems": 8}, {"type": "null"}]}


def _resolved(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_resolved(part, definitions) for part in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        own = {name: value for name, value in node.items() if name != "$ref"}
        return {**definitions[node["$ref"].rsplit("/", 1)[-1]], **own}
    return {name: _resolved(part, definitions) for name, part in node.items()}


def _form_options() -> Schema:
    special = {"quad": _form_quad, METADATA: _form_object}
    return {name: special.get(name, _form_field)(field) for name, field in _options().items()}


def _form_object(field: Schema) -> Schema:
    """A JSON object as text."""
    return {"type": "string", "format": "json-object", "description": field["description"], "default": ""}


def _form_quad(field: Schema) -> Schema:
    """Eight numbers, separated by commas."""
    pattern = f"^$|^ *{_NUMBER}( *, *{_NUMBER}){{7}} *$"
    return {"type": "string", "description": field["description"], "default": "", "pattern": pattern}


def _form_field(field: Schema) -> Schema:
    """One option as a form can send it: a form has no null, so nothing chosen is the empty text; and no lists."""
    if field.get("type") == "array":
        kinds = "|".join(field["items"]["enum"])
        pattern = f"^$|^ *({kinds})( *, *({kinds})){{0,{field['maxItems'] - 1}}} *$"
        return {
            "type": "string", "description": field["description"], "pattern": pattern,
            "default": ",".join(field["default"]),
        }  # fmt: skip
    # Without examples: Swagger UI fills its form with them, and nobody wants a webhook there.
    field = {name: value for name, value in field.items() if name not in ("minLength", "examples")}
    if "anyOf" not in field:
        return field
    chosen = next(kind for kind in field["anyOf"] if kind.get("type") != "null")
    if "enum" in chosen:
        return {"type": "string", "description": field["description"], "default": "", "enum": ["", *chosen["enum"]]}
    if chosen["type"] == "string":
        shape = {"pattern": f"^$|{field['pattern']}"} if "pattern" in field else {}
        length = {"maxLength": chosen["maxLength"]} if "maxLength" in chosen else {}
        return {"type": "string", "description": field["description"], "default": "", **length, **shape}
    return {"anyOf": [chosen, {"type": "string", "enum": [""]}], "description": field["description"], "default": ""}

"""An edit list: what is to be changed about a face, in order. Plain data, the same in the library and the API."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from inversion_worker.contract.message import Message
from inversion_worker.contract.options import MAX_NAME_LENGTH

MAX_EDITS = 32
"""Most edits of a list."""
MAX_STRENGTH = 100.0
"""Largest strength of a direction, either way. Ranges that look plausible end long before."""
MAX_HELD = 16
"""Most attributes that one edit holds."""
MAX_SEED = 2**31 - 1
MAX_LAYER = 31
MIN_SIDE = 16
MAX_SIDE = 16_383
"""Longest side of a photo, px; that of a WebP. It is never enlarged."""
CODE_ID_PATTERN = "^[A-Za-z0-9_-]{16,64}$"
"""An inversion's id."""

DATA_URL_PATTERN = "^data:[^,]*;base64,[A-Za-z0-9+/]+=*$"
CODE_TEXT = (
    "A code (layers, dimensions): its rows, the JSON that `links.latents` returns, or a data URL of an npy or "
    "safetensors file."
)
_ROWS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "minItems": 1, "items": {"type": "number"}},
}
CODE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        _ROWS,
        {"type": "object", "required": ["latents"], "properties": {"latents": _ROWS}},
        {"type": "string", "format": "code-url", "pattern": DATA_URL_PATTERN},
    ]
}


def _whole(value: Any) -> Any:
    """3.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Seed = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_whole)]
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE), BeforeValidator(_whole)]
"""Of a picture."""
_Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
_Layer = Annotated[int, Field(ge=0, le=MAX_LAYER), BeforeValidator(_whole)]
_Layers = Annotated[
    tuple[_Layer, _Layer] | None,
    Field(description="First and last style layer, inclusive. Default: all of them.", examples=[[4, 9]]),
]
_Place = Annotated[float, Field(ge=-1, le=2, allow_inf_nan=False)]
_Four = tuple[_Place, _Place, _Place, _Place]


class _Shape(Message):
    """In coordinates of the aligned crop, 0 to 1 from its top left corner."""

    feather: float = Field(0.05, ge=0, le=0.5, description="How soft its edge is, as a share of the crop's side.")
    outside: bool = Field(False, description="Everything but the shape.")


class EllipseMask(_Shape):
    """An ellipse."""

    ellipse: _Four = Field(description="Centre x and y, radius x and y.", examples=[[0.5, 0.7, 0.2, 0.1]])


class BoxMask(_Shape):
    """A rectangle."""

    box: _Four = Field(description="Left, top, right, bottom.", examples=[[0.2, 0.5, 0.8, 0.9]])


class PolygonMask(_Shape):
    """Any other shape."""

    polygon: list[tuple[_Place, _Place]] = Field(
        min_length=3,
        max_length=256,
        description="Corners, x and y.",
        examples=[[[0.2, 0.2], [0.8, 0.2], [0.5, 0.9]]],
    )


def _mask_kind(value: Any) -> str | None:
    return _first(value, ("ellipse", "box", "polygon"))


EditMask = Annotated[
    Annotated[EllipseMask, Tag("ellipse")] | Annotated[BoxMask, Tag("box")] | Annotated[PolygonMask, Tag("polygon")],
    Discriminator(
        _mask_kind,
        custom_error_type="mask_unknown",
        custom_error_message="is no mask: it needs one of the keys `ellipse`, `box`, `polygon`",
    ),
]
_Mask = Annotated[
    EditMask | None,
    Field(description="The part of the crop that the edit changes. Default: all of it."),
]


class InversionCode(Message):
    """The code of another inversion."""

    inversion: str = Field(description="Id of an inversion of yours with the same pack.", pattern=CODE_ID_PATTERN)


class RowsCode(Message):
    """A code itself."""

    latents: Any = Field(description=CODE_TEXT, json_schema_extra=CODE_SCHEMA)


class SeedCode(Message):
    """The code of a random face."""

    seed: Seed = Field(description="Seed of the random face.")


def _code_kind(value: Any) -> str | None:
    return _first(value, ("inversion", "latents", "seed"))


CodeReference = Annotated[
    Annotated[InversionCode, Tag("inversion")] | Annotated[RowsCode, Tag("latents")] | Annotated[SeedCode, Tag("seed")],
    Discriminator(
        _code_kind,
        custom_error_type="code_unknown",
        custom_error_message="must name a code: one of `inversion`, `latents`, `seed`",
    ),
]


class MoveEdit(Message):
    """Move along a direction of the pack."""

    direction: _Name = Field(description="Name of a direction of the pack.", examples=["smile"])
    strength: float = Field(
        ge=-MAX_STRENGTH,
        le=MAX_STRENGTH,
        allow_inf_nan=False,
        description="How far, in units of the direction; its range is in GET /v1/packs.",
        examples=[1.5],
    )
    layers: _Layers = None
    hold: list[_Name] | None = Field(
        None,
        max_length=MAX_HELD,
        description="Other directions whose attributes are to stay as they are.",
        examples=[["age"]],
    )
    mask: _Mask = None


class MixEdit(Message):
    """Take layers of another code."""

    mix: CodeReference = Field(description="The other code: an inversion, a code itself, or the seed of a random one.")
    layers: _Layers = None
    amount: float = Field(1.0, ge=0, le=1, description="How much of the other code; 0 changes nothing.")
    mask: _Mask = None


class TruncateEdit(Message):
    """Pull the code towards the average face."""

    truncate: float = Field(
        ge=-2, le=2, allow_inf_nan=False, description="1 changes nothing, 0 is the average face.", examples=[0.7]
    )
    layers: _Layers = None
    mask: _Mask = None


def _edit_kind(value: Any) -> str | None:
    return _first(value, ("direction", "mix", "truncate"))


Edit = Annotated[
    Annotated[MoveEdit, Tag("direction")] | Annotated[MixEdit, Tag("mix")] | Annotated[TruncateEdit, Tag("truncate")],
    Discriminator(
        _edit_kind,
        custom_error_type="edit_unknown",
        custom_error_message="is no edit: it needs one of the keys `direction`, `mix`, `truncate`",
    ),
]
EditList = Annotated[list[Edit], Field(max_length=MAX_EDITS)]


def _first(value: Any, names: tuple[str, ...]) -> str | None:
    """The first of these keys that an object, or a model, has."""
    there = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((name for name in names if name in there), None)


def plain(edit: Message) -> dict[str, Any]:
    """An edit as JSON has it, without what is not set."""
    return edit.model_dump(mode="json", exclude_none=True)

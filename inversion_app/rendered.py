"""What renders and saved edits are asked for and answered with."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from inversion_app import examples
from inversion_app.renders import in_base64
from inversion_app.schemas import Answer, PackName, address, shown
from inversion_worker.client import SourceCode
from inversion_worker.contract import (
    CODE_ID_PATTERN,
    CODE_SCHEMA,
    CODE_TEXT,
    MAX_NAME_LENGTH,
    EditList,
    Message,
    PasteMode,
    PictureFormat,
    RenderAs,
    Rendered,
    SavedEdit,
    Seed,
    Side,
)

EDIT_ID_PATTERN = "^[0-9a-f]{32}$"
PASTE_TEXT = (
    "Of a photo. difference: it changes as the render does, and keeps its own pores. replace: the render takes the "
    "place of the crop."
)
_Pack = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="The pack. Default: the one that the code names, else the workers' default.",
        examples=["faces-128"],
    ),
]


class InversionSource(Message):
    """The code of an inversion, the best so far while it runs."""

    inversion: str = Field(description="Id of an inversion of yours.", pattern=CODE_ID_PATTERN)


class LatentsSource(Message):
    """A code itself."""

    latents: Any = Field(description=CODE_TEXT, json_schema_extra=CODE_SCHEMA)
    pack: _Pack = None


class SeedSource(Message):
    """A random face."""

    seed: Seed = Field(description="Seed of the face; the same number is the same face.")
    pack: _Pack = None


def _source_kind(value: Any) -> str | None:
    names = ("inversion", "latents", "seed")
    there = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((name for name in names if name in there), None)


Source = Annotated[
    Annotated[InversionSource, Tag("inversion")]
    | Annotated[LatentsSource, Tag("latents")]
    | Annotated[SeedSource, Tag("seed")],
    Discriminator(
        _source_kind,
        custom_error_type="source_unknown",
        custom_error_message="must name a code: one of `inversion`, `latents`, `seed`",
    ),
]


class RenderRequest(Message):
    """What to render."""

    source: Source = Field(description="Whose code: an inversion's, one that you send, or that of a random face.")
    edits: EditList = Field(default_factory=list, description="Applied in order.")
    as_: RenderAs = Field(
        RenderAs.FACE,
        alias="as",
        description="face: the generator's picture. photo: the upright photo with the edit in it. patch: the part of "
        "the photo that changes, with transparency, and its offset. latents: the code after the edits.",
    )
    format: PictureFormat | None = Field(
        None, description="Default: png for a face or a patch, jpeg for a photo. A patch cannot be jpeg."
    )
    side: Side | None = Field(
        None,
        description="Side of a face in pixels, at most 2048; longest side of a photo, which is never enlarged.",
        examples=[512],
    )
    paste: PasteMode = Field(PasteMode.DIFFERENCE, description=PASTE_TEXT)


class Picture(Answer):
    """A picture within JSON."""

    media_type: str = Field(description="image/png, image/jpeg or image/webp.")
    data: str = Field(description="The file in base64.")
    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")


class Offset(Answer):
    """Where the top left corner of a patch belongs."""

    x: int = Field(description="Pixels from the left of the upright photo.")
    y: int = Field(description="Pixels from its top.")


class Render(Answer):
    """A render. Nothing of it is kept."""

    model_config = shown(examples.RENDER)

    image: Picture | None = Field(None, description="The picture; null with `as`: latents.")
    offset: Offset | None = Field(None, description="Only with `as`: patch.")
    latents: list[list[float]] | None = Field(
        None, description="The W+ code after the edits, (layers, dimensions); only with `as`: latents."
    )
    pack: PackName = Field(description="The pack that rendered it.")
    step: int | None = Field(None, description="The step of an inversion whose code may still change, or changed last.")

    @classmethod
    def of(cls, told: Rendered, data: bytes, kind: RenderAs, format: PictureFormat, step: int | None) -> Render:
        """The public view of what a worker has rendered."""
        pack = PackName(name=told.pack, version=told.version, digest=told.digest or None)
        if kind is RenderAs.LATENTS:
            return cls(latents=SourceCode.from_bytes(data).w_LD.tolist(), pack=pack, step=step)
        picture = Picture(media_type=format.media_type, data=in_base64(data), width=told.width, height=told.height)
        offset = Offset(x=told.left, y=told.top) if kind is RenderAs.PATCH else None
        return cls(image=picture, offset=offset, pack=pack, step=step)


class EditToSave(Message):
    """An edit list to keep with an inversion."""

    name: str = Field("", max_length=100, description="For people.", examples=["A little happier"])
    edits: EditList = Field(description="Applied in order.")
    parent: str | None = Field(
        None,
        pattern=EDIT_ID_PATTERN,
        description="Id of the saved edit that it was made from: where undo leads.",
        examples=[examples.EDIT_ID],
    )


class EditLinks(Answer):
    """Links of a saved edit, relative to this host."""

    self: str = Field(description="The saved edit itself.")
    render: str = Field(description="The face with these edits; takes `as`, `format`, `side` and further `edit`s.")
    inversion: str = Field(description="Its inversion.")


class Saved(Answer):
    """An edit list that is kept with its inversion, and deleted with it."""

    model_config = shown(examples.SAVED_EDIT)

    id: str = Field(description="Its id.")
    name: str = Field(description="For people.")
    edits: list[dict[str, Any]] = Field(description="The edit list.")
    parent: str | None = Field(None, description="The saved edit that it was made from; null for the first.")
    created_at: datetime = Field(description="When it was saved.")
    links: EditLinks = Field(description="Where it is, and what it looks like.")

    @classmethod
    def of(cls, saved: SavedEdit, job_id: str) -> Saved:
        """The public view of a saved edit."""
        own = f"{edits_address(job_id)}/{saved.id}"
        links = EditLinks(self=own, render=f"{address(job_id)}/render?saved={saved.id}", inversion=address(job_id))
        return cls(**saved.model_dump(), links=links)


class SavedList(Answer):
    """The saved edit lists of an inversion."""

    model_config = shown(examples.SAVED_EDITS)

    edits: list[Saved] = Field(description="Oldest first.")


def edits_address(job_id: str) -> str:
    """Where the saved edits of an inversion live."""
    return f"{address(job_id)}/edits"

"""Edit lists that are saved with an inversion. They expire with it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from inversion_app import codes, examples, json_bodies
from inversion_app.deps import Client, Record, Settings
from inversion_app.errors import ProblemError, responses
from inversion_app.json_bodies import body_of, read_model
from inversion_app.rendered import EDIT_ID_PATTERN, EditToSave, Saved, SavedList
from inversion_app.renders import plain_edits
from inversion_worker.client import JobClient, Unsaved
from inversion_worker.contract import MAX_SAVED_BYTES, JobRecord, SavedEdit

router = APIRouter(prefix="/v1/inversions/{inversion_id}/edits", tags=["edits"])

_GONE = ("inversion-not-found", "inversion-expired")

EditId = Annotated[
    str,
    Path(
        description="Id of a saved edit.", examples=[examples.EDIT_ID], json_schema_extra={"pattern": EDIT_ID_PATTERN}
    ),
]


@router.post(
    "",
    status_code=201,
    summary="Save an edit list",
    response_model=Saved,
    responses={
        201: {
            "description": "Saved. Saving the same once more gives the same.",
            "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        **responses(*_GONE, *json_bodies.PROBLEMS, "data-url-invalid", "latents-invalid", "edit-not-found",
                    "too-many-edits"),
    },
    openapi_extra=body_of(EditToSave, examples.EDIT_TO_SAVE),
)  # fmt: skip
async def save(request: Request, client: Client, settings: Settings, record: Record) -> JSONResponse:
    """Keep an edit list with the inversion: to come back to, to undo, to show as `<img src>` by `links.render`.

    It never changes, and is deleted with the inversion. Save the next one with this one as `parent`.
    """
    asked = await read_model(request, EditToSave, settings.max_render_bytes, codes.JSON_LIMITS)
    try:
        saved = await client.save_edit(record.id, asked.name, plain_edits(asked.edits), asked.parent)
    except Unsaved as error:
        raise _refused(error) from error
    answer = Saved.of(saved, record.id)
    return JSONResponse(answer.model_dump(mode="json"), 201, {"Location": answer.links.self})


@router.get(
    "",
    summary="List the saved edit lists",
    response_model=SavedList,
    response_description="All of them.",
    responses=responses(*_GONE),
)
async def list_(client: Client, record: Record) -> SavedList:
    """Oldest first, each with a link to its picture."""
    return SavedList(edits=[Saved.of(saved, record.id) for saved in await client.saved_edits(record.id)])


@router.get(
    "/{edit_id}",
    summary="Get a saved edit list",
    response_model=Saved,
    response_description="The edit list.",
    responses=responses(*_GONE, "edit-not-found"),
)
async def look(client: Client, record: Record, edit_id: EditId) -> Saved:
    """The edit list, what it was made from, and a link to its picture."""
    return Saved.of(await saved_edit(client, record, edit_id), record.id)


@router.delete(
    "/{edit_id}",
    status_code=204,
    summary="Delete a saved edit list",
    responses={204: {"description": "It is deleted."}, **responses(*_GONE, "edit-not-found")},
)
async def delete(client: Client, record: Record, edit_id: EditId) -> Response:
    """Those that were made from it get its own parent as theirs."""
    if not await client.delete_edit(record.id, edit_id):
        raise ProblemError("edit-not-found")
    return Response(status_code=204)


async def saved_edit(client: JobClient, record: JobRecord, edit_id: str) -> SavedEdit:
    """A saved edit list of an inversion. Raises: ProblemError."""
    found = next((each for each in await client.saved_edits(record.id) if each.id == edit_id), None)
    if found is None:
        raise ProblemError("edit-not-found")
    return found


def _refused(error: Unsaved) -> ProblemError:
    if error.why == "parent":
        return ProblemError("edit-not-found", "`parent` is none of this inversion's saved edits.")
    if error.why == "full":
        return ProblemError("too-many-edits")
    if error.why == "large":
        told = f"`edits`: as JSON they have more than {MAX_SAVED_BYTES:,} bytes; name codes by inversion or seed."
        return ProblemError("option-invalid", told)
    return ProblemError("inversion-not-found")

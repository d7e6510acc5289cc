"""`AsyncInversionClient`, for asyncio and trio. The logic is in the plans; this runs them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import httpx

from inversion_client import directing, following, managing, rendering, results, submitting
from inversion_client.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, http_arguments
from inversion_client.driver import AsyncDriver
from inversion_client.managing import batch_path, inversion_path
from inversion_client.models import Batch, Direction, Event, Faces, Frame, Inversion, Pack, Render, SavedEdit
from inversion_client.plan import Plan, Retries
from inversion_client.rendering import Edits, FilmFormat, PictureFormat, RenderAs, RenderSource
from inversion_client.uploading import Code, DirectionOptions, Options, Photo

if TYPE_CHECKING:
    from inversion_client.results import Floats, Kind

T = TypeVar("T")


class AsyncInversionClient:
    """A client of a running service, for asyncio and trio. Tasks may share it.

        async with AsyncInversionClient("http://127.0.0.1:8000") as client:
            inversion = await client.wait(await client.submit("face.jpg", steps=50))
            w_LD = await client.code(inversion)

    It has the same methods as InversionClient; see there for arguments, results and errors.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As InversionClient."""
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(**http_arguments(url, api_key, timeout_s), transport=transport)

    async def __aenter__(self) -> AsyncInversionClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End its connections."""
        await self._http.aclose()

    # ---- submit

    async def submit(
        self,
        photo: Photo | None = None,
        *,
        source: Inversion | str | None = None,
        mask: Photo | None = None,
        latents: Code | None = None,
        wait_s: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Inversion:
        """Queue a photo."""
        return await self._run(
            submitting.submit(
                self._retries,
                photo,
                options,
                source=source,
                mask=mask,
                latents=latents,
                wait_s=wait_s,
                idempotency_key=idempotency_key,
            )
        )

    async def submit_batch(
        self, photos: Sequence[Photo], *, idempotency_key: str | None = None, **options: Unpack[Options]
    ) -> Batch:
        """Queue up to 64 photos with the same options: all of them, or none where one is refused."""
        plan = submitting.submit_batch(self._retries, photos, options, idempotency_key=idempotency_key)
        return await self._run(plan)

    async def diffuse(
        self,
        face: Photo | Inversion,
        context: Photo | Inversion,
        /,
        *,
        mask: Mapping[str, Any] | None = None,
        weight: float | None = None,
        ring: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Inversion:
        """Put a face into the hair, light and background of another photo; returns an inversion.

        `face`, `context`: photos, or inversions with their crops.
        `mask`: where the result must be the face, such as `{"ellipse": [0.5, 0.58, 0.24, 0.28]}`.
        `weight`: how much the context counts, 0 to 1. `ring`: width of the free ring between both.
        """
        plan = submitting.diffuse(
            self._retries, face, context, options, mask=mask, weight=weight, ring=ring, idempotency_key=idempotency_key
        )
        return await self._run(plan)

    # ---- follow

    async def get(self, inversion: Inversion | str) -> Inversion:
        """The inversion as it stands."""
        return await self._run(managing.get(self._retries, Inversion, inversion_path(inversion)))

    async def get_batch(self, batch: Batch | str) -> Batch:
        """The batch as it stands."""
        return await self._run(managing.get(self._retries, Batch, batch_path(batch)))

    async def wait(
        self,
        inversion: Inversion | str,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[Inversion], object] | None = None,
    ) -> Inversion:
        """Wait until an inversion has succeeded."""
        path = inversion_path(inversion)
        plan = following.wait_for_result(self._retries, path, timeout_s=timeout_s, on_progress=on_progress)
        return await self._run(plan)

    async def wait_batch(
        self,
        batch: Batch | str,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[Batch], object] | None = None,
    ) -> Batch:
        """Wait until all inversions of a batch have ended, whatever the outcome."""
        path = batch_path(batch)
        return await self._run(following.wait(self._retries, Batch, path, timeout_s=timeout_s, on_progress=on_progress))

    def events(
        self, inversion: Inversion | str, *, after: str | None = None, timeout_s: float | None = None
    ) -> AsyncIterator[Event]:
        """Iterate over the events. If you leave the loop early, use contextlib.aclosing."""
        plan = following.events(self._retries, inversion_path(inversion), after=after, timeout_s=timeout_s)
        return self._iterate(plan)

    # ---- results

    async def frames(self, inversion: Inversion | str) -> tuple[Frame, ...]:
        """The frames by now."""
        return await self._run(managing.frames(self._retries, inversion_path(inversion)))

    async def frame(self, inversion: Inversion | str, step: int) -> bytes:
        """The picture of that step, WebP."""
        return await self._run(results.frame(self._retries, inversion_path(inversion), step))

    @overload
    async def download(
        self, inversion: Inversion | str, kind: Kind, *, frames: int | None = None, frame_ms: int | None = None
    ) -> bytes: ...

    @overload
    async def download(
        self,
        inversion: Inversion | str,
        kind: Kind,
        *,
        to: str | os.PathLike[str],
        frames: int | None = None,
        frame_ms: int | None = None,
    ) -> Path: ...

    async def download(
        self,
        inversion: Inversion | str,
        kind: Kind,
        *,
        to: str | os.PathLike[str] | None = None,
        frames: int | None = None,
        frame_ms: int | None = None,
    ) -> bytes | Path:
        """Download a result: as bytes, or with `to` into a file or folder, returning the path."""
        path, params = inversion_path(inversion), {"frames": frames, "frame_ms": frame_ms}
        if to is None:
            return await self._run(results.download(self._retries, path, kind, params))
        return await self._run(results.save(self._retries, path, kind, to, params))

    async def code(self, inversion: Inversion | str) -> Floats:
        """The W+ code as a numpy array, float32, (layers, w_dim)."""
        return await self._run(results.code(self._retries, inversion_path(inversion)))

    # ---- edit

    async def render(
        self,
        source: RenderSource,
        edits: Edits = (),
        *,
        as_: RenderAs = "face",
        format: PictureFormat | None = None,
        side: int | None = None,
        paste: str | None = None,
        pack: str | None = None,
        session: str | None = None,
    ) -> Render:
        """The picture of a code with edits, at once; nothing is kept."""
        plan = rendering.render(
            self._retries,
            source,
            edits,
            as_=as_,
            format=format,
            side=side,
            paste=paste,
            pack=pack,
            session=session,
        )
        return await self._run(plan)

    async def render_code(self, source: RenderSource, edits: Edits = (), *, pack: str | None = None) -> Floats:
        """The W+ code after the edits as a numpy array, float32, (layers, w_dim)."""
        return await self._run(rendering.render_code(self._retries, source, edits, pack=pack))

    async def save_edit(
        self, inversion: Inversion | str, edits: Edits, *, name: str = "", parent: SavedEdit | str | None = None
    ) -> SavedEdit:
        """Keep an edit list with an inversion; `parent` is what undo leads to."""
        return await self._run(rendering.save_edit(self._retries, inversion, edits, name=name, parent=parent))

    async def edits(self, inversion: Inversion | str) -> tuple[SavedEdit, ...]:
        """The edit lists that are saved with an inversion, oldest first."""
        return await self._run(rendering.edits(self._retries, inversion))

    async def delete_edit(self, inversion: Inversion | str, edit: SavedEdit | str) -> None:
        """Delete a saved edit list."""
        await self._run(rendering.delete_edit(self._retries, inversion, edit))

    # ---- manage

    def list(
        self,
        *,
        status: str | None = None,
        pack: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Inversion]:
        """All inversions that the filters let through, newest first; pages are fetched as they are needed."""
        plan = managing.inversions(
            self._retries,
            status=status,
            pack=pack,
            created_after=created_after,
            created_before=created_before,
            page_size=page_size,
        )
        return self._iterate(plan)

    async def cancel(self, inversion: Inversion | str) -> Inversion:
        """Stop it; a running one stops after the step at hand."""
        return await self._run(managing.cancel(self._retries, Inversion, inversion_path(inversion)))

    async def finish(self, inversion: Inversion | str) -> Inversion:
        """Stop after the current step and succeed with the best code so far."""
        return await self._run(managing.finish(self._retries, inversion_path(inversion)))

    async def cancel_batch(self, batch: Batch | str) -> Batch:
        """Stop all of it that has not ended."""
        return await self._run(managing.cancel(self._retries, Batch, batch_path(batch)))

    async def retry(self, inversion: Inversion | str, *, idempotency_key: str | None = None) -> Inversion:
        """A new inversion in the place of one that failed or was canceled; `idempotency_key` as in `submit`."""
        plan = managing.retry(self._retries, inversion_path(inversion), idempotency_key=idempotency_key)
        return await self._run(plan)

    async def delete(self, inversion: Inversion | str) -> None:
        """Delete the photo and all that was made of it, at once."""
        await self._run(managing.delete(self._retries, inversion_path(inversion)))

    async def delete_batch(self, batch: Batch | str) -> None:
        """Delete every photo of the batch and all that was made of them, at once."""
        await self._run(managing.delete(self._retries, batch_path(batch)))

    async def faces(self, photo: Photo) -> Faces:
        """The faces in a photo, found at once and without an inversion; nothing is kept.

        `submit(photo, face=1)` then takes the second, `quad=` any part of the photo. Raises: ProblemError, 503, where
        no worker answers.
        """
        return await self._run(submitting.faces(self._retries, photo))

    async def packs(self) -> tuple[Pack, ...]:
        """The packs that live workers have announced."""
        return await self._run(managing.packs(self._retries))

    async def interpolate(
        self,
        source: RenderSource,
        to: RenderSource | Edits,
        *,
        frames: int | None = None,
        kind: Literal["linear", "spherical"] | None = None,
        format: FilmFormat | None = None,
        side: int | None = None,
        fps: float | None = None,
        there_and_back: bool = False,
        pack: str | None = None,
    ) -> bytes:
        """A film of the way from a code to another, or to the same with edits: WebP, MP4 or GIF, up to 60 frames.

        `to`: a source as `render` takes it, an edit list, or directions and strengths in short: `{"smile": 1.5}`.
        """
        options = {"frames": frames, "kind": kind, "format": format, "side": side, "fps": fps}
        options |= {"there_and_back": there_and_back or None}
        return await self._run(rendering.interpolate(self._retries, source, to, options, pack=pack))

    # ---- directions

    async def directions(self, pack: Pack | str) -> tuple[Direction, ...]:
        """The editing directions of a pack, then your own for it."""
        return await self._run(directing.directions(self._retries, pack))

    async def make_direction(
        self,
        pack: Pack | str,
        name: str,
        *,
        direction: Code | None = None,
        plus: Sequence[Inversion | str] = (),
        minus: Sequence[Inversion | str] = (),
        **options: Unpack[DirectionOptions],
    ) -> Direction:
        """Make a direction of your own, from a file or an array, or from two lists of inversions.

        `direction`: what a strength of 1 adds to a code, (layers, w_dim), or one row for all layers.
        `plus`, `minus`: the direction is the mean of the codes in `plus` less the mean of those in `minus`.
        """
        plan = directing.make(self._retries, pack, name, direction=direction, plus=plus, minus=minus, options=options)
        return await self._run(plan)

    async def direction_strip(
        self, pack: Pack | str, direction: Direction | str, *, seed: int | None = None, side: int | None = None
    ) -> bytes:
        """One random face at five strengths of a direction, from its lowest to its highest, as a WebP."""
        path = directing.direction_path(pack, direction)
        return await self._run(directing.strip(self._retries, path, {"seed": seed, "side": side}))

    async def delete_direction(self, pack: Pack | str, direction: Direction | str) -> None:
        """Delete a direction of your own."""
        await self._run(directing.delete(self._retries, directing.direction_path(pack, direction)))

    # ---- running plans

    async def _run(self, plan: Plan[T]) -> T:
        result: T = await AsyncDriver(self._http, plan).result()
        return result

    def _iterate(self, plan: Plan[None]) -> AsyncIterator[Any]:
        return AsyncDriver(self._http, plan).values()

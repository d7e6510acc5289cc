"""`InversionClient`, the blocking client. The logic is in the plans; this runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import httpx

from inversion_client import directing, following, managing, rendering, results, submitting
from inversion_client.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, http_arguments
from inversion_client.driver import Driver
from inversion_client.managing import batch_path, inversion_path
from inversion_client.models import Batch, Direction, Event, Faces, Frame, Inversion, Pack, Render, SavedEdit
from inversion_client.plan import Plan, Retries
from inversion_client.rendering import Edits, FilmFormat, PictureFormat, RenderAs, RenderSource
from inversion_client.uploading import Code, DirectionOptions, Options, Photo

if TYPE_CHECKING:
    from inversion_client.results import Floats, Kind

T = TypeVar("T")


class InversionClient:
    """A client of a running service. Thread-safe.

        with InversionClient("http://127.0.0.1:8000") as client:
            inversion = client.wait(client.submit("face.jpg", steps=50))
            w_LD = client.code(inversion)

    Every method may raise the errors in errors.py. Inversions can be passed as objects or by id.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`api_key` defaults to INVERSION_API_KEY; `timeout_s` is the longest silence within a request.

        Raises:
            ValueError: the URL, the key or a number is not valid.
        """
        self._retries = retries or Retries()
        self._http = httpx.Client(**http_arguments(url, api_key, timeout_s), transport=transport)

    def __enter__(self) -> InversionClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    # ---- submit

    def submit(
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
        """Queue a photo, or go on from another inversion.

        `source`: an inversion in the place of a photo: its photo, mask and crop, from its best code so far. The new one
        does not depend on it.
        `mask`: an image of the size of the upright photo, white where the result must match it.
        `latents`: a code to start from.
        `wait_s`: return the finished inversion if it is ready in that time.
        `idempotency_key`: your own key, so that another process can repeat the request too. By default one is
        generated, so retries after a lost response are safe.
        """
        return self._run(
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

    def submit_batch(
        self, photos: Sequence[Photo], *, idempotency_key: str | None = None, **options: Unpack[Options]
    ) -> Batch:
        """Queue up to 64 photos with the same options. If one is refused, none is queued."""
        plan = submitting.submit_batch(self._retries, photos, options, idempotency_key=idempotency_key)
        return self._run(plan)

    def diffuse(
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
        return self._run(plan)

    # ---- follow

    def get(self, inversion: Inversion | str) -> Inversion:
        """The current state of an inversion."""
        return self._run(managing.get(self._retries, Inversion, inversion_path(inversion)))

    def get_batch(self, batch: Batch | str) -> Batch:
        """The current state of a batch."""
        return self._run(managing.get(self._retries, Batch, batch_path(batch)))

    def wait(
        self,
        inversion: Inversion | str,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[Inversion], object] | None = None,
    ) -> Inversion:
        """Wait until an inversion has succeeded; `on_progress` is called after each change.

        Polls as often as the service asks for. Without `timeout_s` it waits as long as it takes.

        Raises:
            InversionFailed, InversionCanceled: it did not succeed.
            WaitTimedOut: it has not ended in time.
        """
        path = inversion_path(inversion)
        plan = following.wait_for_result(self._retries, path, timeout_s=timeout_s, on_progress=on_progress)
        return self._run(plan)

    def wait_batch(
        self,
        batch: Batch | str,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[Batch], object] | None = None,
    ) -> Batch:
        """Wait until all inversions of a batch have ended, whatever the outcome. Raises: WaitTimedOut."""
        path = batch_path(batch)
        return self._run(following.wait(self._retries, Batch, path, timeout_s=timeout_s, on_progress=on_progress))

    def events(
        self, inversion: Inversion | str, *, after: str | None = None, timeout_s: float | None = None
    ) -> Iterator[Event]:
        """Iterate over all events, or those after the id `after`, until the inversion ends.

        Each event comes once and in order, also across reconnects. `timeout_s` is checked whenever the service sends
        something, at least every 15 seconds.

        Raises:
            WaitTimedOut: it has not ended in time.
            NotFound, Gone: it was deleted or has expired.
        """
        plan = following.events(self._retries, inversion_path(inversion), after=after, timeout_s=timeout_s)
        return self._iterate(plan)

    # ---- results

    def frames(self, inversion: Inversion | str) -> tuple[Frame, ...]:
        """The frames so far."""
        return self._run(managing.frames(self._retries, inversion_path(inversion)))

    def frame(self, inversion: Inversion | str, step: int) -> bytes:
        """The image of a step, WebP."""
        return self._run(results.frame(self._retries, inversion_path(inversion), step))

    @overload
    def download(
        self, inversion: Inversion | str, kind: Kind, *, frames: int | None = None, frame_ms: int | None = None
    ) -> bytes: ...

    @overload
    def download(
        self,
        inversion: Inversion | str,
        kind: Kind,
        *,
        to: str | os.PathLike[str],
        frames: int | None = None,
        frame_ms: int | None = None,
    ) -> Path: ...

    def download(
        self,
        inversion: Inversion | str,
        kind: Kind,
        *,
        to: str | os.PathLike[str] | None = None,
        frames: int | None = None,
        frame_ms: int | None = None,
    ) -> bytes | Path:
        """Download a result: as bytes, or with `to` into a file or folder, returning the path.

        `frames`: maximum number of frames in a strip or animation. `frame_ms`: duration of each in the animation.
        """
        path, params = inversion_path(inversion), {"frames": frames, "frame_ms": frame_ms}
        if to is None:
            return self._run(results.download(self._retries, path, kind, params))
        return self._run(results.save(self._retries, path, kind, to, params))

    def code(self, inversion: Inversion | str) -> Floats:
        """The W+ code as a numpy array, float32, (layers, w_dim). Raises: ModuleNotFoundError without numpy."""
        return self._run(results.code(self._retries, inversion_path(inversion)))

    # ---- edit

    def render(
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
        """Render a code with edits: at once, however long the queue is. Nothing is kept.

            face = client.render(inversion, {"smile": 1.5}, format="webp", side=512).data

        `source`: an inversion (the best code so far while it runs), `{"seed": 7}` for a random face, or a code.
        `edits`: an edit list, or directions and strengths in short.
        `as_`: face; photo, the upright photo with the edit in it; patch, the part that changes, with transparency.
        `paste`: how a photo is changed: difference (the default, keeps every pore) or replace.
        `session`: a name of your own, such as that of a slider; a newer request of the session ends an older one.

        Raises:
            ProblemError: `render-superseded` (409) if a newer request of the session came; 503 if no worker answers.
        """
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
        return self._run(plan)

    def render_code(self, source: RenderSource, edits: Edits = (), *, pack: str | None = None) -> Floats:
        """The W+ code after the edits as a numpy array, float32, (layers, w_dim); arguments as in `render`."""
        return self._run(rendering.render_code(self._retries, source, edits, pack=pack))

    def save_edit(
        self, inversion: Inversion | str, edits: Edits, *, name: str = "", parent: SavedEdit | str | None = None
    ) -> SavedEdit:
        """Keep an edit list with an inversion, until that is deleted or expires; `parent` is what undo leads to."""
        return self._run(rendering.save_edit(self._retries, inversion, edits, name=name, parent=parent))

    def edits(self, inversion: Inversion | str) -> tuple[SavedEdit, ...]:
        """The edit lists that are saved with an inversion, oldest first."""
        return self._run(rendering.edits(self._retries, inversion))

    def delete_edit(self, inversion: Inversion | str, edit: SavedEdit | str) -> None:
        """Delete a saved edit list; those made from it get its parent as theirs."""
        self._run(rendering.delete_edit(self._retries, inversion, edit))

    # ---- manage

    def list(
        self,
        *,
        status: str | None = None,
        pack: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 100,
    ) -> Iterator[Inversion]:
        """All inversions that match the filters, newest first. Pages are fetched as needed."""
        plan = managing.inversions(
            self._retries,
            status=status,
            pack=pack,
            created_after=created_after,
            created_before=created_before,
            page_size=page_size,
        )
        return self._iterate(plan)

    def cancel(self, inversion: Inversion | str) -> Inversion:
        """Cancel an inversion; a running one stops after the current step."""
        return self._run(managing.cancel(self._retries, Inversion, inversion_path(inversion)))

    def finish(self, inversion: Inversion | str) -> Inversion:
        """Stop after the current step and succeed with the best code so far.

        Returns the inversion, which may still be running; `wait` for its end. No effect if it has already succeeded.
        Raises: ProblemError `already-final` if it failed or was canceled.
        """
        return self._run(managing.finish(self._retries, inversion_path(inversion)))

    def cancel_batch(self, batch: Batch | str) -> Batch:
        """Cancel all inversions of a batch that have not ended."""
        return self._run(managing.cancel(self._retries, Batch, batch_path(batch)))

    def retry(self, inversion: Inversion | str, *, idempotency_key: str | None = None) -> Inversion:
        """Retry an inversion that failed or was canceled; returns a new one. `idempotency_key` as in `submit`."""
        plan = managing.retry(self._retries, inversion_path(inversion), idempotency_key=idempotency_key)
        return self._run(plan)

    def delete(self, inversion: Inversion | str) -> None:
        """Delete the photo and all results immediately."""
        self._run(managing.delete(self._retries, inversion_path(inversion)))

    def delete_batch(self, batch: Batch | str) -> None:
        """Delete all photos of a batch and their results immediately."""
        self._run(managing.delete(self._retries, batch_path(batch)))

    def faces(self, photo: Photo) -> Faces:
        """Detect the faces in a photo without starting an inversion. Nothing is kept.

        `submit(photo, face=1)` then takes the second face, `quad=` any region. Raises: ProblemError (503) if no worker
        answers.
        """
        return self._run(submitting.faces(self._retries, photo))

    def packs(self) -> tuple[Pack, ...]:
        """The packs that running workers offer."""
        return self._run(managing.packs(self._retries))

    def interpolate(
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
        return self._run(rendering.interpolate(self._retries, source, to, options, pack=pack))

    # ---- directions

    def directions(self, pack: Pack | str) -> tuple[Direction, ...]:
        """The editing directions of a pack, then your own for it."""
        return self._run(directing.directions(self._retries, pack))

    def make_direction(
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
        return self._run(plan)

    def direction_strip(
        self, pack: Pack | str, direction: Direction | str, *, seed: int | None = None, side: int | None = None
    ) -> bytes:
        """One random face at five strengths of a direction, from its lowest to its highest, as a WebP."""
        path = directing.direction_path(pack, direction)
        return self._run(directing.strip(self._retries, path, {"seed": seed, "side": side}))

    def delete_direction(self, pack: Pack | str, direction: Direction | str) -> None:
        """Delete a direction of your own."""
        self._run(directing.delete(self._retries, directing.direction_path(pack, direction)))

    # ---- running plans

    def _run(self, plan: Plan[T]) -> T:
        result: T = Driver(self._http, plan).result()
        return result

    def _iterate(self, plan: Plan[None]) -> Iterator[Any]:
        return Driver(self._http, plan).values()

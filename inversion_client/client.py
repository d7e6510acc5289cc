"""`InversionClient`, which blocks. What it does stands in the plans; this runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import httpx

from inversion_client import following, managing, results, submitting
from inversion_client.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, http_arguments
from inversion_client.driver import Driver
from inversion_client.managing import batch_path, inversion_path
from inversion_client.models import Batch, Event, Faces, Frame, Inversion, Pack
from inversion_client.plan import Plan, Retries
from inversion_client.uploading import Code, Options, Photo

if TYPE_CHECKING:
    from inversion_client.results import Floats, Kind

T = TypeVar("T")


class InversionClient:
    """A running service. Threads may share one.

        with InversionClient("http://127.0.0.1:8000") as client:
            inversion = client.wait(client.submit("face.jpg", steps=50))
            w_LD = client.code(inversion)

    Every method raises the errors of errors.py; an inversion may be given as such or by its id.
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
        """`api_key` defaults to INVERSION_API_KEY; `timeout_s` is the longest silence of the service in one request.

        Raises:
            ValueError: the address, the key or a number is none.
        """
        self._retries = retries or Retries()
        self._http = httpx.Client(**http_arguments(url, api_key, timeout_s), transport=transport)

    def __enter__(self) -> InversionClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    # ---- submit

    def submit(
        self,
        photo: Photo,
        *,
        mask: Photo | None = None,
        latents: Code | None = None,
        wait_s: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Inversion:
        """Queue a photo.

        `mask`: as large as the upright photo, white where the face must agree with it.
        `latents`: a code to start from.
        `wait_s`: let the service answer with the finished inversion if it is ready in time.
        `idempotency_key`: one of your own, so that another process can repeat the request too; without it one is
        made, which makes repeating after a lost answer safe.
        """
        return self._run(
            submitting.submit(
                self._retries,
                photo,
                options,
                mask=mask,
                latents=latents,
                wait_s=wait_s,
                idempotency_key=idempotency_key,
            )
        )

    def submit_batch(
        self, photos: Sequence[Photo], *, idempotency_key: str | None = None, **options: Unpack[Options]
    ) -> Batch:
        """Queue up to 64 photos with the same options: all of them, or none where one is refused."""
        plan = submitting.submit_batch(self._retries, photos, options, idempotency_key=idempotency_key)
        return self._run(plan)

    # ---- follow

    def get(self, inversion: Inversion | str) -> Inversion:
        """The inversion as it stands."""
        return self._run(managing.get(self._retries, Inversion, inversion_path(inversion)))

    def get_batch(self, batch: Batch | str) -> Batch:
        """The batch as it stands."""
        return self._run(managing.get(self._retries, Batch, batch_path(batch)))

    def wait(
        self,
        inversion: Inversion | str,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[Inversion], object] | None = None,
    ) -> Inversion:
        """The inversion once it has succeeded; `on_progress` is called with each change that was seen.

        It asks as often as the service wants, and what has not changed is not sent again. Without `timeout_s` it
        waits as long as it takes.

        Raises:
            InversionFailed, InversionCanceled: it ended otherwise.
            WaitTimedOut: it has not ended.
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
        """The batch once all of it has ended, however each did. Raises: WaitTimedOut."""
        path = batch_path(batch)
        return self._run(following.wait(self._retries, Batch, path, timeout_s=timeout_s, on_progress=on_progress))

    def events(
        self, inversion: Inversion | str, *, after: str | None = None, timeout_s: float | None = None
    ) -> Iterator[Event]:
        """Every event from the beginning (or behind the one with the id `after`) to the end, as it happens.

        Each comes once, in order, whatever happens to the connection. `timeout_s` is looked at whenever the service
        sends something, a comment every 15 seconds at least.

        Raises:
            WaitTimedOut: it has not ended.
            NotFound, Gone: it was deleted, or has expired.
        """
        plan = following.events(self._retries, inversion_path(inversion), after=after, timeout_s=timeout_s)
        return self._iterate(plan)

    # ---- results

    def frames(self, inversion: Inversion | str) -> tuple[Frame, ...]:
        """The frames by now."""
        return self._run(managing.frames(self._retries, inversion_path(inversion)))

    def frame(self, inversion: Inversion | str, step: int) -> bytes:
        """The picture of that step, WebP."""
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
        """A result's bytes; or, with `to`, the path of the file where they are now; a folder gets one named for it.

        `frames`: most frames of the strip or the animation. `frame_ms`: how long the animation shows each.
        """
        path, params = inversion_path(inversion), {"frames": frames, "frame_ms": frame_ms}
        if to is None:
            return self._run(results.download(self._retries, path, kind, params))
        return self._run(results.save(self._retries, path, kind, to, params))

    def code(self, inversion: Inversion | str) -> Floats:
        """The W+ code as a numpy array, float32, (layers, w_dim). Raises: ModuleNotFoundError without numpy."""
        return self._run(results.code(self._retries, inversion_path(inversion)))

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

    def cancel(self, inversion: Inversion | str) -> Inversion:
        """Stop it; a running one stops after the step at hand."""
        return self._run(managing.cancel(self._retries, Inversion, inversion_path(inversion)))

    def finish(self, inversion: Inversion | str) -> Inversion:
        """Good enough: let it succeed with the best code so far, after the step at hand.

        The answer is the inversion as it is then; `wait` for its end. One that has succeeded already stays as it is.
        Raises: ProblemError `already-final` for one that failed or was canceled.
        """
        return self._run(managing.finish(self._retries, inversion_path(inversion)))

    def cancel_batch(self, batch: Batch | str) -> Batch:
        """Stop all of it that has not ended."""
        return self._run(managing.cancel(self._retries, Batch, batch_path(batch)))

    def retry(self, inversion: Inversion | str, *, idempotency_key: str | None = None) -> Inversion:
        """A new inversion in the place of one that failed or was canceled; `idempotency_key` as in `submit`."""
        plan = managing.retry(self._retries, inversion_path(inversion), idempotency_key=idempotency_key)
        return self._run(plan)

    def delete(self, inversion: Inversion | str) -> None:
        """Delete the photo and all that was made of it, at once."""
        self._run(managing.delete(self._retries, inversion_path(inversion)))

    def delete_batch(self, batch: Batch | str) -> None:
        """Delete every photo of the batch and all that was made of them, at once."""
        self._run(managing.delete(self._retries, batch_path(batch)))

    def faces(self, photo: Photo) -> Faces:
        """The faces in a photo, found at once and without an inversion; nothing is kept.

        `submit(photo, face=1)` then takes the second, `quad=` any part of the photo. Raises: ProblemError, 503, where
        no worker answers.
        """
        return self._run(submitting.faces(self._retries, photo))

    def packs(self) -> tuple[Pack, ...]:
        """The packs that live workers have announced."""
        return self._run(managing.packs(self._retries))

    # ---- running plans

    def _run(self, plan: Plan[T]) -> T:
        result: T = Driver(self._http, plan).result()
        return result

    def _iterate(self, plan: Plan[None]) -> Iterator[Any]:
        return Driver(self._http, plan).values()

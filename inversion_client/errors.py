"""What can go wrong, for callers to catch.

ClientError
  + ProblemError           the service refused: its problem document (RFC 9457)
  |   + KeyRefused         401, 403   no key, a wrong one, or one without the scope
  |   + NotFound           404        no such inversion, batch, frame or result
  |   + Gone               410        it has expired, or was deleted meanwhile
  |   + RateLimited        429        still, after waiting and asking again
  |   + InversionFailed    the inversion's own `error`
  + InversionCanceled      it was canceled while somebody waited for it
  + WaitTimedOut           it has not ended in time; also a TimeoutError
  + ServiceUnreachable     no answer, or none that arrived whole
  + AnswerInvalid          an answer that the API does not give
"""

from __future__ import annotations

import httpx

from inversion_client.models import Inversion, Problem
from inversion_client.reading import AnswerInvalid, ClientError, read

__all__ = [
    "AnswerInvalid",
    "ClientError",
    "Gone",
    "InversionCanceled",
    "InversionFailed",
    "KeyRefused",
    "NotFound",
    "ProblemError",
    "RateLimited",
    "ServiceUnreachable",
    "WaitTimedOut",
]


class ProblemError(ClientError):
    """The service refused the request. `type` is stable, so programs can test it."""

    def __init__(
        self, problem: Problem, *, retry_after_s: float | None = None, request_id: str = "", repeated: bool = False
    ) -> None:
        self.type = problem.type
        """Such as /problems/no-face-found; about:blank if the answer did not come from the service."""
        self.title = problem.title
        self.status = problem.status
        self.detail = problem.detail
        """What happened, and what to do about it."""
        self.instance = problem.instance
        self.retry_after_s = retry_after_s
        """Seconds after which to try again, if the service said so."""
        self.request_id = request_id
        """The request id, for the operator of the service."""
        self.repeated = repeated
        """Whether an earlier try of this request may have succeeded, with its response lost."""
        super().__init__(f"{problem.title}: {problem.detail}" if problem.detail else problem.title)


class KeyRefused(ProblemError):
    """The API key is missing, invalid, or lacks the scope."""


class NotFound(ProblemError):
    """It does not exist, or belongs to another tenant."""


class Gone(ProblemError):
    """It has expired, or the inversion of this Idempotency-Key was deleted. Photo and results are gone."""


class RateLimited(ProblemError):
    """Rate limited, even after several retries."""


class InversionFailed(ProblemError):
    """The inversion failed."""

    def __init__(self, inversion: Inversion, problem: Problem) -> None:
        self.inversion = inversion
        super().__init__(problem)


class InversionCanceled(ClientError):
    """The inversion was canceled."""

    def __init__(self, inversion: Inversion) -> None:
        self.inversion = inversion
        super().__init__(f"The inversion {inversion.id} was canceled.")


class WaitTimedOut(ClientError, TimeoutError):
    """It has not ended in time and keeps running: wait again, or cancel it."""


class ServiceUnreachable(ClientError):
    """No response. The request may have been carried out anyway."""


_BY_STATUS = {401: KeyRefused, 403: KeyRefused, 404: NotFound, 410: Gone, 429: RateLimited}


def problem_of(response: httpx.Response, *, retry_after_s: float | None, repeated: bool) -> ProblemError:
    """The error that an answer stands for. Its body has been read."""
    kind = _BY_STATUS.get(response.status_code, ProblemError)
    request_id = response.headers.get("x-request-id", "")
    return kind(_document(response), retry_after_s=retry_after_s, request_id=request_id, repeated=repeated)


def _document(response: httpx.Response) -> Problem:
    """The problem document, or one made up where a proxy or another server answered."""
    try:
        return read(Problem, response.json())
    except (ValueError, AnswerInvalid):
        title = f"{response.status_code} {response.reason_phrase}".strip()
        detail = f"{response.request.method} {response.request.url} was not answered as the API would."
        return Problem(type="about:blank", title=title, status=response.status_code, detail=detail)

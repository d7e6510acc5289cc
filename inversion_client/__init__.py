"""A client of the inversion service, blocking and asynchronous. It needs httpx, and numpy for codes as arrays.

from inversion_client import InversionClient

with InversionClient("http://127.0.0.1:8000") as client:
    inversion = client.wait(client.submit("face.jpg", steps=50))
    w_LD = client.code(inversion)
"""

from inversion_client.async_client import AsyncInversionClient
from inversion_client.client import InversionClient
from inversion_client.errors import (
    AnswerInvalid,
    ClientError,
    Gone,
    InversionCanceled,
    InversionFailed,
    KeyRefused,
    NotFound,
    ProblemError,
    RateLimited,
    ServiceUnreachable,
    WaitTimedOut,
)
from inversion_client.models import (
    Batch,
    Direction,
    Event,
    Face,
    Faces,
    FaceSeen,
    Frame,
    Inversion,
    MissingResult,
    Pack,
    PackName,
    PhotoSize,
    PhotoWarning,
    Problem,
    Render,
    SavedEdit,
)
from inversion_client.plan import Retries

__all__ = [
    "AnswerInvalid",
    "AsyncInversionClient",
    "Batch",
    "ClientError",
    "Direction",
    "Event",
    "Face",
    "FaceSeen",
    "Faces",
    "Frame",
    "Gone",
    "Inversion",
    "InversionCanceled",
    "InversionClient",
    "InversionFailed",
    "KeyRefused",
    "MissingResult",
    "NotFound",
    "Pack",
    "PackName",
    "PhotoSize",
    "PhotoWarning",
    "Problem",
    "ProblemError",
    "RateLimited",
    "Render",
    "Retries",
    "SavedEdit",
    "ServiceUnreachable",
    "WaitTimedOut",
]

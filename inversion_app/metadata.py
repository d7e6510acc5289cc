"""`metadata`: a small JSON object of the sender's own, which comes back in records, events and webhooks.

The service looks at its shape alone. No message and no log line repeats anything of it.
"""

from __future__ import annotations

import json
from typing import Any

from inversion_app.errors import ProblemError
from inversion_app.strict_json import Limits, read_json
from inversion_worker.contract import MAX_METADATA_BYTES

MAX_DEPTH = 6
"""Most objects and lists within each other, the whole among them."""
_LIMITS = Limits(values=MAX_METADATA_BYTES, texts=MAX_METADATA_BYTES, depth=MAX_DEPTH)


def read_metadata(text: str) -> dict[str, Any]:
    """Metadata from the text of a form field. Raises: ProblemError `option-invalid`."""
    try:
        return check_metadata(read_json(text.encode(), _LIMITS))
    except ValueError as error:  # the parser's words may repeat a key
        raise _invalid("it is no JSON object, holds a key twice, or is too deep") from error


def check_metadata(value: Any) -> dict[str, Any]:
    """Metadata from a JSON value. Raises: ProblemError `option-invalid`."""
    if not isinstance(value, dict):
        raise _invalid("it is no JSON object")
    try:
        compact = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        if len(compact) > MAX_METADATA_BYTES:
            raise _invalid(f"it has {len(compact):,} bytes as compact JSON in UTF-8")
        read_json(compact, _LIMITS)
    except ValueError as error:
        raise _invalid("a number in it is not finite or too long, or it is too deep") from error
    return value


def _invalid(fault: str) -> ProblemError:
    limits = f"at most {MAX_METADATA_BYTES:,} bytes, and {MAX_DEPTH} objects and lists within each other"
    return ProblemError("option-invalid", f"`metadata`: {fault}. Send a JSON object of {limits}.")

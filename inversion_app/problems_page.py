"""docs/errors.md out of the table of problems: `python -m inversion_app.problems_page > docs/errors.md`."""

from __future__ import annotations

from itertools import groupby

from inversion_app.errors import KINDS, MEDIA_TYPE, ProblemKind

_HEAD = f"""# Errors

Every error is an RFC 9457 problem document, `{MEDIA_TYPE}`:

```json
{{"type": "/problems/picture-too-small", "title": "The picture is too small", "status": 422,
 "detail": "It has 32 x 32 px. Send a picture whose shorter side has at least 64 px.", "instance": "/v1/inversions"}}
```

`type` never changes its meaning, so programs may test it; `title` is the kind in words, `detail` what happened here and
what to do about it. A running service shows the same list at `/problems`, and each kind at its `type`. An inversion
that failed carries such a document as its `error`.

A 429 or 5xx may pass: wait for `Retry-After` seconds where it is given, and send the request again, with the same
`Idempotency-Key` if it makes something. Any other 4xx will be the same the next time.

This page is generated from `inversion_app/errors.py`: `python -m inversion_app.problems_page > docs/errors.md`.
"""


def markdown() -> str:
    """The whole page; by status, and in the order of the table."""
    kinds = sorted(KINDS.values(), key=lambda kind: kind.status)
    parts = [_section(status, list(group)) for status, group in groupby(kinds, key=lambda kind: kind.status)]
    return "\n".join([_HEAD, *parts])


def _section(status: int, kinds: list[ProblemKind]) -> str:
    rows = [f"| `{kind.slug}` | {_cell(kind.title)} | {_cell(kind.remedy)} |" for kind in kinds]
    return "\n".join(
        [f"## {status}", "", "| type: /problems/... | what happened | what to do |", "|---|---|---|", *rows, ""]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")

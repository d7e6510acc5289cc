"""Which of several forms of a result an Accept header wants (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence


def chosen(accept: str | None, offered: Sequence[str]) -> str:
    """The media type of `offered` that is wanted most; of equals the one named first, then the one offered first.

    Where none is wanted it is the first all the same: an answer of another type is more use than none.
    """
    wanted = _wanted(accept or "*/*")
    best, best_rank = offered[0], (0.0, 0, 0)
    for media_type in offered:
        # The most specific range that matches says how much a type is wanted.
        matching = [
            (_specificity(range_), q, -at) for at, (range_, q) in enumerate(wanted) if _fits(media_type, range_)
        ]
        if not matching:
            continue
        specificity, q, at = max(matching)
        if q > 0 and (q, specificity, at) > best_rank:
            best, best_rank = media_type, (q, specificity, at)
    return best


def names_any(accept: str | None, kind: str) -> bool:
    """Whether a type that begins so, such as `image/`, is wanted and named: `*/*` names none."""
    return any(range_.startswith(kind) and q > 0 for range_, q in _wanted(accept or ""))


def _wanted(accept: str) -> list[tuple[str, float]]:
    found = []
    for part in accept.split(","):
        range_, *parameters = [piece.strip().lower() for piece in part.split(";")]
        q = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        try:
            found.append((range_, min(max(float(q), 0.0), 1.0)))
        except ValueError:
            found.append((range_, 0.0))
    return found


def _fits(media_type: str, range_: str) -> bool:
    return range_ in ("*/*", media_type, f"{media_type.split('/')[0]}/*")


def _specificity(range_: str) -> int:
    return 0 if range_ == "*/*" else 1 if range_.endswith("/*") else 2

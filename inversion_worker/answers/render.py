"""What does a code look like, with some edits? The question is a `contract.RenderOrder`, the result a `Rendered`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from inversion_worker.answering import Answer, Asked
from inversion_worker.backend import Backend, Materials
from inversion_worker.contract import RenderOrder, pack_topic

MOST_THREADS = 8


def answer(backend: Backend, asked: Asked) -> Answer:
    """Raises: JobRefused, where the code, an edit or the photo is at fault."""
    order = RenderOrder.model_validate(asked.params)
    rendered, body = backend.render(order, Materials(sent=asked.body, read=asked.read, is_wanted=asked.is_wanted))
    return Answer(result=rendered.model_dump(mode="json"), body=body)


def topics(backend: Backend) -> Sequence[str]:
    """The generators that are loaded."""
    return [pack_topic(pack.name, pack.digest) for pack in backend.packs()]


def threads() -> int:
    """One for each core: a render takes one of them."""
    return max(2, min(MOST_THREADS, len(os.sched_getaffinity(0))))

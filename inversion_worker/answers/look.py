"""Which faces are in a photo? The result is a `contract.Seen`."""

from __future__ import annotations

from inversion_worker.answering import Answer, Asked
from inversion_worker.backend import Backend


def answer(backend: Backend, asked: Asked) -> Answer:
    """Raises: JobRefused, where the photo cannot be read."""
    return Answer(result=backend.look(asked.body).model_dump(mode="json"))

"""What lies between two codes? The question is a `contract.FilmOrder`, the result a `Rendered` with the film."""

from __future__ import annotations

from inversion_worker.answering import Answer, Asked
from inversion_worker.backend import Backend, Materials
from inversion_worker.contract import FilmOrder


def answer(backend: Backend, asked: Asked) -> Answer:
    """Raises: JobRefused, where a code, an edit or the form is at fault, or nobody waits for it any more."""
    order = FilmOrder.model_validate(asked.params)
    materials = Materials(sent=asked.body, read=asked.read, is_wanted=asked.is_wanted)
    rendered, body = backend.film(order, materials)
    return Answer(result=rendered.model_dump(mode="json"), body=body)

"""The table of what a worker answers at once. A further kind is a file here, an entry, and a QuestionKind.

A kind has threads of its own, so that a slow one holds no other up.
"""

from __future__ import annotations

from collections.abc import Mapping

from inversion_worker.answering import Handler
from inversion_worker.answers import film, look, render
from inversion_worker.contract import QuestionKind

HANDLERS: Mapping[str, Handler] = {
    QuestionKind.LOOK: Handler(answer=look.answer),
    QuestionKind.RENDER: Handler(answer=render.answer, threads=render.threads(), topics=render.topics),
    QuestionKind.FILM: Handler(answer=film.answer, topics=render.topics),
}

"""The side that answers: threads of their own, so that a question waits for no job, and takes no slot from one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from inversion_worker import logs, questions, scripts, tracing
from inversion_worker.artifacts import ArtifactStore
from inversion_worker.backend import Backend
from inversion_worker.connection import connect
from inversion_worker.contract import ArtifactKey, Problem, QuestionHead, ReplyHead
from inversion_worker.errors import JobRefused, StorageFull
from inversion_worker.meters import Meters
from inversion_worker.problems import INTERNAL, STORAGE_FULL

log = logging.getLogger(__name__)

_BLOCK_S = 1.0
_PAUSE_S = 0.5
_STOP_WITHIN_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, as its handler gets it."""

    params: Mapping[str, Any]
    """Nothing of them has been checked."""
    body: bytes
    until_s: float
    """When nobody waits for the answer any more, by time.monotonic()."""
    read: Callable[[str], bytes | None]
    """The bytes of an artifact by its key; None where there are none."""
    is_wanted: Callable[[], bool]
    """Whether somebody waits for the answer still: to be asked before the longer part of the work."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a handler says."""

    result: Mapping[str, Any]
    """As JSON has it."""
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Handler:
    """How one kind is answered."""

    answer: Callable[[Backend, Asked], Answer]
    """Runs in any of the kind's threads. May raise: JobRefused, whose problem is then the answer."""
    threads: int = 1
    """Questions of this kind that a worker answers at once."""
    topics: Callable[[Backend], Sequence[str]] | None = None
    """What a worker with this backend can be asked about; None: the kind has no topics."""

    def lists(self, kind: str, backend: Backend) -> Sequence[str]:
        """Names of the lists whose questions it answers."""
        topics = ("",) if self.topics is None else self.topics(backend)
        return [questions.list_of(kind, topic) for topic in dict.fromkeys(topics)]


class Answerer:
    """Answers questions until it is stopped. A kind that is not in the table stays where it is, for other workers."""

    def __init__(
        self,
        redis: Redis,
        artifacts: ArtifactStore,
        backend: Backend,
        handlers: Mapping[str, Handler],
        name: str,
        meters: Meters | None = None,
    ) -> None:
        """`name` is the worker's id."""
        self._redis = redis
        self._artifacts = artifacts
        self._backend = backend
        self._handlers = handlers
        self._name = name
        self._meters = meters or Meters()
        self._lists = {kind: handler.lists(kind, backend) for kind, handler in handlers.items()}
        self._stop = Event()
        self._threads = [
            Thread(target=self._run, args=(kind, handler), name=f"answer-{kind}", daemon=True)
            for kind, handler in handlers.items()
            if self._lists[kind]
            for _ in range(handler.threads)
        ]

    @classmethod
    def from_url(
        cls,
        redis_url: str,
        artifacts: ArtifactStore,
        backend: Backend,
        handlers: Mapping[str, Handler],
        name: str,
        meters: Meters | None = None,
    ) -> Answerer:
        return cls(connect(redis_url), artifacts, backend, handlers, name, meters)

    def announce(self, ttl_s: float) -> None:
        """Be seen as one who answers for `ttl_s`. Raises: RedisError."""
        if not self._stop.is_set():
            keys = [questions.answering_key(name) for name in self._names()]
            self._redis.eval(questions.ANNOUNCE, len(keys), *keys, self._name, int(ttl_s * 1000))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no further question, and end those at hand where that is soon; harmless when it never started."""
        self._stop.set()
        try:
            for name in self._names():
                self._redis.zrem(questions.answering_key(name), self._name)
        except RedisError as error:
            log.warning("not withdrawn, counts as there for a moment: %s", error)
        until_s = time.monotonic() + _STOP_WITHIN_S
        for thread in _alive(self._threads):
            thread.join(max(0.0, until_s - time.monotonic()))
        if not _alive(self._threads):
            self._redis.close()

    def _names(self) -> list[str]:
        """Of all lists."""
        return [name for names in self._lists.values() for name in names]

    def _run(self, kind: str, handler: Handler) -> None:
        while not self._stop.is_set():
            try:
                self._answer_next(kind, handler)
            except RedisError as error:
                log.warning("questions have to wait: %s", error)
                self._stop.wait(_PAUSE_S)
            except Exception:
                log.exception("a question was lost kind=%s", kind)

    def _answer_next(self, kind: str, handler: Handler) -> None:
        keys = [questions.asked_key(name) for name in self._lists[kind]]
        popped = cast(tuple[str, str] | None, self._redis.blpop(keys, _BLOCK_S))
        if popped is None:
            return
        question_id = popped[1]
        taken = self._take(question_id)
        if taken is None:
            log.info("nobody waits for the answer any more kind=%s", kind)
            return
        value, left_ms = taken
        until_s = time.monotonic() + left_ms / 1000
        text, body = questions.unpack(value)
        head = QuestionHead.model_validate_json(text)
        with logs.about(request_id=head.request_id), tracing.span(f"answer {kind}", head.traceparent):
            began = time.monotonic()
            answer = self._answer(question_id, kind, handler, head, body, until_s)
            self._meters.answered(kind, time.monotonic() - began)
            self._reply(kind, question_id, answer, until_s)

    def _take(self, question_id: str) -> tuple[bytes, int] | None:
        taken: Any = self._redis.execute_command(  # type: ignore[no-untyped-call]
            "EVAL", questions.TAKE, 1, questions.question_key(question_id), **questions.AS_BYTES
        )
        return (taken[0], int(taken[1])) if taken else None

    def _answer(
        self, question_id: str, kind: str, handler: Handler, head: QuestionHead, body: bytes, until_s: float
    ) -> Answer | Problem:
        def is_wanted() -> bool:
            return time.monotonic() < until_s and not self._redis.exists(questions.dropped_key(question_id))

        began = time.monotonic()
        try:
            if head.stored is not None:
                body = self._artifacts.read(head.stored) or b""
            asked = Asked(
                params=head.params, body=body, until_s=until_s, read=self._artifacts.read, is_wanted=is_wanted
            )
            answer = handler.answer(self._backend, asked)
        except JobRefused as error:
            return error.problem
        except Exception:
            log.exception("failed kind=%s", kind)
            return INTERNAL
        log.info("answered kind=%s %.0f ms", kind, 1000 * (time.monotonic() - began))
        return answer

    def _reply(self, kind: str, question_id: str, answer: Answer | Problem, until_s: float) -> None:
        """Say it, unless that would come too late, or nobody wants to know."""
        if time.monotonic() >= until_s:
            return
        head, body = ReplyHead(), b""
        if isinstance(answer, Answer):
            try:
                stored = self._store(question_id, answer.body)
                head, body = ReplyHead(result=answer.result, stored=stored), b"" if stored else answer.body
            except StorageFull:
                answer = STORAGE_FULL
        if isinstance(answer, Problem):
            log.info("refused kind=%s problem=%s", kind, answer.type)
            head = ReplyHead(error=answer)
        left_ms = max(1, int(1000 * (until_s - time.monotonic())))
        keys = (questions.reply_key(question_id), questions.dropped_key(question_id))
        is_said = self._redis.eval(questions.REPLY, len(keys), *keys, questions.pack(head, body), left_ms)
        if head.stored is not None and not is_said:
            self._artifacts.delete(head.stored)

    def _store(self, question_id: str, body: bytes) -> str | None:
        """Key of the artifact that holds the bytes of a reply, where they are many. Raises: StorageFull."""
        if len(body) <= questions.INLINE_BYTES:
            return None
        self._redis.eval(questions.HOLD, 1, scripts.EXPIRY, question_id, questions.SWEPT_AFTER_S)
        key = ArtifactKey.reply(question_id)
        self._artifacts.write(key, body)
        return key


def _alive(threads: Iterable[Thread]) -> list[Thread]:
    return [thread for thread in threads if thread.is_alive()]

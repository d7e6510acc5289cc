"""The side that asks: put a question to whichever worker is free, and wait for its reply, but not for long."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from inversion_worker import logs, questions, scripts, tracing
from inversion_worker.artifacts import ArtifactStore
from inversion_worker.contract import ArtifactKey, QuestionHead, QuestionKind, ReplyHead
from inversion_worker.errors import JobRefused, NobodyAnswers
from inversion_worker.problems import SUPERSEDED

_BLOCK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much questions may take up."""

    most_waiting: int = 64
    """Questions of a kind that wait at a time; one more is not asked."""
    inline_bytes: int = questions.INLINE_BYTES
    """Most bytes that go with a question through Redis; more go through the artifact store."""
    swept_after_s: float = questions.SWEPT_AFTER_S
    """When a sweep takes the artifact of a question whose asker has died."""


BOUNDS = Bounds()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a worker said."""

    result: Mapping[str, Any]
    """Of the question's kind: see QuestionKind."""
    body: bytes
    """Bytes that come with it."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A place among questions of which the newest alone counts."""

    session: str
    number: str


class Asker:
    """Raises from every method: redis.exceptions.RedisError."""

    def __init__(self, redis: Redis, streams: Redis, artifacts: ArtifactStore, bounds: Bounds = BOUNDS) -> None:
        """`streams` is for commands that block."""
        self._redis = redis
        self._streams = streams
        self._artifacts = artifacts
        self._bounds = bounds

    async def begin(self, session: str) -> Turn:
        """The newest turn of a session: what is being asked under an older one is dropped, its asker refused."""
        dropped = questions.pack(ReplyHead(error=SUPERSEDED), b"")
        number: Any = await self._redis.eval(questions.BEGIN, 1, questions.session_key(session), dropped)
        return Turn(session=session, number=str(number))

    async def ask(
        self,
        kind: QuestionKind,
        params: Mapping[str, Any],
        body: bytes,
        timeout_s: float,
        *,
        stored: bool = False,
        topic: str = "",
        turn: Turn | None = None,
    ) -> Reply:
        """The reply of the first worker that is free.

        Nothing of the question is left when this returns, however it does.

        Args:
            stored: the bytes go through the artifact store, however few they are: what somebody uploaded shall be in
                no snapshot that Redis happens to take.
            topic: only workers with this one answer it.
            turn: it is refused, at once or later, when there is a newer one.
        Raises:
            NobodyAnswers: no worker answers this kind, too many questions wait, or the time is over.
            JobRefused: what was asked cannot be answered, or is superseded; its `problem` says why.
            StorageFull: there is no room for the bytes.
        """
        question_id = uuid.uuid4().hex
        name = questions.list_of(kind, topic)
        until_s = time.monotonic() + timeout_s
        least = 0 if stored else self._bounds.inline_bytes + 1
        async with self._stored(question_id, body, least) as key:
            head = QuestionHead(
                params=params,
                stored=key,
                request_id=logs.current("request_id"),
                traceparent=tracing.traceparent(),
            )
            value = questions.pack(head, b"" if key is not None else body)
            try:
                await self._put(name, question_id, value, until_s, turn)
                return await self._reply(name, question_id, until_s)
            finally:
                await asyncio.shield(self._forget(name, question_id, turn))

    @asynccontextmanager
    async def _stored(self, question_id: str, body: bytes, least: int) -> AsyncIterator[str | None]:
        """Key of the artifact that holds a body of at least so many bytes while the block lasts; None for others."""
        if len(body) < least:
            yield None
            return
        key = ArtifactKey.question(question_id)
        await self._redis.eval(questions.HOLD, 1, scripts.EXPIRY, question_id, self._bounds.swept_after_s)
        try:
            await asyncio.to_thread(self._artifacts.write, key, body)
            yield key
        finally:
            await asyncio.shield(self._unstore(question_id))

    async def _unstore(self, question_id: str) -> None:
        await asyncio.to_thread(self._artifacts.delete_job, question_id)
        await self._redis.zrem(scripts.EXPIRY, question_id)

    async def _put(self, name: str, question_id: str, value: bytes, until_s: float, turn: Turn | None) -> None:
        left_ms = int(1000 * (until_s - time.monotonic()))
        if left_ms <= 0:
            raise _late(name)
        most = self._bounds.most_waiting
        keys = [questions.answering_key(name), questions.asked_key(name), questions.question_key(question_id)]
        args: list[Any] = [question_id, left_ms, most, value]
        if turn is not None:
            keys.append(questions.session_key(turn.session))
            args.append(turn.number)
        answer: Any = await self._redis.eval(questions.ASK, len(keys), *keys, *args)
        if answer == "superseded":
            raise JobRefused(SUPERSEDED)
        if answer == "nobody":
            raise NobodyAnswers(f"No worker that is alive answers {name!r}.")
        if answer == "full":
            raise NobodyAnswers(f"{most} questions of this kind wait already.")

    async def _reply(self, name: str, question_id: str, until_s: float) -> Reply:
        key = questions.reply_key(question_id)
        while (left_s := until_s - time.monotonic()) > 0:
            wait_s = math.ceil(1000 * min(_BLOCK_S, left_s)) / 1000  # 0 would be for ever
            found: Any = await self._streams.execute_command(  # type: ignore[no-untyped-call]
                "BLPOP", key, wait_s, **questions.AS_BYTES
            )
            if found:
                return await self._read(question_id, found[1])
        raise _late(name)

    async def _read(self, question_id: str, value: bytes) -> Reply:
        text, body = questions.unpack(value)
        head = ReplyHead.model_validate_json(text)
        if head.error is not None:
            raise JobRefused(head.error)
        if head.stored is not None:
            try:
                stored = await asyncio.to_thread(self._artifacts.read, head.stored)
                body = stored if stored is not None else b""
            finally:
                await asyncio.shield(self._unstore(question_id))
        return Reply(result=head.result, body=body)

    async def _forget(self, name: str, question_id: str, turn: Turn | None) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.lrem(questions.asked_key(name), 1, question_id)
            pipe.delete(questions.question_key(question_id), questions.reply_key(question_id))
            if turn is not None:
                pipe.eval(questions.END, 1, questions.session_key(turn.session), question_id)
            await pipe.execute()


def _late(name: str) -> NobodyAnswers:
    return NobodyAnswers(f"No worker has answered {name!r} in time.")

"""Two drivers: each does what one plan asks for, one by blocking, the other by awaiting. Nothing is decided here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.to_thread
import httpx

from inversion_client.plan import Call, Chunk, Close, Do, Effect, Emit, Pause, Plan


class _Steps:
    """A plan, step by step; the same for both drivers."""

    def __init__(self, plan: Plan[Any]) -> None:
        self.result: Any = None
        """What the plan returned."""
        self._plan = plan
        self._reply: Any = None
        self._error: httpx.RequestError | None = None

    def next(self) -> Effect | None:
        """What the plan wants now; None at its end. What it raises is the caller's."""
        reply, error = self._reply, self._error
        self._reply = self._error = None
        try:
            return self._plan.send(reply) if error is None else self._plan.throw(error)
        except StopIteration as end:
            self.result = end.value
            return None

    def answer(self, reply: Any) -> None:
        self._reply = reply

    def fail(self, error: httpx.RequestError) -> None:
        self._error = error

    def close(self) -> None:
        self._plan.close()


class Driver:
    """Blocks."""

    def __init__(self, http: httpx.Client, plan: Plan[Any]) -> None:
        self._http = http
        self._steps = _Steps(plan)
        self._stream: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def result(self) -> Any:
        """What a plan returns that emits nothing."""
        for _ in self.values():
            raise AssertionError("a plan that returns emits nothing")
        return self._steps.result

    def values(self) -> Iterator[Any]:
        """What the plan emits. Connections end with it, also where nobody iterates to the end."""
        try:
            while (effect := self._steps.next()) is not None:
                if isinstance(effect, Emit):
                    yield effect.value
                else:
                    self._try(effect)
        finally:
            self._steps.close()
            self._end_stream()

    def _try(self, effect: Effect) -> None:
        try:
            self._steps.answer(self._do(effect))
        except httpx.RequestError as error:
            self._steps.fail(error)

    def _do(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return self._send(effect)
            case Chunk():
                return next(self._chunks, None)
            case Close():
                self._end_stream()
            case Pause(seconds):
                time.sleep(seconds)
            case Do(function):
                return function()
        return None

    def _send(self, call: Call) -> httpx.Response:
        response = self._http.send(call.request(self._http), stream=call.stream)
        if call.stream:
            self._stream, self._chunks = response, response.iter_bytes()
            if not response.is_success:
                response.read()
        return response

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


class AsyncDriver:
    """Awaits."""

    def __init__(self, http: httpx.AsyncClient, plan: Plan[Any]) -> None:
        self._http = http
        self._steps = _Steps(plan)
        self._stream: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def result(self) -> Any:
        """What a plan returns that emits nothing."""
        async for _ in self.values():
            raise AssertionError("a plan that returns emits nothing")
        return self._steps.result

    async def values(self) -> AsyncIterator[Any]:
        """What the plan emits. Connections end with it."""
        try:
            while (effect := self._steps.next()) is not None:
                if isinstance(effect, Emit):
                    yield effect.value
                else:
                    await self._try(effect)
        finally:
            self._steps.close()
            await self._end_stream()

    async def _try(self, effect: Effect) -> None:
        try:
            self._steps.answer(await self._do(effect))
        except httpx.RequestError as error:
            self._steps.fail(error)

    async def _do(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return await self._send(effect)
            case Chunk():
                return await anext(self._chunks, None) if self._chunks is not None else None
            case Close():
                await self._end_stream()
            case Pause(seconds):
                await anyio.sleep(seconds)
            case Do(function):
                return await anyio.to_thread.run_sync(function)
        return None

    async def _send(self, call: Call) -> httpx.Response:
        response = await self._http.send(call.request(self._http), stream=call.stream)
        if call.stream:
            self._stream, self._chunks = response, response.aiter_bytes()
            if not response.is_success:
                await response.aread()
        return response

    async def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

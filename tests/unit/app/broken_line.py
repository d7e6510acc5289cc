"""A real socket to the application, through a proxy that cuts connections after some bytes of the answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import uvicorn
from anyio.from_thread import BlockingPortal
from fastapi import FastAPI


@contextmanager
def listening(portal: BlockingPortal, app: FastAPI) -> Iterator[int]:
    """The port of this machine where uvicorn serves the application."""
    with socket.socket() as at:
        at.bind(("127.0.0.1", 0))
        at.listen()
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
        serving = portal.start_task_soon(server.serve, [at])
        try:
            yield int(at.getsockname()[1])
        finally:
            server.should_exit = True
            serving.result(timeout=30)


class CuttingProxy:
    """Passes on bytes both ways; each connection ends after the next of `cuts` bytes of answer, later ones never."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.connections = 0
        self.cuts = list(cuts)
        self._to = port
        self._at = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._at.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def open_connections(self) -> int:
        return sum(thread.is_alive() for thread in self._threads[1:])

    def close(self) -> None:
        with suppress(OSError):
            self._at.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._at.close()
        for thread in self._threads:
            thread.join(timeout=10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._at.accept()
                self.connections += 1
                budget = self.cuts.pop(0) if self.cuts else None
                thread = threading.Thread(target=self._pass_on, args=(caller, budget), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, caller: socket.socket, budget: int | None) -> None:
        with ExitStack() as open_:
            open_.enter_context(caller)
            service = open_.enter_context(socket.create_connection(("127.0.0.1", self._to)))
            there = threading.Thread(target=_copy, args=(caller, service, None), daemon=True)
            there.start()
            _copy(service, caller, budget)
            for end in (caller, service):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            there.join(timeout=10)


def _copy(source: socket.socket, target: socket.socket, budget: int | None) -> None:
    with suppress(OSError):
        while data := source.recv(4096 if budget is None else min(4096, budget)):
            target.sendall(data)
            if budget is not None:
                budget -= len(data)
                if budget <= 0:
                    return
        target.shutdown(socket.SHUT_WR)

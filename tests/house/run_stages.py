"""`make docker-check`: both images without Docker. Each stage's commands run in a clean venv; then the two talk.

What is done of the Dockerfile, per target and in its order: ENV, COPY and every `RUN pip ...`. Then the
health check and the command of both run against one embedded Valkey, until the app says that it is ready.
What is not: the base image, the user, the file system's owners. Takes minutes and some GB in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dockerfile import ROOT, Instruction, stages

from inversion_worker.valkey import EmbeddedValkey

READY_TIMEOUT_S = 180.0
PROBES = {
    "app": (
        "import importlib.util as u, inversion_app.main; inversion_app.main.create_app();"
        "assert not u.find_spec('torch') and not u.find_spec('inversion_core')"
    ),
    "worker": "import importlib.util as u, torch, inversion_core, inversion_worker.tasks; assert not u.find_spec('fastapi')",
}
"""What each image must be able to import, and must not hold."""


class Stage:
    """One target, built into a folder: the venv stands for the image's Python, `srv` for its WORKDIR."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target = target
        self.instructions = stages()[target]
        self.srv = folder / target
        self.venv = folder / f"{target}-venv"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("INVERSION_")}
        self.env |= {"PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(self.venv)}

    def build(self) -> None:
        """Run ENV, COPY and RUN pip; a command that fails ends the program."""
        self.srv.mkdir()
        subprocess.run([sys.executable, "-m", "venv", self.venv], check=True)
        for each in self.instructions:
            if each.word == "ENV":
                self.env |= dict(word.split("=", 1) for word in each.words)
            elif each.word == "COPY":
                self._copy(each)
            elif each.word == "RUN" and each.rest.startswith("pip "):
                print(f"[{self.target}] {each.rest}", flush=True)
                subprocess.run(each.rest, shell=True, check=True, cwd=self.srv, env=self.env)

    def _copy(self, instruction: Instruction) -> None:
        *sources, destination = instruction.words
        for source in sources:
            target = self.srv / destination / source if destination.endswith("/") else self.srv / destination
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, target)

    def probe(self) -> None:
        """Import what the image is for, outside the source folder: what counts is what was installed."""
        subprocess.run(["python", "-c", PROBES[self.target]], check=True, cwd=self.venv, env=self.env)
        size_mb = sum(f.stat().st_size for f in self.venv.rglob("*") if f.is_file() and not f.is_symlink()) >> 20
        print(f"[{self.target}] imports work; {size_mb} MB installed", flush=True)

    def words(self, word: str) -> list[str]:
        """The command of CMD or HEALTHCHECK, its Python taken from the venv."""
        (instruction,) = [each for each in self.instructions if each.word == word]
        command = Instruction(word=word, rest=instruction.rest[instruction.rest.index("[") :]).words
        return [str(self.venv / "bin" / command[0]), *command[1:]]

    @contextmanager
    def running(self, settings: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
        """The image's command, on another port than its 8000."""
        command = [str(port) if word == "8000" else word for word in self.words("CMD")]
        with subprocess.Popen(command, cwd=self.srv, env=self.env | settings) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.wait(30)

    def check_health(self, settings: dict[str, str], port: int) -> None:
        command = [word.replace("8000", str(port)) for word in self.words("HEALTHCHECK")]
        subprocess.run(command, check=True, cwd=self.srv, env=self.env | settings, timeout=60)
        print(f"[{self.target}] its health check is content", flush=True)


def wait_ready(port: int) -> None:
    """Return when /readyz says yes. Raises TimeoutError."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"not ready within {READY_TIMEOUT_S:.0f} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="inversion-stages-") as name:
        folder, port = Path(name), free_port()
        app, worker = Stage("app", folder), Stage("worker", folder)
        for stage in (app, worker):
            stage.build()
            stage.probe()
        with EmbeddedValkey(folder / "valkey") as valkey:
            settings = {
                "INVERSION_REDIS_URL": valkey.url,
                "INVERSION_ARTIFACTS_URL": f"file://{folder}/artifacts",
                "INVERSION_DEVICE": "cpu",
            }
            with app.running(settings, port), worker.running(settings, port):
                wait_ready(port)
                app.check_health(settings, port)
                worker.check_health(settings, port)
    print("both images work, and work together")


if __name__ == "__main__":
    main()

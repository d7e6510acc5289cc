"""Both images without Docker: the commands of their stages run in clean venvs; then the two talk to each other.

What is done of the Dockerfile, for a target and all stages that it needs, in their order: ENV, WORKDIR, COPY and RUN.
A folder stands for the root of the file system: `/opt` and `/srv` lie below it. Then the health check and the command of
both run against one embedded Valkey, until the app says that it is ready. What is not done: the base image, the user, the
file system's owners. Takes minutes and some GB in a temporary folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dockerfile
from dockerfile import ROOT, Instruction
from extras import CONNECTS, OTEL, S3
from running_service import free_port

from inversion_worker.valkey import EmbeddedValkey

READY_TIMEOUT_S = 180.0
OPTIONAL = CONNECTS + S3 + OTEL
PROBES = {
    "app": (
        "import importlib.util as u, inversion_app.main; inversion_app.main.create_app();"
        f"assert not u.find_spec('torch') and not u.find_spec('inversion_core')\n{OPTIONAL}"
    ),
    "worker": (
        "import importlib.util as u, torch, inversion_core, inversion_worker.tasks, numpy.testing, torch.testing;"
        f"assert not u.find_spec('fastapi'); inversion_core.load_pack()\n{OPTIONAL}"
    ),
}
"""What each image must be able to import, and must not hold."""


class Image:
    """One target, built into a folder that stands for the root of its file system."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target = target
        self.root = folder / target
        self.venv = self.root / "opt" / "venv"
        self.srv = self.root / "srv" / "inversion"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("INVERSION_")}
        self.env["PATH"] = f"{self.venv / 'bin'}:{_python_of_the_image(folder)}:{os.environ['PATH']}"

    def build(self) -> None:
        """Run all stages; a command that fails ends the program."""
        for stage in dockerfile.made_by(self.target):
            env, folder = self.env, self.srv
            for part in dockerfile.line_of(stage.name):
                for each in part.own:
                    if each.word == "ENV":
                        env = env | self._variables(each)
                    elif each.word == "WORKDIR":
                        folder = self._inside(each.rest)
                        folder.mkdir(parents=True, exist_ok=True)
                    elif part.name == stage.name and each.word == "COPY":
                        self._copy(each, folder)
                    elif part.name == stage.name and each.word == "RUN" and "useradd" not in each.rest:
                        print(f"[{self.target}] {each.rest}", flush=True)
                        subprocess.run(self._moved(each.rest), shell=True, check=True, cwd=folder, env=env)

    def _variables(self, instruction: Instruction) -> dict[str, str]:
        pairs = (word.split("=", 1) for word in instruction.words)
        return {name: self._moved(value) for name, value in pairs if name not in ("PATH", "INVERSION_ARTIFACTS_URL")}

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _moved(self, text: str) -> str:
        """A command with its absolute paths below our root."""
        return re.sub(r"(?<![\w./*])/opt/", f"{self.root}/opt/", text)

    def _copy(self, instruction: Instruction, folder: Path) -> None:
        words = [word for word in instruction.words if not word.startswith("--")]
        *sources, last = words
        for source in sources:
            taken = self._inside(source) if instruction.from_stage else ROOT / source
            target = self._inside(last) if last.startswith("/") else folder / last
            if not taken.is_dir():
                target = target / taken.name if last.endswith("/") else target
                target.parent.mkdir(parents=True, exist_ok=True)
                if taken != target.resolve():
                    shutil.copy(taken, target)
            elif taken != target:
                shutil.copytree(
                    taken, target, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
                )

    def probe(self) -> None:
        """Import what the image is for, outside the source folder: what counts is what was installed."""
        self.srv.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [self.venv / "bin" / "python", "-c", PROBES[self.target]], check=True, cwd=self.srv, env=self.env
        )
        size_mb = sum(f.stat().st_size for f in self.venv.rglob("*") if f.is_file() and not f.is_symlink()) // 10**6
        print(f"[{self.target}] imports work; {size_mb} MB installed", flush=True)

    def words(self, word: str) -> list[str]:
        """The command of CMD or HEALTHCHECK, its Python taken from the venv."""
        own = dockerfile.stages()[self.target].own
        (instruction,) = [each for each in own if each.word == word]
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


def _python_of_the_image(folder: Path) -> Path:
    """A folder with `python3` and `pip`, which the base image has."""
    programs = folder / "base-bin"
    programs.mkdir(exist_ok=True)
    for name, words in {"python3": "", "pip": "-m pip"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (programs / name).chmod(0o755)
    return programs


def wait_ready(port: int, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Return when /readyz says yes. Raises TimeoutError, and RuntimeError as soon as one of them has ended."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"the command of {name} ended with {process.returncode}; its last words are above")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"not ready within {READY_TIMEOUT_S:.0f} s")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="inversion-stages-") as name:
        folder, port = Path(name), free_port()
        app, worker = Image("app", folder), Image("worker", folder)
        for image in (app, worker):
            image.build()
            image.probe()
        with EmbeddedValkey(folder / "valkey") as valkey:
            settings = {
                "INVERSION_REDIS_URL": valkey.url,
                "INVERSION_ARTIFACTS_URL": f"file://{folder}/artifacts",
                "INVERSION_DEVICE": "cpu",
            }
            with app.running(settings, port) as api, worker.running(settings, port) as work:
                wait_ready(port, {"app": api, "worker": work})
                app.check_health(settings, port)
                worker.check_health(settings, port)
    print("both images work, and work together")


if __name__ == "__main__":
    main()

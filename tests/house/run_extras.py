"""Each extra in an empty virtual environment: it imports what it must, its program runs, the others say what is missing.

What tests/house/test_extras.py does with modules that are only hidden, done with packages that are not there. Takes
minutes and some GB in a temporary folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from extras import EVERYTHING, PROGRAMS, ROOT


class Environment:
    """A virtual environment with some of the extras and nothing else."""

    def __init__(self, folder: Path, extras: str) -> None:
        self.extras = extras
        self.folder = folder
        kept = ("PATH", "HOME", "LANG")
        self.env = {
            name: value for name, value in os.environ.items() if name in kept or name.startswith(("PIP_", "SSL_"))
        }

    def install(self) -> None:
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        what = f"{ROOT}[{self.extras}]" if self.extras else str(ROOT)
        self._python("-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), what)

    def _python(self, *words: str) -> None:
        subprocess.run([self.folder / "bin" / "python", *words], check=True, cwd=self.folder, env=self.env)

    def check(self) -> None:
        """Raises: RuntimeError, CalledProcessError."""
        if self.extras:
            self._python("-c", EVERYTHING[self.extras])
        said = [self._program(name) for name in PROGRAMS]
        print(f"[{self.extras or 'nothing'}] imports work; {'; '.join(said)}", flush=True)

    def _program(self, name: str) -> str:
        """`--help` works where the extras are installed, and else one line says which they are."""
        first, *rest = name.split()
        _, _, extras, words = PROGRAMS[name]
        is_there = set(extras.split(",")) <= self._installed()
        command = [self.folder / "bin" / first, *rest, *(["--help"] if is_there else words)]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        if is_there:
            is_right = done.returncode == 0
        else:
            says = f"stylegan-inversion[{extras}]" in done.stderr and len(done.stderr.splitlines()) == 1
            is_right = says and done.returncode in (1, 2)
        if not is_right:
            raise RuntimeError(f"[{self.extras}] {name} ended with {done.returncode}:\n{done.stderr}")
        return f"{name} {'works' if is_there else 'says what is missing'}"

    def _installed(self) -> set[str]:
        extras = set(self.extras.split(","))
        return extras | ({"core"} if "worker" in extras else set())


def main() -> None:
    for extras in ("", *EVERYTHING):
        with tempfile.TemporaryDirectory(prefix="inversion-extras-") as name:
            environment = Environment(Path(name), extras)
            environment.install()
            environment.check()
    print("each extra works on its own")


if __name__ == "__main__":
    main()

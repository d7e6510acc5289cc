"""What `pip install '.[EXTRA]'` brings, told from the metadata of what is installed here.

`without_the_rest` runs code as an environment would that holds these packages alone: this environment has those of
every extra and of the tests besides, so code that imports what it never declared works here and nowhere else.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = "stylegan-inversion"
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
IMPORT_ALL = """
import importlib, pkgutil
for package in {packages!r}:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
CONNECTS = """
from inversion_worker.broker import make_celery
make_celery("redis://127.0.0.1:1/0").connection().transport  # kombu imports a transport when it is first needed
import celery.concurrency
celery.concurrency.get_implementation("threads")
"""
S3 = """
from inversion_worker.artifacts import ArtifactStore
ArtifactStore("s3://bucket/jobs")
"""
OTEL = """
import os
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
from inversion_worker import tracing
assert tracing.set_up("test")
"""
EMBEDDED = "from inversion_worker.valkey import _server_binary; _server_binary()"
EVERYTHING = {
    "core": IMPORT_ALL.format(packages=["inversion_core"]),
    "client": IMPORT_ALL.format(packages=["inversion_client"]),
    "app": IMPORT_ALL.format(packages=["inversion_app"]) + CONNECTS,
    "worker": IMPORT_ALL.format(packages=["inversion_worker"]) + CONNECTS,
    "app,s3,otel": S3 + OTEL,
    "app,worker,embedded": EMBEDDED + "; import inversion_app.serve; inversion_app.serve.check_installed({})",
}
PROGRAMS = {
    "inversion": ("inversion", "torch", "core", ["pack", "show", "faces-64"]),
    "inversion-submit": ("submit", "httpx", "client", ["face.jpg"]),
    "inversion-keys": ("keys", "redis", "app", ["list"]),
    "inversion-serve": ("serve", "uvicorn", "app,worker,embedded", []),
    "python -m inversion_app": ("api", "uvicorn", "app", []),
    "python -m inversion_worker": ("worker", "torch", "worker", []),
}
"""Program -> its function in inversion_commands, a module that it cannot do without, the extras to install, and words
that make it do something, since some import what they need as late as they can."""
HIDE = """
from importlib.machinery import PathFinder

def find_spec(name, path=None, target=None, *, hidden=frozenset(%r), find=PathFinder.find_spec):
    return None if name in hidden else find(name, path, target)

PathFinder.find_spec = find_spec
"""


def brought_by(extras: Iterable[str]) -> set[str]:
    """Names of the distributions that these extras bring, with what each of those requires itself."""
    brought: set[str] = set()
    asked = [Requirement(f"{OURS}[{','.join(extras)}]")]
    done: set[tuple[str, str]] = set()
    while asked:
        requirement = asked.pop()
        name = canonicalize_name(requirement.name)
        brought.add(name)
        for extra in sorted(requirement.extras | {""}):
            if (name, extra) not in done:
                done.add((name, extra))
                asked += _required(name, extra)
    return brought - {OURS}


def _required(name: str, extra: str) -> list[Requirement]:
    """What a distribution requires for one of its extras; '' is what it always requires."""
    if name == OURS:
        return [Requirement(text) for text in EXTRAS.get(extra, [])]
    try:
        found = [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:
        return []  # for another system or Python than this one
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": extra})]


def modules_elsewhere(extras: Iterable[str]) -> set[str]:
    """Top-level modules that are importable here and would not be where only these extras are installed."""
    brought = brought_by(extras)
    owners = {module: {canonicalize_name(each) for each in names} for module, names in packages_distributions().items()}
    return {module for module, names in owners.items() if not names & brought and OURS not in names}


def without_the_rest(extras: Iterable[str], code: str, hidden: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python code as if only these extras were installed, and without the modules in `hidden`."""
    hide = HIDE % sorted(modules_elsewhere(extras) | set(hidden))
    command = [sys.executable, "-c", hide + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

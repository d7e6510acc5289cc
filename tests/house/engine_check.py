"""`make docker-check` where a Docker engine answers: both images, and a deployment through what happens to one.

Everything is made under a project name, volumes and a port of its own, and removed at the end; the images stay, under
the names that docker-compose.yml has for them. Prints a line for each step with its time; the first that fails ends it
with exit status 1, what was wrong, and the last lines that each container said.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from running_service import free_port

from inversion_client import ClientError, Inversion, InversionClient

sys.path.append(str(Path(__file__).parents[1]))
from drawn_face import draw_face

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
IMAGES = {name: str(SERVICES[name]["image"]) for name in ("app", "worker")}
VALKEY_IMAGE = str(SERVICES["valkey"]["image"])
BASE_IMAGE = "python:3.11-slim"
PASSWORD = 'a "password" \\ with/all@kinds:of%characters$HOME'
HEALTHY_WITHIN_S = 600.0
JOB_WITHIN_S = 600.0
STEPS = 20
LONG_S = 15.0
"""How long a job should take in whose middle something happens; the first job tells how many steps that is."""
KEPT = ("npy", "image", "aligned")
"""Results that must be the same bytes after `down` and `up`."""
LAST_LINES = 25


class CheckFailed(Exception):
    """A step did not do what it must."""


def engine_answers() -> bool:
    """Whether `docker info` works: a program alone is no engine."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def compose_command() -> list[str]:
    """What is there: `docker compose`, or the program docker-compose. Raises: CheckFailed."""
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            if subprocess.run([*command, "version"], capture_output=True, timeout=30, check=False).returncode == 0:
                return command
        except (OSError, subprocess.TimeoutExpired):
            continue
    raise CheckFailed("There is an engine, but neither `docker compose` nor docker-compose. Install one of them.")


def run(command: Sequence[str], env: dict[str, str] | None = None, timeout_s: float = 600.0) -> str:
    """Standard output of a command. Raises: CheckFailed with all that it said."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise CheckFailed(f"`{shlex.join(command)}` ended with {done.returncode}:\n{said}")
    return done.stdout


@contextmanager
def step(title: str) -> Iterator[list[str]]:
    """Print the title, how long the block took, and what it put into the list."""
    print(f"{title} ... ", end="", flush=True)
    notes: list[str] = []
    began = time.monotonic()
    try:
        yield notes
    except BaseException:
        print(f"FAILED after {time.monotonic() - began:.1f} s", flush=True)
        raise
    print(f"{time.monotonic() - began:.1f} s{''.join(f'; {note}' for note in notes)}", flush=True)


def wait_for(condition: Callable[[], object], what: str, within_s: float, every_s: float = 0.5) -> None:
    """Return as soon as the condition holds. Raises: CheckFailed."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise CheckFailed(f"{what} within {within_s:.0f} s: it did not happen")
        time.sleep(every_s)


class Deployment:
    """docker-compose.yml under a project name of its own."""

    def __init__(self, folder: Path) -> None:
        self.project = f"inversion-check-{os.getpid()}"
        self.port = free_port()
        self._command = compose_command()
        (folder / "packs").mkdir()
        (folder / "env").touch()  # in place of the .env of whoever calls this
        file = folder / "docker-compose.yml"  # docker-compose 1.29 does not know the key `name`
        file.write_text(re.sub(r"^name: .*\n", "", COMPOSE_FILE.read_text(), flags=re.MULTILINE))
        where = ["--project-directory", str(ROOT), "--env-file", str(folder / "env")]
        self._command += ["-f", str(file), "-p", self.project, *where]
        foreign = ("INVERSION_", "COMPOSE_", "AWS_", "VALKEY_", "PUBLISH_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.env |= {
            "PUBLISH_PORT": str(self.port),
            "PACKS_DIR": str(folder / "packs"),
            "VALKEY_PASSWORD": PASSWORD,
            "VALKEY_USER": _owner_of_data(),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def compose(self, *words: str, **settings: str) -> str:
        return run([*self._command, *words], env=self.env | settings)

    def up(self, *words: str, workers: int = 1, **settings: str) -> None:
        self.compose("up", "-d", "--no-build", "--scale", f"worker={workers}", *words, **settings)

    def containers(self, service: str = "", *, stopped: bool = False) -> list[str]:
        """Ids of the containers of a service, or of all."""
        labels = [f"label=com.docker.compose.project={self.project}"]
        labels += [f"label=com.docker.compose.service={service}"] if service else []
        filters = [word for label in labels for word in ("--filter", label)]
        return run(["docker", "ps", "-q", *(["-a"] if stopped else []), *filters]).split()

    def wait_healthy(self, count: int) -> None:
        """Return when that many containers run and all say that they are healthy. Raises: CheckFailed."""

        def healthy() -> bool:
            states = [
                json.loads(run(["docker", "inspect", "-f", "{{json .State}}", each])) for each in self.containers()
            ]
            for state in states:
                if state["Status"] == "restarting":
                    raise CheckFailed("A container starts, ends, and is started again.")
            return len(states) == count and all(state["Health"]["Status"] == "healthy" for state in states)

        wait_for(healthy, f"{count} healthy containers", HEALTHY_WITHIN_S, every_s=1.0)

    def last_words(self) -> str:
        """The last lines of every container."""
        said = []
        for each in self.containers(stopped=True):
            done = subprocess.run(
                ["docker", "logs", "--tail", str(LAST_LINES), each], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, check=False,
            )  # fmt: skip
            name = run(["docker", "inspect", "-f", "{{.Name}} ({{.State.Status}})", each]).strip()
            said.append(f"--- {name}\n{done.stdout}")
        return "\n".join(said)

    def remove(self) -> None:
        """Containers, networks and volumes of this project; the images stay."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def _owner_of_data() -> str:
    """User and group who may write to /data in the Valkey image that is here, as docker-compose.yml wants to know."""
    return run(["docker", "run", "--rm", "--entrypoint", "stat", VALKEY_IMAGE, "-c", "%u:%g", "/data"]).strip()


def build(build_args: Sequence[str]) -> None:
    """Both images, and how large they are."""
    for service, image in IMAGES.items():
        with step(f"build {image}") as notes:
            settings = SERVICES[service]["build"].get("args", {})
            ours = [f"--build-arg={name}={_default_of(value)}" for name, value in settings.items()]
            command = ["docker", "build", *ours, *build_args, "--target", service, "--tag", image, str(ROOT)]
            run(command, timeout_s=3600)
            whole, base = _size_mb(image), _size_mb(BASE_IMAGE)
            notes.append(f"{whole} MB, {whole - base} MB of them on top of {BASE_IMAGE}")


def _default_of(value: str) -> str:
    return re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", value)


def _size_mb(image: str) -> int:
    try:
        return int(run(["docker", "image", "inspect", "-f", "{{.Size}}", image])) // 10**6
    except CheckFailed:  # BuildKit pulls a base image without keeping it under its name
        return 0


def photo() -> bytes:
    """A face of nobody, as a JPEG."""
    file = io.BytesIO()
    draw_face((640, 640), head_px=420).save(file, "JPEG", quality=92)
    return file.getvalue()


class Check:
    """The steps, in their order; each begins where the one before it ended."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.photo = photo()
        self.done: list[tuple[str, dict[str, bytes]]] = []
        """Ids of what has succeeded, with the bytes of its results."""
        self.long_steps = 0

    def run(self) -> None:
        self.start()
        with step("create a key"):
            key = self.make_key()
        with InversionClient(self.deployment.url, api_key=key) as self.client:
            self.invert()
            self.hardened()
            self.kill_a_worker()
            self.restart_valkey()
            self.down_and_up()
            self.another_server()

    def start(self) -> None:
        with step("compose up, until every container is healthy"):
            self.deployment.up()
            self.deployment.wait_healthy(3)

    def make_key(self) -> str:
        return self.deployment.compose("exec", "-T", "app", "inversion-keys", "create", "check").strip()

    def submit(self, steps: int) -> Inversion:
        return self.client.submit(self.photo, steps=steps)

    def result_of(self, inversion: Inversion) -> dict[str, bytes]:
        return {kind: self.client.download(inversion, kind) for kind in KEPT}

    def wait(self, inversion: Inversion) -> Inversion:
        """The ended inversion, through times in which nobody answers. Raises: CheckFailed."""
        latest: list[Inversion] = []

        def ended() -> bool:
            try:
                latest.append(self.client.get(inversion))
            except ClientError:
                return False
            return latest[-1].is_final

        wait_for(ended, "an end of the job", JOB_WITHIN_S)
        if latest[-1].status != "succeeded":
            raise CheckFailed(f"The job ended as {latest[-1]}")
        return latest[-1]

    def keep(self, inversion: Inversion) -> None:
        self.done.append((inversion.id, self.result_of(inversion)))

    def invert(self) -> None:
        with step(f"upload a photo, {STEPS} steps, fetch its code") as notes:
            inversion = self.wait(self.submit(STEPS))
            code = self.client.code(inversion)
            if code.ndim != 2 or not abs(code).max() < 100:
                raise CheckFailed(f"That is no code: shape {code.shape}")
            self.keep(inversion)
            self.long_steps = min(1000, max(40, round(LONG_S * STEPS / (inversion.seconds or LONG_S))))
            notes.append(f"{' x '.join(map(str, code.shape))}, loss {inversion.best_loss:.4f}")

    def hardened(self) -> None:
        with step("no root, no capabilities, read-only, with limits") as notes:
            for each in self.deployment.containers():
                (found,) = json.loads(run(["docker", "inspect", each]))
                host = found["HostConfig"]
                if not (host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and host["Memory"] > 0 and host["Init"]):
                    raise CheckFailed(f"{found['Name']} is not as hardened as it must be")
            for service in ("app", "worker"):
                said = self.deployment.compose("exec", "-T", service, "sh", "-c", "id -u; touch /x 2>&1 || true")
                if said.split()[0] != "10001" or "Read-only" not in said:
                    raise CheckFailed(f"{service}: {said}")
            used = run(["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", *self.deployment.containers()])
            notes.append("memory " + ", ".join(used.split("\n")[:-1]))

    def kill_a_worker(self) -> None:
        with step("scale to two workers"):
            self.deployment.up(workers=2)
            self.deployment.wait_healthy(4)
        with step(f"kill the worker of a job of {self.long_steps} steps, until the other has done it") as notes:
            inversion = self.submit(self.long_steps)
            self.wait_step(inversion, 10)
            container = self.worker_of(inversion)
            run(["docker", "kill", container])
            at = self.client.get(inversion).step
            ended = self.wait(inversion)
            if ended.attempts < 2 or container in self.deployment.containers():
                raise CheckFailed(f"The job was not taken over: {ended}")
            self.keep(ended)
            notes.append(f"killed at step {at}, {ended.attempts} attempts, {ended.step} steps in the end")

    def wait_step(self, inversion: Inversion, number: int) -> None:
        wait_for(lambda: (self.client.get(inversion).step or 0) >= number, f"step {number}", JOB_WITHIN_S, every_s=0.1)

    def worker_of(self, inversion: Inversion) -> str:
        """The container whose log says that it has started the job."""
        for each in self.deployment.containers("worker"):
            done = subprocess.run(["docker", "logs", each], capture_output=True, text=True, check=True)
            if f"started job={inversion.id}" in done.stdout + done.stderr:
                return each
        raise CheckFailed("No worker says that it has started the job")

    def restart_valkey(self) -> None:
        with step("restart Valkey in the middle of a job, until it is done") as notes:
            inversion = self.submit(self.long_steps)
            self.wait_step(inversion, 10)
            self.deployment.compose("restart", "valkey")
            ended = self.wait(inversion)
            self.keep(ended)
            notes.append(f"{ended.attempts} attempt(s), {ended.step} steps")
            self.same_results()

    def same_results(self) -> None:
        for id_, kept in self.done:
            if self.result_of(self.client.get(id_)) != kept:
                raise CheckFailed(f"The results of {id_} are not the same bytes any more")

    def down_and_up(self) -> None:
        with step("compose down"):
            self.deployment.compose("down")
        with step("compose up, and the results are the same") as notes:
            self.deployment.up()
            self.deployment.wait_healthy(3)
            self.same_results()
            notes.append(f"{len(self.done)} inversions, key and all")

    def another_server(self) -> None:
        """One variable names a Valkey elsewhere; ours is not started."""
        name, password = f"{self.deployment.project}-elsewhere", secrets.token_hex(8)
        with step("another Valkey by INVERSION_REDIS_URL, ours not started"):
            network = ["--network", f"{self.deployment.project}_default", "--network-alias", "elsewhere"]
            label = ["--label", f"com.docker.compose.project={self.deployment.project}"]
            server = ["valkey-server", "--requirepass", password]
            self.deployment.compose("rm", "--stop", "--force", "valkey")
            run(["docker", "run", "--detach", "--name", name, *network, *label, VALKEY_IMAGE, *server])
            try:
                url = f"redis://:{password}@elsewhere:6379/1"
                self.deployment.up("--scale", "valkey=0", INVERSION_REDIS_URL=url)
                if self.deployment.containers("valkey"):
                    raise CheckFailed("Our own Valkey runs beside it")
                wait_for(self.is_ready, "readiness", HEALTHY_WITHIN_S)
                with InversionClient(self.deployment.url, api_key=self.make_key()) as self.client:
                    self.wait(self.submit(STEPS))
            finally:
                run(["docker", "rm", "--force", "--volumes", name])

    def is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.deployment.url}/readyz", timeout=30).close()
        except OSError:
            return False
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: all of it works, 1: a step failed."""
    parser = argparse.ArgumentParser(description="Build both images and put a deployment to the test.")
    parser.add_argument("--build-args", default="", help="words for every `docker build`, as a shell would split them")
    build_args = shlex.split(parser.parse_args(argv).build_args)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="inversion-check-") as name:
        try:
            build(build_args)
            deployment = Deployment(Path(name))
        except CheckFailed as error:
            print(f"docker-check: {error}", file=sys.stderr)
            return 1
        try:
            Check(deployment).run()
        except (CheckFailed, ClientError, subprocess.SubprocessError, OSError) as error:
            print(f"{deployment.last_words()}\ndocker-check: {error}", file=sys.stderr)
            return 1
        finally:
            with step("remove containers, network and volumes"):
                deployment.remove()
    print(f"both images work, alone and deployed: {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

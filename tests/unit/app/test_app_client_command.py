"""`inversion submit` over a real socket: what it prints, writes and ends with."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient, picture_bytes
from app_keyring import Ring, stores_of
from app_service import Service, running
from broken_line import listening

from inversion_app.settings import AppSettings
from inversion_client.command import main
from inversion_core.cli import main as inversion
from inversion_worker.contract import StartKind

pytestmark = pytest.mark.unit

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def url(portal: BlockingPortal, service: Service) -> Iterator[str]:
    """Where a service listens that is done with each photo at once."""
    service.jobs.runs = True
    with listening(portal, service.app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photo in the folder where the person is."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "face.png"
    file.write_bytes(picture_bytes())
    return file


def test_prints_the_id(url: str, service: Service, photo: Path, capsys: Captured) -> None:
    options = ["--steps", "7", "--start", "random", "--optimizer", "sgd", "--pack", "faces-64", "--option", "seed=3"]
    assert inversion(["submit", str(photo), "--url", url, *options, "--option", "align=false"]) == 0
    out, err = capsys.readouterr()
    (record,) = service.jobs.records.values()
    assert (out, err) == (f"{record.id}\n", "")
    taken = record.options
    assert (taken.steps, taken.start, taken.optimizer) == (7, StartKind.RANDOM, "sgd")
    assert (taken.pack, taken.seed, taken.align) == ("faces-64", 3, False)
    assert list(photo.parent.iterdir()) == [photo]


def test_waits_and_downloads(url: str, photo: Path, capsys: Captured) -> None:
    """Two photos of one name do not overwrite each other."""
    (photo.parent / "other").mkdir()
    other = photo.parent / "other" / "face.png"
    other.write_bytes(picture_bytes("JPEG"))
    assert main([str(photo), str(other), "--url", url, "--out", "results"]) == 0
    out, err = capsys.readouterr()
    assert len(out.split()) == 2
    assert err.splitlines() == [f"results/{name}: loss 0.25000 at step 5" for name in ("face", "face-2")]
    for name in ("face", "face-2"):
        files = {path.name for path in (photo.parent / "results" / name).iterdir()}
        assert files == {"aligned.png", "reconstruction.png", "latents.npy", "strip.png"}
        assert np.load(photo.parent / "results" / name / "latents.npy").shape == (10, 128)


def test_what_to_download(url: str, photo: Path) -> None:
    assert main([str(photo), "--url", url, "--wait", "--get", "safetensors, pasted"]) == 0
    assert {path.name for path in (photo.parent / "face").iterdir()} == {"latents.safetensors", "pasted.jpg"}


def test_a_photo_that_is_refused_leaves_the_others(url: str, service: Service, photo: Path, capsys: Captured) -> None:
    broken = photo.with_name("broken.png")
    broken.write_bytes(b"no picture")
    assert main([str(broken), "missing.png", str(photo), "--url", url]) == 2
    out, err = capsys.readouterr()
    assert out.split() == list(service.jobs.records)
    first, second = err.splitlines()
    assert first.startswith(f"error: {broken}: The picture's format is not supported: ")
    assert second.startswith("error: missing.png: ")


def test_an_inversion_that_fails(url: str, service: Service, photo: Path, capsys: Captured) -> None:
    service.jobs.runs = False
    submit = service.jobs.submit_one

    async def submit_and_fail(*args: object, **options: object) -> object:
        record = await submit(*args, **options)  # type: ignore[arg-type]
        service.jobs.fail(record.id)
        return record

    service.jobs.submit_one = submit_and_fail  # type: ignore[method-assign,assignment]
    assert main([str(photo), "--url", url, "--wait"]) == 1
    err = capsys.readouterr().err
    assert err == f"error: {photo}: No face was found in the photo: Try another photo.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--option", "seed"], "error: --option seed: it takes NAME=VALUE"),
        (["--get", "moon"], "error: There is no result 'moon'"),
        (["--url", "localhost:8000"], "error: url is 'localhost:8000'"),
        (["--url", "http://127.0.0.1:9"], "error: POST http://127.0.0.1:9/v1/inversions: "),
    ],
)
def test_refused_in_one_line(photo: Path, capsys: Captured, arguments: list[str], said: str) -> None:
    assert main([str(photo), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_keys(portal: BlockingPortal, photo: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key is told once, however many photos there are."""
    ring = Ring()
    token = ring.make("tenant")
    with (
        running(portal, AppSettings(auth="on"), FakeJobClient(), stores_of(ring)) as service,
        listening(portal, service.app) as port,
    ):
        command = [str(photo), str(photo), "--url", f"http://127.0.0.1:{port}"]
        assert main(command) == 2
        assert capsys.readouterr().err.count("error: An API key is needed") == 1
        assert main([*command, "--key", token]) == 0
        monkeypatch.setenv("INVERSION_API_KEY", token)
        assert main(command) == 0
        assert len(service.jobs.records) == 4


def test_the_core_without_the_client() -> None:
    """The other commands work, and `submit` names the extra."""
    code = """
import sys
from inversion_core.cli import main
for missing in ("inversion_client", "httpx"):
    sys.modules[missing] = None
    assert main(["pack", "list"]) == 0
    assert main(["submit", "face.jpg"]) == 2
    del sys.modules[missing]
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines() == [
        f"error: inversion submit needs {missing}: pip install 'stylegan-inversion[client]'"
        for missing in ("inversion_client", "httpx")
    ]


def test_the_example_of_the_documentation(url: str, photo: Path) -> None:
    """docs/client.md, as it stands but for the address."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)
    for name in ("a.jpg", "b.jpg"):
        photo.with_name(name).write_bytes(picture_bytes("JPEG"))
    code = code.replace("https://inversion.example", url)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "'succeeded': 2" in result.stdout
    assert len(list(photo.parent.glob("*.safetensors"))) == 2


def test_a_progress_bar_for_whoever_looks(url: str, photo: Path) -> None:
    """A terminal gets a bar; files and pipes do not (the tests above)."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "inversion_client", str(photo), "--url", url, "--wait"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, env=env, timeout=60, check=False)
    os.close(theirs)
    said = os.read(ours, 65536).decode()
    os.close(ours)
    assert result.returncode == 0, said
    assert "face.png:" in said
    assert "loss=0.2500" in said

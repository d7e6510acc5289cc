"""From published files to pictures over HTTP: convert, serve, upload, code, edit by a direction of SeFa."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from api_process import ApiProcess
from PIL import Image
from worker_process import StartWorker

from inversion_core.editing.directions.computed import sefa
from inversion_core.models.perceptual import VGG16_PLAN
from inversion_core.packs import load_pack, put_directions
from inversion_core.packs.converting import convert_files
from inversion_core.pictures import to_image
from inversion_worker.settings import WorkerSettings
from tests import stylegan2_files as files
from tests import stylegan2_pickles as pickles

pytestmark = pytest.mark.integration


def vgg(file: Path) -> Path:
    """torchvision's VGG-16 with random weights."""
    draw, weights, layer, channels = torch.Generator().manual_seed(0), {}, 0, 3
    for width in VGG16_PLAN:
        if isinstance(width, int):
            drawn = torch.randn(width, channels, 3, 3, generator=draw)
            weights[f"features.{layer}.weight"] = drawn * (2 / (9 * channels)) ** 0.5
            weights[f"features.{layer}.bias"] = torch.zeros(width)
            channels = width
        layer += 2 if isinstance(width, int) else 1
    torch.save(weights, file)
    return file


@pytest.fixture(scope="module")
def packs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    state = files.nvidia(files.SMALL)
    torch.save({"g_ema": files.rosinality(state), "latent_avg": state["mapping.w_avg"]}, folder / "550000.pt")
    generators = {
        "rosinality": folder / "550000.pt", "nvidia": pickles.write_nvidia(folder / "snapshot.pkl", files.SMALL),
    }  # fmt: skip
    features = vgg(folder / "vgg16.pth")
    for name, file in generators.items():
        convert_files([file, features], folder / "packs" / name, name=name)
        put_directions(folder / "packs" / name, sefa(load_pack(folder / "packs" / name), 2))
    return folder / "packs"


@pytest.fixture
def http(settings: WorkerSettings, tmp_path: Path) -> Iterator[httpx.Client]:
    place = {"INVERSION_REDIS_URL": settings.redis_url, "INVERSION_ARTIFACTS_URL": settings.artifacts_url}
    api = ApiProcess(place, tmp_path / "api.log")
    api.wait_ready()
    with httpx.Client(base_url=api.url, timeout=60) as http:
        yield http
    api.kill()


def test_a_photo_becomes_a_code_and_an_edited_picture(
    http: httpx.Client, start_worker: StartWorker, packs_dir: Path, photo: bytes
) -> None:
    start_worker(
        real=True, INVERSION_DEVICE="cpu", INVERSION_THREADS=1, INVERSION_PACKS=packs_dir,
        INVERSION_DEFAULT_PACK="rosinality",
    )  # fmt: skip
    pictures = {}
    for name in ("rosinality", "nvidia"):
        answer = http.post(
            "/v1/inversions", files={"image": ("a.png", photo)}, headers={"Prefer": "wait=60"}, timeout=90,
            data={"pack": name, "steps": "8", "detail_steps": "4", "align": "false", "start": "mean"},
        )  # fmt: skip
        assert answer.json()["status"] == "succeeded", answer.text
        job, pack = f"/v1/inversions/{answer.json()['id']}", load_pack(packs_dir / name)
        code = np.load(io.BytesIO(http.get(f"{job}/latents").content), allow_pickle=False)
        assert code.shape == (pack.num_layers, pack.w_dim) == (10, 64)
        plain, edited = (
            Image.open(io.BytesIO(http.get(f"{job}/render", params=params, headers={"Accept": "image/png"}).content))
            for params in ({}, {"edit": f"{next(iter(pack.directions))}:2"})
        )
        assert plain.size == edited.size == (64, 64)
        assert plain.tobytes() != edited.tobytes()
        pictures[name] = np.asarray(to_image(pack.synthesize(torch.from_numpy(code)[None])), int)
    assert np.abs(pictures["rosinality"] - pictures["nvidia"]).max() <= 2, "the same network in two files"

"""The real library in a real worker, with a pack of random weights: small, and nothing has to be shipped."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_face import draw_face
from PIL import Image
from worker_process import StartWorker, at_step, finished, read, record_of, result

from inversion_core.models import (
    DiscriminatorConfig,
    DiscriminatorFeatures,
    Encoder,
    EncoderConfig,
    GeneratorConfig,
    StyleGANGenerator,
)
from inversion_core.packs import PackManifest, PerceptualSpec, load_pack, save_pack
from inversion_core.pictures import centre_crop, load_photo, to_image
from inversion_worker.client import JobClient
from inversion_worker.contract import ArtifactKey, JobOptions, JobStatus, StartKind
from inversion_worker.frames import png

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SIDE_PX, CHANNELS, W_DIM = 16, (8, 8, 8), 12


@pytest.fixture(scope="module")
def packs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one pack, `tiny`: 16 px, 6 layers."""
    folder = tmp_path_factory.mktemp("packs")
    generator = GeneratorConfig(
        resolution=SIDE_PX, channels=CHANNELS, z_dim=W_DIM, w_dim=W_DIM, mapping_layers=2, mapping_dim=W_DIM
    )
    encoder = EncoderConfig(resolution=SIDE_PX, w_dim=W_DIM, channels_base=4, channels_max=8, batch_norm=False)
    discriminator = DiscriminatorConfig(resolution=SIDE_PX, channels=CHANNELS)
    perceptual = PerceptualSpec(
        kind="discriminator",
        layer="8 px",
        args={"resolution": SIDE_PX, "channels": list(CHANNELS), "until": 8},
    )
    torch.manual_seed(0)
    save_pack(
        folder / "tiny",
        PackManifest(name="tiny", version="0.1", generator=generator, encoder=encoder, perceptual=perceptual),
        generator=StyleGANGenerator(generator),
        encoder=Encoder(encoder),
        perceptual=DiscriminatorFeatures(discriminator, until=8),
    )
    return folder


@pytest.fixture
def start_real(start_worker: StartWorker, packs_dir: Path) -> StartWorker:
    """`start_worker` for the library with the tiny pack as its default, on one thread."""

    def start(**env: object) -> object:
        tiny = {"INVERSION_PACKS": packs_dir, "INVERSION_DEFAULT_PACK": "tiny", "INVERSION_THREADS": 1}
        return start_worker(real=True, INVERSION_DEVICE="cpu", INVERSION_CHECKPOINT_S=0.05, **tiny, **env)

    return start  # type: ignore[return-value]


async def test_the_library_does_the_job_and_goes_on_after_a_kill(
    client: JobClient, start_real: StartWorker, packs_dir: Path, photo: bytes, plain_photo: bytes
) -> None:
    first = start_real()
    (info,) = await client.workers()
    (pack_info,) = [pack for pack in info.packs if pack.default]
    assert (pack_info.name, pack_info.layers, pack_info.w_dim) == ("tiny", 6, W_DIM)
    assert pack_info.starts == [StartKind.ENCODER, StartKind.MEAN, StartKind.RANDOM]

    seen = await client.look(png(draw_face((300, 256), head_px=220)), 20)  # as the library's detector sees it
    assert (seen.photo.width, seen.photo.height, len(seen.faces)) == (300, 256, 1)
    assert (await client.look(photo, 20)).faces == []

    options = JobOptions(steps=150, frame_every=25, align=False, start=StartKind.RANDOM, seed=5)
    job = await client.submit(photo, options)
    await at_step(client, job.id, 20)
    first.kill()
    second = start_real()
    interrupted = await result(client, job.id)
    assert (await record_of(client, job.id)).attempts == 2
    (resumed_at,) = re.findall(rf"resuming job={job.id} step=(\d+)", second.said)
    assert int(resumed_at) > 0

    undisturbed = await client.submit(photo, options)
    assert await result(client, undisturbed.id) == interrupted

    await the_result_is_what_the_record_says(client, job.id, photo, packs_dir)
    await refusals_name_what_is_wrong(client, photo, plain_photo)


async def the_result_is_what_the_record_says(client: JobClient, job_id: str, photo: bytes, packs_dir: Path) -> None:
    """Code, picture and loss belong together, and to the crop of the photo."""
    record = await record_of(client, job_id)
    pack = load_pack(packs_dir / "tiny")
    code = np.load(io.BytesIO(await read(client, ArtifactKey.latents(job_id))), allow_pickle=False)
    assert (code.dtype, code.shape) == (np.float32, (pack.num_layers, pack.w_dim))
    with torch.no_grad():
        image_BCHW = pack.synthesize(torch.from_numpy(code)[None])
    picture = Image.open(io.BytesIO(await read(client, ArtifactKey.image(job_id))))
    np.testing.assert_allclose(np.asarray(picture, int), np.asarray(to_image(image_BCHW), int), atol=1)
    aligned = Image.open(io.BytesIO(await read(client, ArtifactKey.aligned(job_id))))
    assert aligned.tobytes() == centre_crop(load_photo(photo), SIDE_PX).tobytes()
    assert record.face is None
    assert record.best_loss is not None
    assert record.loss is not None
    assert record.best_loss <= record.loss


async def refusals_name_what_is_wrong(client: JobClient, photo: bytes, plain_photo: bytes) -> None:
    """What the library refuses ends the job with the library's own problem."""
    refused = {
        "/problems/no-face-found": (plain_photo, JobOptions(steps=1)),
        "/problems/pack-not-found": (photo, JobOptions(pack="nowhere", align=False)),
        "/problems/option-invalid": (photo, JobOptions(optimizer="nothing", align=False)),
        "/problems/picture-invalid": (photo[:2000], JobOptions(align=False)),
    }
    jobs = {kind: await client.submit(data, options) for kind, (data, options) in refused.items()}
    for kind, job in jobs.items():
        record = await finished(client, job.id)
        assert record.status is JobStatus.FAILED
        assert record.error is not None
        assert record.error.type == kind


def test_a_worker_without_its_pack_says_so_and_ends(start_worker: StartWorker) -> None:
    worker = start_worker(real=True, ready=False, INVERSION_DEFAULT_PACK="nowhere")
    assert worker.wait() == 2
    assert "There is no pack 'nowhere'" in worker.said
    assert "Traceback" not in worker.said

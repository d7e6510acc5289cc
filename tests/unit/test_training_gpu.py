"""Training on a CUDA device: both precisions learn, nothing strays to the host, and a run goes on elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inversion_core.training import recording
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.precision import faster_precision, prepare
from inversion_core.training.run import RunFolder
from tests.tiny import DISCRIMINATOR, ENCODER, GENERATOR, noise_pictures

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def trainer(
    run: Path, device: str, precision: str = "float32", *, steps: tuple[int, int] = (4, 4), records_steps: bool = True
) -> GeneratorTrainer:
    config = GeneratorTraining(
        generator=GENERATOR, encoder=ENCODER, discriminator=DISCRIMINATOR,
        reconstruction_steps=steps[0], adversarial_steps=steps[1],
        batch_size=8, r1_every=2, mapping_fit_steps=5, augment_target=0.6, jitter_probability=0.5, face_weight=2.0,
        warp_probability=0.5, surround_probability=0.5, exchange_probability=0.5,
        precision=precision, records_steps=records_steps,
    )  # fmt: skip
    return GeneratorTrainer(config, noise_pictures(), noise_pictures(), RunFolder(run), device=device)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_learns_on_the_device(tmp_path: Path, precision: str) -> None:
    prepare("cuda")
    learner = trainer(tmp_path, "cuda", precision)
    before = [value.clone() for value in learner.g.parameters()]
    learner.run(sample_every=4)
    assert learner.step == 8
    assert all(value.isfinite().all() for value in learner.g_ema.state_dict().values())
    assert any(not torch.equal(old, new) for old, new in zip(before, learner.g.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("kind", ["reconstruction", "adversarial", "with R1"])
def test_a_step_waits_for_nothing(tmp_path: Path, kind: str) -> None:
    learner = trainer(tmp_path, "cuda")
    learner.step = {"reconstruction": 0, "adversarial": 5, "with R1": 6}[kind]
    learner.train_step(learner.pictures.batch(0, 8, 0))  # the first one plans and allocates
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.train_step(learner.pictures.batch(1, 8, 0))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_recorded_run_is_the_plain_one(tmp_path: Path) -> None:
    def trained(run: str, *, records_steps: bool) -> GeneratorTrainer:
        learner = trainer(tmp_path / run, "cuda", steps=(8, 28), records_steps=records_steps)
        learner.run(sample_every=100)
        return learner

    start = trainer(tmp_path / "start", "cuda").modules()
    plain, recorded = trained("plain", records_steps=False), trained("recorded", records_steps=True)
    recordings = recorded.recorder._recordings
    assert len(recordings) == 4, "reconstruction; R1; and neither, with and without a change of the probability"
    assert None not in recordings.values()
    for name in ("g", "e", "d"):
        begun, one, other = ([*each[name].parameters()] for each in (start, plain.modules(), recorded.modules()))
        moved = sum((a - b).square().sum() for a, b in zip(one, begun, strict=True))
        apart = sum((a - b).square().sum() for a, b in zip(one, other, strict=True))
        assert apart < 0.01 * moved, name


def test_what_cannot_be_recorded_is_done_plainly() -> None:
    def update(real_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": torch.full((), float(real_BCHW.sum()), device="cuda")}  # looks at a value

    recorder, real_BCHW = recording.Recorder(torch.device("cuda")), torch.ones(2, 3, 4, 4, device="cuda")
    assert [float(recorder("kind", update, real_BCHW)["loss"]) for _ in range(6)] == [96.0] * 6


def test_a_run_goes_on_on_another_device(tmp_path: Path) -> None:
    trainer(tmp_path, "cpu").run(until=5)
    trainer(tmp_path, "cuda").run(until=7)
    last = trainer(tmp_path, "cpu")
    last.run()
    assert last.step == 8
    assert all(value.isfinite().all() for value in last.g.state_dict().values())


def test_the_precision_of_the_device_is_measured() -> None:
    chosen, times_ms = faster_precision("cuda")
    assert chosen in times_ms
    assert min(times_ms.values()) > 0

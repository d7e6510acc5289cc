"""Steps of a kind do the same, but for what lies in tensors: else a recorded one would repeat a number of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from inversion_core.training import recording
from inversion_core.training.base import BaseTrainer
from inversion_core.training.encoder import EncoderTrainer, EncoderTraining
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.growing import grown
from inversion_core.training.identity import INPUT_PX, IdentityDistance
from inversion_core.training.run import RunFolder
from tests.tiny import DISCRIMINATOR, ENCODER, GENERATOR, noise_pictures, tiny_pack

SETTINGS: dict[str, Any] = {
    "batch_size": 4, "r1_every": 4, "augment_target": 0.6, "jitter_probability": 0.5, "face_weight": 2.0,
    "identity_weight": 0.5, "identity_every": 2, "encoder_clip": 2.0, "warp_probability": 0.5,
    "surround_probability": 0.5, "exchange_probability": 0.5,
}  # fmt: skip


class Operations(TorchDispatchMode):
    """What is done, with the numbers that the host gives; of tensors the shapes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.done: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace == "profiler":
            return out
        said = tree_map(lambda each: tuple(each.shape) if isinstance(each, Tensor) else each, (args, kwargs or {}))
        if func is torch.ops.aten._fused_adam_.default:
            said[1].pop("lr")  # on CUDA a tensor
        self.done.append(f"{func} {said}")
        return out


class Watching(recording.Recorder):
    """Keeps what the steps of each kind did."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.by_kind: dict[Hashable, list[list[str]]] = defaultdict(list)

    def __call__(
        self, kind: Hashable, update: Callable[[Tensor], Mapping[str, Tensor]], real_BCHW: Tensor
    ) -> Mapping[str, Tensor]:
        operations = Operations()
        with operations:
            losses = super().__call__(kind, update, real_BCHW)
        self.by_kind[kind].append(operations.done)
        return losses


def identity() -> IdentityDistance:
    torch.manual_seed(0)
    return IdentityDistance(nn.Sequential(nn.AvgPool2d(INPUT_PX // 4), nn.Flatten(), nn.Linear(48, 8)))


def generator_trainer(run: Path, side: int = 16, **changes: Any) -> GeneratorTrainer:
    networks = {"generator": GENERATOR, "encoder": ENCODER, "discriminator": DISCRIMINATOR}
    config = GeneratorTraining(**{**networks, **SETTINGS, "reconstruction_steps": 6, "adversarial_steps": 16,
                                  "mapping_fit_steps": 5, **changes})  # fmt: skip
    grow_from = run.parent / "small" if config.fade_images else None
    return GeneratorTrainer(
        config, noise_pictures(side), noise_pictures(side), RunFolder(run), identity=identity(), grow_from=grow_from
    )


def growing_trainer(run: Path) -> GeneratorTrainer:
    small = run.parent / "small"
    generator_trainer(small, reconstruction_steps=1, adversarial_steps=0).run()
    networks = vars(grown(small))
    return generator_trainer(run, 32, **networks, reconstruction_steps=0, adversarial_steps=16, fade_images=1000)


def encoder_trainer(run: Path) -> EncoderTrainer:
    config = EncoderTraining(encoder=ENCODER, discriminator=DISCRIMINATOR, steps=16, **SETTINGS)
    return EncoderTrainer(config, tiny_pack(), noise_pictures(), noise_pictures(), RunFolder(run), identity=identity())


@pytest.mark.parametrize("make", [generator_trainer, growing_trainer, encoder_trainer])
def test_steps_of_a_kind_do_the_same(make: Callable[[Path], BaseTrainer[Any]], tmp_path: Path) -> None:
    trainer = make(tmp_path / "run")
    trainer.recorder = watching = Watching()
    trainer.run(sample_every=100)
    assert len(watching.by_kind) >= 3, "terms that come every so often are kinds of their own"
    for kind, (_, first, *others) in watching.by_kind.items():  # in the very first one Adam makes its moments
        assert len(first) > 100
        assert others, kind
        assert all(other == first for other in others), kind

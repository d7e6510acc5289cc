"""The designs of learned optimizers by name. A further one is three classes and an entry here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from inversion_core.optimizers.basis import BasisConfig, BasisNetwork, LearnedBasis
from inversion_core.optimizers.learned import Learned, LearnedConfig, UpdateNetwork
from inversion_core.optimizers.learned_lbfgs import LBFGSNetwork, LearnedLBFGS, LearnedLBFGSConfig
from inversion_core.optimizers.looking import ResidualConfig, ResidualNetwork
from inversion_core.optimizers.lstm import CoordinateLSTM, LearnedLSTM, LSTMConfig
from inversion_core.optimizers.protocol import AnyOptimizer
from inversion_core.optimizers.residual import LearnedResidual
from inversion_core.optimizers.rgdn import GradientUnit, LearnedRGDN, RGDNConfig

FROM_PACK = ("num_layers", "w_dim")
"""Fields of every config class that the pack's generator settles; all others are the design's settings."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a learned optimizer is put together: config -> network, network -> optimizer."""

    config: type[Any]
    """A frozen dataclass with `num_layers`, `w_dim` and settings with defaults, each an int, float, bool or str."""
    network: Callable[[Any], nn.Module]
    optimizer: Callable[[Any], AnyOptimizer]
    untrained: str
    """What it is before it is trained, for people."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Fields of OptimizerTraining that the design's source has otherwise: the defaults of its runs."""

    @property
    def setting_types(self) -> dict[str, str]:
        """Setting -> the name of its type."""
        fields = dataclasses.fields(self.config)
        return {field.name: str(field.type) for field in fields if field.name not in FROM_PACK}

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings, and the defaults of those that it does not state: what came later is not in older ones."""
        fields = dataclasses.fields(self.config)
        return {**{field.name: field.default for field in fields if field.name not in FROM_PACK}, **settings}

    def build(self, settings: Mapping[str, Any], *, num_layers: int, w_dim: int) -> nn.Module:
        """The network for codes (B, num_layers, w_dim), with weights of its own initialisation.

        Raises:
            TypeError, ValueError: the design does not take such settings.
        """
        return self.network(self.config(**settings, num_layers=num_layers, w_dim=w_dim))


DESIGNS: Mapping[str, Design] = {
    "learned": Design(
        config=LearnedConfig, network=UpdateNetwork, optimizer=Learned, untrained="Adam",
        # The paper states neither its T, nor a rate, nor the units of its latent loss: found in
        # docs/experiments/2026-11-23-latent-loss.md.
        training={"iterations": 25, "rate": 3e-4, "latent_weight": 0.01},
    ),
    "learned-lstm": Design(
        config=LSTMConfig, network=CoordinateLSTM, optimizer=LearnedLSTM, untrained="the start itself",
        training={"unroll": 20, "rate": 3e-3, "latent_weight": 0.0},
    ),
    "learned-rgdn": Design(
        config=RGDNConfig, network=GradientUnit, optimizer=LearnedRGDN, untrained="gradient descent",
        training={"unroll": 5, "rate": 3e-4},
    ),
    "learned-residual": Design(
        config=ResidualConfig, network=ResidualNetwork, optimizer=LearnedResidual,
        untrained="learned-basis, then learned-lbfgs",
        training={
            "start": "any", "iterations": 3, "unroll": 3, "rate": 5e-4, "begun_rate": 0.1, "warmup_batches": 20,
            "last_weight": 2.0, "latent_weight": 0.0, "averaging": 0.98, "objective": "log-loss",
            "targets": "pictures", "pairs": 1_000_003,
        },
    ),
    "learned-basis": Design(
        config=BasisConfig, network=BasisNetwork, optimizer=LearnedBasis, untrained="the same",
        training={"start": "any", "targets": "mixed"},
    ),
    "learned-lbfgs": Design(
        config=LearnedLBFGSConfig, network=LBFGSNetwork, optimizer=LearnedLBFGS, untrained="the same",
        training={"start": "any", "targets": "mixed"},
    ),
}  # fmt: skip
"""Name, as options and pack.json spell it, to design."""

"""A basis of the code space, layer by layer, in which curvature couples the coordinates least; and Adam in it.

Adam scales each coordinate on its own. That is worth most where the loss's second derivatives are nearly diagonal,
and the coordinates of W+ are nothing special: in the eigenvectors of the mean Gauss-Newton matrix (docs/math.md,
equation 3g) Adam needs a third fewer steps. The matrix is found on synthetic pictures (training/curvature.py) and
changes little between them; what each picture has of its own is left to Adam's second moments. Shampoo and SOAP
(Gupta 2018; Vyas 2024) follow such a basis while they train; here it is known before.

Suffixes: B image, L style layer, D E latent w.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inversion_core.latents import Latent
from inversion_core.optimizers.adam import Adam, AdamState
from inversion_core.optimizers.evaluation import Evaluation
from inversion_core.optimizers.learned import layerwise
from inversion_core.optimizers.schedule import Schedule

SMALLEST = 1e-12


class Basis(nn.Module):
    """An orthonormal basis of each layer's space, and what is known along its axes. The standard basis until fitted."""

    def __init__(self, num_layers: int, w_dim: int):
        super().__init__()
        axes_LDE = torch.zeros(num_layers, w_dim, w_dim)
        axes_LDE.diagonal(dim1=1, dim2=2).fill_(1)  # torch.eye would import torch's compiler, see packs/shapes.py
        self.register_buffer("axes_LDE", axes_LDE)
        self.register_buffer("curvature_LD", torch.ones(num_layers, w_dim))
        self.register_buffer("mean_LD", torch.zeros(num_layers, w_dim))
        self.register_buffer("spread_LD", torch.ones(num_layers, w_dim))
        self.axes_LDE: Tensor
        """Columns are the axes."""
        self.curvature_LD: Tensor
        """Mean Gauss-Newton curvature along each axis; ascending."""
        self.mean_LD: Tensor
        self.spread_LD: Tensor
        """Mean and standard deviation of codes along the axes."""

    @torch.no_grad()
    def fit(self, curvature_LDE: Tensor, w_NLD: Tensor) -> None:
        """Take the eigenvectors of the layers' Gauss-Newton matrices, and what codes `w_NLD` are like along them."""
        values_LD, axes_LDE = torch.linalg.eigh(curvature_LDE.double().cpu())
        self.axes_LDE.copy_(axes_LDE)
        self.curvature_LD.copy_(values_LD.clamp(min=SMALLEST))
        w_NLD = self.into(w_NLD.to(self.axes_LDE.device))
        self.mean_LD.copy_(w_NLD.mean(0))
        self.spread_LD.copy_(w_NLD.std(0).clamp(min=SMALLEST))

    def place(self, x_BLD: Tensor) -> Tensor:
        """Codes that are in this basis already: how many standard deviations they are from the mean."""
        return (x_BLD - self.mean_LD) / self.spread_LD

    def into(self, x_BLD: Tensor) -> Tensor:
        """Codes, gradients or updates (B, L, D) in this basis."""
        return layerwise(x_BLD.transpose(0, 1), self.axes_LDE).transpose(0, 1)

    def out_of(self, x_BLE: Tensor) -> Tensor:
        """The inverse of `into`."""
        return layerwise(x_BLE.transpose(0, 1), self.axes_LDE.transpose(1, 2)).transpose(0, 1)


@dataclass(frozen=True, kw_only=True)
class BasisConfig:
    """The Adam inside."""

    num_layers: int
    """Number L of style layers."""
    w_dim: int
    learning_rate: float = 0.16
    """Step size, after the warm-up."""
    warmup_steps: int = 3
    beta1: float = 0.9
    """Decay of the gradient's mean. 0.9 is Adam's own; steps as long as these want less
    (docs/experiments/2026-11-29-adam-momentum-in-learned.md)."""

    def __post_init__(self) -> None:
        self.adam()  # which refuses what it cannot be

    def adam(self) -> Adam:
        """The Adam inside."""
        schedule = Schedule(warmup_steps=self.warmup_steps)
        return Adam(learning_rate=self.learning_rate, beta1=self.beta1, schedule=schedule)


class BasisNetwork(nn.Module):
    """No network but the basis: nothing in it is trained by gradients."""

    def __init__(self, config: BasisConfig):
        super().__init__()
        self.config = config
        self.basis = Basis(config.num_layers, config.w_dim)


class LearnedBasis:
    """Adam in the basis. Its moments are kept in it, too; no image sees another."""

    def __init__(self, network: BasisNetwork):
        self.basis, self._adam = network.basis, network.config.adam()

    def init(self, latent: Latent) -> AdamState:
        return self._adam.init(latent)

    def step(self, latent: Latent, evaluation: Evaluation, state: AdamState) -> tuple[Latent, AdamState]:
        update_BLD, state = self._adam.update(self.basis.into(evaluation.grad), state)
        return latent.with_free(latent.w_BLD + self.basis.out_of(update_BLD)), state

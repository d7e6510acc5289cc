"""The network of `learned-residual`: from pictures, gradient and code to how Adam's update is scaled, and to one
beside it. All codes, gradients and updates are in the basis of basis.py.

Three parts: a convolutional trunk looks at what target and picture have apart (as ReStyle's encoder does, Alaluf
2021); style layers exchange what they know by attention (Vaswani 2017); and a controller, a small network of each
layer's own, sets its step size from a few numbers on how things go.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width, N number on progress, K context.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inversion_core.loss import mean_square
from inversion_core.models.convolution import convolve
from inversion_core.models.serving import linear
from inversion_core.optimizers.basis import Basis
from inversion_core.optimizers.learned import LayerwiseLinear
from inversion_core.optimizers.learned_lbfgs import check_settings
from inversion_core.optimizers.seen import Seen

SIDE_PX = 64
"""Side to which pictures are brought before the trunk looks at them."""
FEATURE_SIDE_PX = 16
"""Likewise for their features."""
PROGRESS = 9
"""Numbers on progress, see `residual.py`."""
HEADS = 4
BLOCKS = 2
LOG_FACTOR = 1.5
"""Adam's update is scaled by exp(-LOG_FACTOR) to exp(LOG_FACTOR), element by element."""
SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """Architecture, the Adam that an untrained network is, and the L-BFGS that goes on."""

    num_layers: int
    """Number L of style layers; each has weights of its own but in the blocks."""
    w_dim: int
    hidden: int = 256
    """Width of a style layer's token."""
    context: int = 256
    """Numbers that the trunk tells all layers."""
    feature_channels: int = 512
    """Of the features F; training takes the pack's."""
    learning_rate: float = 0.16
    """Step size of the Adam inside, after its warm-up."""
    warmup_steps: int = 3
    looks: int = 6
    """Updates in which the network leads; after them L-BFGS goes on."""
    radius: float = 0.1
    """Longest first step of L-BFGS: root mean square over the code's elements."""
    history_size: int = 20
    """Pairs of step and change that L-BFGS keeps."""

    def __post_init__(self) -> None:
        for name in ("num_layers", "w_dim", "hidden", "context", "feature_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.hidden % HEADS:
            raise ValueError(f"hidden is {self.hidden}; it must be a multiple of {HEADS}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if min(self.warmup_steps, self.looks) < 0:
            raise ValueError(f"warmup_steps and looks are {self.warmup_steps}, {self.looks}; they must be 0 or more")
        check_settings(self)


class Trunk(nn.Module):
    """Target, picture and the loss's gradient to it, with their features, to a context (B, K)."""

    def __init__(self, feature_channels: int, context: int):
        super().__init__()
        self.image = nn.ModuleList([nn.Conv2d(9, 48, 4, 2, 1), nn.Conv2d(48, 96, 4, 2, 1)])  # 32, 16 px
        self.features = nn.Conv2d(2 * feature_channels, 64, 1)
        self.joint = nn.ModuleList(
            [nn.Conv2d(160, 192, 3, 1, 1), nn.Conv2d(192, 256, 4, 2, 1), nn.Conv2d(256, 256, 4, 2, 1)]  # 16, 8, 4 px
        )
        self.last = nn.Linear(256 * (FEATURE_SIDE_PX // 4) ** 2, context)

    def forward(self, seen: Seen) -> Tensor:
        x_BCHW = _resized(_picture_channels(seen), SIDE_PX)
        for layer in self.image:
            x_BCHW = F.silu(_convolved(x_BCHW, layer))
        features_BCHW = _resized(_feature_channels(seen), FEATURE_SIDE_PX)
        features_BCHW = F.silu(_convolved(features_BCHW, self.features))
        x_BCHW = torch.cat([x_BCHW, features_BCHW], dim=1)
        for layer in self.joint:
            x_BCHW = F.silu(_convolved(x_BCHW, layer))
        return _linear(x_BCHW.flatten(1), self.last)


def _convolved(x_BCHW: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    return convolve(x_BCHW, layer.weight, layer.bias, stride=layer.stride[0], padding=int(layer.padding[0]))


def _linear(x_B: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return linear(x_B, layer.weight, layer.bias)


class Block(nn.Module):
    """A transformer block over the style layers of one image."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, x_BLH: Tensor) -> Tensor:
        batch, layers, width = x_BLH.shape
        qkv = _linear(self.norm1(x_BLH), self.qkv).view(batch, layers, 3, HEADS, width // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, width of a head)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x_BLH = x_BLH + _linear(mixed.transpose(1, 2).reshape(batch, layers, width), self.out)
        first, _, last = self.mlp
        return x_BLH + _linear(F.silu(_linear(self.norm2(x_BLH), first)), last)


class Controller(nn.Module):
    """The logarithm of each layer's factor to Adam's step size, from the numbers on progress; 0 before training."""

    def __init__(self, num_layers: int, width: int = 32):
        super().__init__()
        sizes = [(PROGRESS, width), (width, width), (width, 1)]
        self.layers = nn.ModuleList(LayerwiseLinear(num_layers, i, o) for i, o in sizes)
        _zero(self.layers[-1])

    def forward(self, progress_BLN: Tensor) -> Tensor:
        x_LBN = progress_BLN.transpose(0, 1)
        *hidden, last = self.layers
        for layer in hidden:
            x_LBN = F.silu(layer(x_LBN))
        factor_LB1: Tensor = last(x_LBN)
        return factor_LB1.transpose(0, 1)


class ResidualNetwork(nn.Module):
    """All parts. Untrained it is Adam in its basis, with a warm-up."""

    def __init__(self, config: ResidualConfig):
        super().__init__()
        self.config = config
        layers, dim, hidden = config.num_layers, config.w_dim, config.hidden
        self.basis = Basis(layers, dim)
        self.controller = Controller(layers)
        self.trunk = Trunk(config.feature_channels, config.context)
        self.code_in = LayerwiseLinear(layers, 4 * dim, hidden)
        self.progress_in = LayerwiseLinear(layers, PROGRESS, hidden)
        self.context_in = LayerwiseLinear(layers, config.context, hidden)
        self.blocks = nn.ModuleList(Block(hidden) for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(hidden)
        self.code_out = LayerwiseLinear(layers, hidden, 2 * dim)
        _zero(self.code_out)

    def forward(
        self, adam_BLD: Tensor, grad_BLD: Tensor, w_BLD: Tensor, progress_BLN: Tensor, seen: Seen
    ) -> tuple[Tensor, Tensor]:
        """Factor to Adam's update, element by element, and an update beside it; (B, L, D) each.

        Args:
            adam_BLD: Adam's update at step size 1.
        """
        basis = self.basis
        own_BLI = torch.cat(
            [
                adam_BLD, _unit(grad_BLD), _unit(grad_BLD * basis.curvature_LD.clamp(min=SMALLEST).rsqrt()),
                (w_BLD - basis.mean_LD) / basis.spread_LD,
            ], dim=2,
        )  # fmt: skip
        context_BLK = self.trunk(seen)[:, None].expand(-1, self.config.num_layers, -1)
        x_LBH = self.code_in(own_BLI.transpose(0, 1)) + self.progress_in(progress_BLN.transpose(0, 1))
        x_LBH = x_LBH + self.context_in(context_BLK.transpose(0, 1))
        x_BLH = x_LBH.transpose(0, 1)
        for block in self.blocks:
            x_BLH = block(x_BLH)
        out_BLI = self.code_out(self.norm(x_BLH).transpose(0, 1)).transpose(0, 1)
        log_factor_BLD, direct_BLD = out_BLI.chunk(2, dim=2)
        rate_BL1 = self.controller(progress_BLN).clamp(-6, 2).exp()
        return rate_BL1 * torch.exp(LOG_FACTOR * torch.tanh(log_factor_BLD)), basis.spread_LD * direct_BLD


def rms(x: Tensor, *dims: int) -> Tensor:
    """Root mean square over the dimensions, which stay with size 1; never 0."""
    return x.square().mean(dims, keepdim=True).sqrt() + SMALLEST


def _rms_B111(x_BCHW: Tensor) -> Tensor:
    """`rms` of whole pictures."""
    return mean_square(x_BCHW).sqrt()[:, None, None, None] + SMALLEST


def _unit(x_BLD: Tensor) -> Tensor:
    """Of root mean square 1 in each layer, without its extremes."""
    return (x_BLD / rms(x_BLD, 2)).clamp(-5, 5)


def _picture_channels(seen: Seen) -> Tensor:
    gradient_BCHW = seen.image_grad_BCHW / _rms_B111(seen.image_grad_BCHW)
    apart_BCHW = seen.target_BCHW - seen.image_BCHW
    return torch.cat([apart_BCHW, seen.image_BCHW, 0.5 * gradient_BCHW.clamp(-4, 4)], dim=1)


def _feature_channels(seen: Seen) -> Tensor:
    """Both in units of the target's."""
    unit_B111 = _rms_B111(seen.target_features_BCHW)
    apart_BCHW = seen.target_features_BCHW - seen.features_BCHW
    return torch.cat([apart_BCHW, seen.features_BCHW], dim=1) / unit_B111


def _resized(x_BCHW: Tensor, side_px: int) -> Tensor:
    return x_BCHW if x_BCHW.shape[-1] == side_px else F.adaptive_avg_pool2d(x_BCHW, side_px)


def _zero(layer: nn.Module) -> None:
    assert isinstance(layer, LayerwiseLinear)
    nn.init.zeros_(layer.weight_LIO)
    nn.init.zeros_(layer.bias_L1O)

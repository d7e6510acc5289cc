"""The network of `learned-residual`: from pictures, gradient and code to how Adam's update is scaled, and to one
beside it. All codes, gradients and updates are in the basis of basis.py.

Four parts. A convolutional trunk looks at what target and picture have apart, as ReStyle's encoder does (Alaluf 2021).
Style layers exchange what they know by attention (Vaswani 2017). A controller, a small network of each layer's own,
sets its step size from a few numbers on how things go. And a gate, another such network, says how far to go at once to
where the trunk, by itself, would put the code: all the way from afar, and nowhere near the end.

The trunk has an encoder's body and can begin as the pack's (`ResidualNetwork.begin_as`): what it is to learn of faces
need not be learned anew, and training is about what encoders do not see.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width, F number that the trunk says, N number on
progress, K context.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inversion_core.loss import mean_square
from inversion_core.models.convolution import convolve
from inversion_core.models.encoder import ConvUnit, Encoder, EncoderConfig, stages
from inversion_core.models.serving import linear
from inversion_core.optimizers.basis import Basis
from inversion_core.optimizers.evaluation import Look
from inversion_core.optimizers.learned import LayerwiseLinear
from inversion_core.optimizers.learned_lbfgs import check_settings

SIDES_PX = (64, 128)
"""Sides to which pictures can be brought before the trunk looks at them."""
FEATURE_SIDE_PX = 16
"""Likewise for their features."""
FIRST_GATE = 0.5
"""Part of the way to the encoder's code, where the trunk begins as an encoder."""
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
    side_px: int = 64
    """To which pictures are brought before the trunk looks at them; one of SIDES_PX."""
    channels_base: int = 32
    """Of the trunk, an encoder's body, at that side; they double with each halving."""
    channels_max: int = 128
    blocks_per_size: int = 1
    """Also of the trunk: residual blocks at each size below that."""
    learning_rate: float = 0.16
    """Step size of the Adam inside, after its warm-up."""
    warmup_steps: int = 3
    looks: int = 3
    """Updates in which the network leads; after them L-BFGS goes on."""
    radius: float = 0.1
    """Longest first step of L-BFGS: root mean square over the code's elements."""
    history_size: int = 20
    """Pairs of step and change that L-BFGS keeps."""

    def __post_init__(self) -> None:
        for name in ("num_layers", "w_dim", "hidden", "context", "feature_channels", "channels_base", "channels_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.side_px not in SIDES_PX:
            raise ValueError(f"side_px is {self.side_px}; it must be one of {', '.join(map(str, SIDES_PX))}")
        if self.hidden % HEADS:
            raise ValueError(f"hidden is {self.hidden}; it must be a multiple of {HEADS}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if min(self.warmup_steps, self.looks) < 0:
            raise ValueError(f"warmup_steps and looks are {self.warmup_steps}, {self.looks}; they must be 0 or more")
        check_settings(self)

    @property
    def trunk(self) -> EncoderConfig:
        """The encoder whose body the trunk has."""
        return EncoderConfig(
            resolution=self.side_px, w_dim=self.w_dim, channels_base=self.channels_base, channels_max=self.channels_max,
            batch_norm=False, blocks_per_size=self.blocks_per_size,
        )  # fmt: skip


class Trunk(nn.Module):
    """Target, picture and the loss's gradient to it, with their features, to numbers (B, F): an encoder's body
    (models/encoder.py), so that it can begin as one that is trained."""

    def __init__(self, config: ResidualConfig):
        super().__init__()
        widths = config.trunk.widths
        self.side_px = config.side_px
        self.features_after = (config.side_px // FEATURE_SIDE_PX).bit_length() - 1
        """Blocks after which the trunk is at FEATURE_SIDE_PX."""
        self.stem = ConvUnit(9, widths[0], 3, bias=True, batch_norm=False)
        self.blocks = stages(config.trunk)
        self.features = nn.Conv2d(2 * config.feature_channels, widths[self.features_after], 1)
        nn.init.zeros_(self.features.weight)
        nn.init.zeros_(_bias(self.features))
        self.num_features = widths[-1] * 16
        """F: those at 4 px."""

    def forward(self, look: Look) -> Tensor:
        x_BCHW = self.stem(_resized(_picture_channels(look), self.side_px))
        for number, block in enumerate(self.blocks, start=1):
            x_BCHW = block(F.avg_pool2d(x_BCHW, 2))
            if number == self.features_after:
                features_BCHW = _resized(_feature_channels(look), FEATURE_SIDE_PX)
                x_BCHW = x_BCHW + convolve(features_BCHW, self.features.weight, self.features.bias)
        seen_BF: Tensor = x_BCHW.flatten(1)
        return seen_BF

    @torch.no_grad()
    def begin_as(self, encoder: Encoder) -> None:
        """Take the encoder's weights: what it makes of the target is then what this makes of anything."""
        for mine, its in zip(self.blocks.parameters(), encoder.blocks.parameters(), strict=True):
            mine.copy_(its)
        weight = encoder.stem.conv.weight
        self.stem.conv.weight.copy_(torch.cat([weight, weight, torch.zeros_like(weight)], dim=1))  # apart, image
        _bias(self.stem.conv).copy_(_bias(encoder.stem.conv))


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


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
    """A number for each layer, from those on progress; 0 before training. Of the two that there are, one says the
    logarithm of the factor to Adam's step size, the other the gate."""

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
        number_LB1: Tensor = last(x_LBN)
        return number_LB1.transpose(0, 1)


class ResidualNetwork(nn.Module):
    """All parts. Untrained it is Adam in its basis, with a warm-up."""

    def __init__(self, config: ResidualConfig):
        super().__init__()
        self.config = config
        layers, dim, hidden = config.num_layers, config.w_dim, config.hidden
        self.basis = Basis(layers, dim)
        self.controller = Controller(layers)
        self.gate = Controller(layers)
        self.trunk = Trunk(config)
        self.context = nn.Linear(self.trunk.num_features, config.context)
        self.far_in = nn.Linear(self.trunk.num_features, config.context)
        self.far_out = nn.Linear(config.context, layers * dim)
        self.code_in = LayerwiseLinear(layers, 4 * dim, hidden)
        self.progress_in = LayerwiseLinear(layers, PROGRESS, hidden)
        self.context_in = LayerwiseLinear(layers, config.context, hidden)
        self.blocks = nn.ModuleList(Block(hidden) for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(hidden)
        self.code_out = LayerwiseLinear(layers, hidden, 2 * dim)
        _zero(self.code_out)

    def forward(
        self, adam_BLD: Tensor, grad_BLD: Tensor, w_BLD: Tensor, progress_BLN: Tensor, look: Look
    ) -> tuple[Tensor, Tensor]:
        """Factor to Adam's update, element by element, and an update beside it; (B, L, D) each.

        Args:
            adam_BLD: Adam's update at step size 1.
        """
        basis, config = self.basis, self.config
        place_BLD = basis.place(w_BLD)
        own_BLI = torch.cat(
            [
                adam_BLD, _unit(grad_BLD), _unit(grad_BLD * basis.curvature_LD.clamp(min=SMALLEST).rsqrt()), place_BLD,
            ], dim=2,
        )  # fmt: skip
        seen_BF = self.trunk(look)
        context_BLK = _linear(seen_BF, self.context)[:, None].expand(-1, config.num_layers, -1)
        x_LBH = self.code_in(own_BLI.transpose(0, 1)) + self.progress_in(progress_BLN.transpose(0, 1))
        x_LBH = x_LBH + self.context_in(context_BLK.transpose(0, 1))
        x_BLH = x_LBH.transpose(0, 1)
        for block in self.blocks:
            x_BLH = block(x_BLH)
        out_BLI = self.code_out(self.norm(x_BLH).transpose(0, 1)).transpose(0, 1)
        log_factor_BLD, direct_BLD = out_BLI.chunk(2, dim=2)
        far_BLD = _linear(_linear(seen_BF, self.far_in), self.far_out).unflatten(1, (config.num_layers, config.w_dim))
        direct_BLD = direct_BLD + self.gate(progress_BLN) * (far_BLD - place_BLD)
        rate_BL1 = self.controller(progress_BLN).clamp(-6, 2).exp()
        return rate_BL1 * torch.exp(LOG_FACTOR * torch.tanh(log_factor_BLD)), basis.spread_LD * direct_BLD

    def can_begin_as(self, encoder: Encoder | None) -> bool:
        """Whether there is an encoder, and its body has the trunk's sizes."""
        return encoder is not None and encoder.config == self.config.trunk

    @property
    def begun(self) -> list[nn.Parameter]:
        """What `begin_as` fills in: it learns at a lower rate, lest what it knows be lost."""
        return [*self.trunk.parameters(), *self.far_in.parameters(), *self.far_out.parameters()]

    @torch.no_grad()
    def begin_as(self, encoder: Encoder, w_NLD: Tensor) -> None:
        """Let the first step from afar lead to the encoder's code, as far as `context` directions can say it.

        The directions are those in which codes (N, L, D) of pictures differ most, as the basis weighs it: where the
        loss is steep, a difference counts more. Call it after the basis is fitted.
        """
        self.trunk.begin_as(encoder)
        basis, head = self.basis, encoder.head
        assert head.bias is not None
        spread_LD = basis.spread_LD
        # Places, as `forward` has them, are linear in the trunk's features: head_IF @ features + bias_I.
        head_FLD = (head.weight * head.weight_scale).unflatten(0, spread_LD.shape).permute(2, 0, 1)
        head_IF = (basis.into(head_FLD) / spread_LD).flatten(1).T
        bias_I = basis.place(basis.into(head.bias.view(1, *spread_LD.shape))).flatten()
        places_NI = basis.place(basis.into(w_NLD)).flatten(1)
        centre_I = places_NI.mean(0)
        weight_LD = spread_LD * basis.curvature_LD.clamp(min=SMALLEST).sqrt()
        weight_I = weight_LD.clamp(min=1e-3 * float(weight_LD.max())).flatten()  # it is divided by
        axes_KI = torch.linalg.svd(weight_I * (places_NI - centre_I), full_matrices=False).Vh[: self.config.context]
        count, into_KI = len(axes_KI), axes_KI * weight_I
        for layer in (self.far_in, self.far_out):  # fewer pictures than `context`: the others stay 0
            nn.init.zeros_(layer.weight)
        self.far_in.weight[:count] = into_KI @ head_IF
        self.far_in.bias.zero_()[:count] = into_KI @ (bias_I - centre_I)
        self.far_out.weight[:, :count] = (axes_KI / weight_I).T
        self.far_out.bias.copy_(centre_I)
        last = self.gate.layers[-1]
        assert isinstance(last, LayerwiseLinear)
        last.bias_L1O.fill_(FIRST_GATE)


def trunk_widths(encoder: Encoder) -> dict[str, int]:
    """Settings of a trunk that can begin as the encoder; none where none can, as it sees SIDES_PX and has no norm."""
    its = encoder.config
    if its.batch_norm or its.resolution not in SIDES_PX:
        return {}
    same = ("channels_base", "channels_max", "blocks_per_size")
    return {"side_px": its.resolution, **{name: getattr(its, name) for name in same}}


def rms(x: Tensor, *dims: int) -> Tensor:
    """Root mean square over the dimensions, which stay with size 1; never 0."""
    return x.square().mean(dims, keepdim=True).sqrt() + SMALLEST


def _rms_B111(x_BCHW: Tensor) -> Tensor:
    """`rms` of whole pictures."""
    return mean_square(x_BCHW).sqrt()[:, None, None, None] + SMALLEST


def _unit(x_BLD: Tensor) -> Tensor:
    """Of root mean square 1 in each layer, without its extremes."""
    return (x_BLD / rms(x_BLD, 2)).clamp(-5, 5)


def _picture_channels(look: Look) -> Tensor:
    gradient_BCHW = look.image_grad_BCHW / _rms_B111(look.image_grad_BCHW)
    apart_BCHW = look.target_BCHW - look.image_BCHW
    return torch.cat([apart_BCHW, look.image_BCHW, 0.5 * gradient_BCHW.clamp(-4, 4)], dim=1)


def _feature_channels(look: Look) -> Tensor:
    """Both in units of the target's."""
    unit_B111 = _rms_B111(look.target_features_BCHW)
    apart_BCHW = look.target_features_BCHW - look.features_BCHW
    return torch.cat([apart_BCHW, look.features_BCHW], dim=1) / unit_B111


def _resized(x_BCHW: Tensor, side_px: int) -> Tensor:
    return x_BCHW if x_BCHW.shape[-1] == side_px else F.adaptive_avg_pool2d(x_BCHW, side_px)


def _zero(layer: nn.Module) -> None:
    assert isinstance(layer, LayerwiseLinear)
    nn.init.zeros_(layer.weight_LIO)
    nn.init.zeros_(layer.bias_L1O)

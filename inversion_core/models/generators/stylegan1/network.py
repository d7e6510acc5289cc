"""StyleGAN's generator (Karras 2019): mapping, truncation, synthesis.

Suffixes: B image, Z latent z, L style layer, D latent w, C channel, H W height and width.
The first layer of each resolution up-samples (but at 4 px, where it is the constant), the second does not;
so a picture of 2^n px has 2(n - 1) style layers: 14 at 256 px.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models.convolution import conv1x1, conv3x3, convolve, upsample
from inversion_core.models.generators.base import Generator, Synthesis
from inversion_core.models.generators.stylegan1.config import GeneratorConfig
from inversion_core.models.generators.truncation import Truncation
from inversion_core.models.layers import EPSILON, EqualizedLinear, leaky_relu, leaky_relu_, pixel_norm
from inversion_core.models.serving import is_serving


class MappingNetwork(nn.Module):
    """z to w: pixel norm, then fully connected layers at a hundredth of the rate (Karras 2019 section 2)."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.num_layers = config.num_layers
        self.w_per_layer = config.w_per_layer
        out_dim = config.w_dim * (config.num_layers if config.w_per_layer else 1)
        widths = [config.z_dim] + [config.mapping_dim] * (config.mapping_layers - 1) + [out_dim]
        self.layers = nn.ModuleList(
            EqualizedLinear(i, o, gain=math.sqrt(2.0), rate_multiplier=0.01) for i, o in itertools.pairwise(widths)
        )

    def forward(self, z_BZ: Tensor) -> Tensor:
        """Map z (B, Z) to W+ codes (B, L, D) before truncation."""
        x = pixel_norm(z_BZ)
        for layer in self.layers:
            x = leaky_relu(layer(x))
        if self.w_per_layer:
            return x.view(len(x), self.num_layers, -1)
        return x.unsqueeze(1).expand(-1, self.num_layers, -1)


class StyleLayer(nn.Module):
    """One style layer: (up-sampled) convolution or the constant, noise, bias, leaky ReLU, AdaIN."""

    noise_HW: Tensor
    blur_kernel: Tensor
    folded_kernel: Tensor | None
    folded_shift_CHW: Tensor | None

    def __init__(self, config: GeneratorConfig, index: int):
        super().__init__()
        block = index // 2
        self.resolution = 4 * 2**block
        self.is_constant = index == 0
        self.upsamples = index % 2 == 0 and not self.is_constant
        self.is_fused = self.upsamples and self.resolution >= config.fused_from
        out_channels = config.channels[block]
        in_channels = config.channels[block - 1] if self.upsamples else out_channels
        self.weight_scale = math.sqrt(2.0 / (in_channels * 9))
        if self.is_constant:
            self.const = nn.Parameter(torch.ones(1, out_channels, 4, 4))
        else:
            self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("noise_HW", torch.randn(self.resolution, self.resolution))
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4  # the binomial filter of Karras 2019 section 2
        self.register_buffer("blur_kernel", torch.outer(taps, taps).repeat(out_channels, 1, 1, 1), persistent=False)
        self.style = EqualizedLinear(config.w_dim, 2 * out_channels)
        self.register_buffer("folded_kernel", None, persistent=False)
        self.register_buffer("folded_shift_CHW", None, persistent=False)

    def fold(self) -> None:
        """Compute kernel, bias and noise once, for a frozen network; later changes of the weights go unseen."""
        self.folded_shift_CHW = self._shift(self.noise_HW, self.noise_HW.dtype).detach()
        if not self.is_constant:
            self.folded_kernel = self._kernel().detach()

    def forward(
        self, x_BCHW: Tensor | None, w_BD: Tensor, *, random_noise: bool = False, style_BS: Tensor | None = None
    ) -> Tensor:
        """Apply the layer; `x_BCHW` is None for the constant. `random_noise`: drawn anew, not the layer's own.

        `style_BS` is what the layer would make of `w_BD`, where that is known already.
        """
        x = self._convolve(x_BCHW)
        # In x's own precision: one float32 term would make all that follows float32, of twice the size.
        if random_noise:
            shape = self.noise_HW.expand(len(w_BD), 1, -1, -1)
            shift = self._shift(torch.randn_like(shape, memory_format=torch.contiguous_format), x.dtype)
        elif self.folded_shift_CHW is None:
            shift = self._shift(self.noise_HW, x.dtype)
        else:
            shift = self.folded_shift_CHW.to(x.dtype)
        return adain(leaky_relu_(x + shift), self.style(w_BD) if style_BS is None else style_BS)

    def _shift(self, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """Bias and noise, added together: they are added to the same."""
        bias_C11, strength_C11 = (each.to(dtype)[:, None, None] for each in (self.bias, self.noise_strength))
        return bias_C11 + noise.to(dtype) * strength_C11

    def _convolve(self, x_BCHW: Tensor | None) -> Tensor:
        if x_BCHW is None:
            return self.const
        kernel = self._kernel() if self.folded_kernel is None else self.folded_kernel
        if not self.upsamples:
            return conv3x3(x_BCHW, kernel)
        x = upsample(x_BCHW, kernel)
        return convolve(x, self.blur_kernel, padding=1, groups=x.shape[1])

    def _kernel(self) -> Tensor:
        """What is convolved with: the scaled weight, spread where the layer up-samples.

        Nearest and then a convolution is the same transposed convolution as the fused form, with the weight turned
        round: 4 products for each pixel, not 9.
        """
        weight = self.weight * self.weight_scale
        if not self.upsamples:
            return weight
        return _spread_kernel(weight if self.is_fused else weight.flip(2, 3))


def _spread_kernel(weight_OIHW: Tensor) -> Tensor:
    """The kernel (I, O, 4, 4) whose transposed convolution at stride 2 spreads each pixel over 2x2, then convolves."""
    k = F.pad(weight_OIHW.transpose(0, 1), (1, 1, 1, 1))
    return k[..., 1:, 1:] + k[..., :-1, 1:] + k[..., 1:, :-1] + k[..., :-1, :-1]


def adain(x_BCHW: Tensor, style_BS: Tensor) -> Tensor:
    """AdaIN (Karras 2019 eq. 1): normalise each channel of each image, then scale by 1 + y_s and shift by y_b.

    Batch norm over a batch of one with B * C channels is the same mathematics, in one fused kernel forwards and
    backwards. A constant (batch of one) is spread over the batch first. All of it lies contiguous, the gradient too:
    channels-last sums depend on the number of threads, and a view of one image that lies so has strides with which the
    gradient is wrong (torch 2.13 on a CPU).
    """
    batch, channels = style_BS.shape[0], x_BCHW.shape[1]
    style_BS = style_BS.to(x_BCHW.dtype)  # under autocast the two may differ
    scale_B1C, shift_B1C = style_BS.view(batch, 2, channels).split(1, dim=1)
    x = x_BCHW.expand(batch, -1, -1, -1).contiguous().view(1, batch * channels, *x_BCHW.shape[2:])
    x = F.batch_norm(x, None, None, (scale_B1C + 1).flatten(), shift_B1C.flatten(), training=True, eps=EPSILON)
    y_BCHW = x.view(batch, channels, *x_BCHW.shape[2:])
    if y_BCHW.requires_grad:
        y_BCHW.register_hook(Tensor.contiguous)
    return y_BCHW


class FoldedStyles(nn.Module):
    """The style transforms of layers of one width, in one batched product; frozen, and no part of the state dict."""

    indices_L: Tensor
    weight_LDS: Tensor
    bias_L1S: Tensor

    def __init__(self, synthesis: SynthesisNetwork, indices: list[int]):
        super().__init__()
        self.indices = indices
        styles = [synthesis.get_submodule(f"layers.{index}.style") for index in indices]
        weights = [style.scaled_weight().detach().T for style in styles if isinstance(style, EqualizedLinear)]
        biases = [style.scaled_bias().detach()[None] for style in styles if isinstance(style, EqualizedLinear)]
        indices_L = torch.tensor(indices, device=weights[0].device)  # on the device: a list would be copied each time
        self.register_buffer("indices_L", indices_L, persistent=False)
        self.register_buffer("weight_LDS", torch.stack(weights), persistent=False)
        self.register_buffer("bias_L1S", torch.stack(biases), persistent=False)

    def forward(self, w_BLD: Tensor) -> Tensor:
        """Codes of all layers (B, L, D) to styles of these (L, B, 2C)."""
        w_LBD = w_BLD.index_select(1, self.indices_L).transpose(0, 1)
        if is_serving(w_BLD, self.weight_LDS):
            rows = [torch.baddbmm(self.bias_L1S, w_L1D, self.weight_LDS) for w_L1D in w_LBD.split(1, dim=1)]
            return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)
        return torch.baddbmm(self.bias_L1S, w_LBD, self.weight_LDS)


class SynthesisNetwork(Synthesis):
    """W+ to picture. Only the last resolution's to-RGB layer exists: the others serve progressive growing alone."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.layers = nn.ModuleList(StyleLayer(config, i) for i in range(config.num_layers))
        self.to_rgb = nn.Conv2d(config.channels[-1], 3, 1)
        nn.init.normal_(self.to_rgb.weight, std=1 / math.sqrt(config.channels[-1]))
        nn.init.zeros_(self.to_rgb.bias)  # type: ignore[arg-type]
        self.final_tanh = config.final_tanh

    def fold(self) -> None:
        """Compute once what a frozen network need not compute again; later changes of the weights go unseen.

        The style transforms of layers of one width become one batched product: four for IDInvert's 14 layers.
        """
        widths: dict[int, list[int]] = {}
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, StyleLayer)
            layer.fold()
            widths.setdefault(len(layer.style.bias), []).append(index)
        self.folded_styles = nn.ModuleList(FoldedStyles(self, indices) for indices in widths.values())

    def forward(self, w_BLD: Tensor, *, random_noise: bool = False) -> Tensor:
        """Render W+ codes (B, L, D) to RGB pictures (B, 3, H, W), nominally in [-1, 1].

        `random_noise` draws the noise anew for each image, for training; else the pack's own noise is used.
        """
        return self.rgb(self.features(w_BLD, random_noise=random_noise))

    def features(
        self, w_BLD: Tensor, *, x_BCHW: Tensor | None = None, start: int = 0, stop: int | None = None,
        random_noise: bool = False,
    ) -> Tensor:  # fmt: skip
        """The style layers from `start` up to `stop`; by default all, what `rgb` makes a picture of.

        `x_BCHW` is the output of the layer before `start`; `start` may be the number of layers.
        """
        x = x_BCHW
        styles = self.styles(w_BLD) if len(self.folded_styles) else [None] * len(self.layers)
        layers = list(zip(self.layers, w_BLD.unbind(1), styles, strict=True))
        for layer, w_BD, style_BS in layers[start:stop]:
            x = layer(x, w_BD, random_noise=random_noise, style_BS=style_BS)
        assert x is not None
        return x

    def styles(self, w_BLD: Tensor) -> list[Tensor | None]:
        """Each layer's style (B, 2C), of a folded network."""
        styles: list[Tensor | None] = [None] * len(self.layers)
        for folded in self.folded_styles:
            assert isinstance(folded, FoldedStyles)
            for index, style_BS in zip(folded.indices, folded(w_BLD).unbind(), strict=True):
                styles[index] = style_BS
        return styles

    def style_weights(self) -> list[Tensor]:
        """See `Synthesis.style_weights`."""
        return [layer.style.scaled_weight() for layer in self.layers if isinstance(layer, StyleLayer)]

    def rgb(self, x_BCHW: Tensor) -> Tensor:
        """Features (B, C, H, W) to pictures (B, 3, H, W)."""
        weight, bias = self.to_rgb.weight, self.to_rgb.bias
        assert bias is not None
        image_BCHW = conv1x1(x_BCHW, weight, bias)
        return image_BCHW.tanh() if self.final_tanh else image_BCHW


class StyleGANGenerator(Generator):
    """Mapping, truncation and synthesis together."""

    synthesis: SynthesisNetwork

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config: GeneratorConfig = config
        self.mapping = MappingNetwork(config)
        self.truncation = Truncation(config, psi=config.truncation_psi, layers=config.truncation_layers)
        self.synthesis = SynthesisNetwork(config)

    def map(self, z_BZ: Tensor, *, psi: float | None = None, cutoff: int | None = None) -> Tensor:
        w_BLD: Tensor = self.truncation(self.mapping(z_BZ), psi, cutoff)
        return w_BLD

    @property
    def w_avg_D(self) -> Tensor:
        return self.truncation.w_avg_D

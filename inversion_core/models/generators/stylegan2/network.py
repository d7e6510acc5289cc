"""StyleGAN2's generator (Karras 2020): mapping, truncation, and a synthesis whose picture grows by skips.

Style layer 0 convolves the constant of 4 px. Each odd layer first adds the features so far to the picture (to-RGB),
then up-samples both; each even layer convolves again; the last one is a to-RGB alone. So a picture of 2^n px has
2(n - 1) style layers, 18 at 1024 px, and each to-RGB shares its w with the up-convolution that follows.

Modulation scales the input and demodulation the output of a convolution whose weight is shared by all images: the same
mathematics as a weight for each image, without making one. A to-RGB has a weight for each image, which is small.

Suffixes: B image, Z latent z, L style layer, D latent w, C channel, H W height and width, I O input, output channel.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.models.convolution import conv3x3, convolve, upsample
from inversion_core.models.generators.base import Generator, Synthesis
from inversion_core.models.generators.stylegan2.config import StyleGAN2Config
from inversion_core.models.generators.truncation import Truncation
from inversion_core.models.layers import EPSILON, EqualizedLinear, leaky_relu, leaky_relu_, pixel_norm
from inversion_core.models.serving import by_image, is_serving, linear

GAIN = math.sqrt(2.0)
"""After each leaky ReLU."""
RGB = 3


def fir(channels: int) -> Tensor:
    """(1, 3, 3, 1) in both directions, for each channel, times 4: what was up-sampled has a quarter of its pixels."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    return torch.outer(taps, taps).repeat(channels, 1, 1, 1)


class MappingNetwork(nn.Module):
    """z, and the chosen class where there are classes, to w."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.num_layers, self.label = config.num_layers, config.label
        inner = [config.mapping_dim] * (config.mapping_layers - 1)
        widths = [config.z_dim + config.embed_dim, *inner, config.w_dim]
        self.embed = EqualizedLinear(config.labels, config.embed_dim) if config.labels else None
        self.layers = nn.ModuleList(EqualizedLinear(i, o, rate_multiplier=0.01) for i, o in itertools.pairwise(widths))

    def forward(self, z_BZ: Tensor) -> Tensor:
        """Map z (B, Z) to W+ codes (B, L, D) before truncation."""
        x = pixel_norm(z_BZ)
        if self.embed is not None:
            one_hot_BK = F.one_hot(torch.full((len(x),), self.label, device=x.device), self.embed.weight.shape[1])
            x = torch.cat([x, pixel_norm(self.embed(one_hot_BK.to(x)))], dim=1)
        for layer in self.layers:
            x = leaky_relu(layer(x)) * GAIN
        return x.unsqueeze(1).expand(-1, self.num_layers, -1)


class FoldedStyle(nn.Module):
    """What a frozen layer makes of w: how its input is scaled and, if it demodulates, its output."""

    weight_ID: Tensor
    bias_I: Tensor
    squares_OI: Tensor | None

    def __init__(self, style: EqualizedLinear, scale: float, squares_OI: Tensor | None):
        super().__init__()
        self.register_buffer("weight_ID", (style.scaled_weight() * scale).detach(), persistent=False)
        self.register_buffer("bias_I", (style.scaled_bias() * scale).detach(), persistent=False)
        self.register_buffer("squares_OI", None if squares_OI is None else squares_OI.detach(), persistent=False)

    def forward(self, w_BD: Tensor) -> tuple[Tensor, Tensor | None]:
        return modulation(linear(w_BD, self.weight_ID, self.bias_I), self.squares_OI)


def modulation(style_BI: Tensor, squares_OI: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Scales of input and, where the squares of the weight are given, output (Karras 2020 eq. 1 and 3)."""
    if squares_OI is None:
        return style_BI, None
    return style_BI, torch.rsqrt(linear(style_BI.square(), squares_OI, None) + EPSILON)


class ModulatedConvolution(nn.Module):
    """One convolution of the synthesis: modulation, (up-sampling) convolution, noise, bias, leaky ReLU."""

    noise_HW: Tensor
    fir_C1HW: Tensor | None
    folded_shift_CHW: Tensor | None
    folded_kernel: Tensor | None

    def __init__(self, config: StyleGAN2Config, index: int):
        super().__init__()
        self.upsamples = index % 2 == 1
        px = config.layer_px[index]
        block = px.bit_length() - 3
        out_channels = config.channels[block]
        in_channels = config.channels[block - 1] if self.upsamples else out_channels
        self.clamp = config.conv_clamp
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_HW", torch.randn(px, px))
        self.style = style_transform(config, in_channels)
        self.register_buffer("fir_C1HW", fir(out_channels) if self.upsamples else None, persistent=False)
        self.register_buffer("folded_shift_CHW", None, persistent=False)
        self.register_buffer("folded_kernel", None, persistent=False)

    def fold(self) -> FoldedStyle:
        """Compute kernel, bias and noise once, for a frozen network; later changes of the weights go unseen."""
        self.folded_shift_CHW, self.folded_kernel = self._shift(self.noise_HW).detach(), self._kernel().detach()
        return FoldedStyle(self.style, 1.0, self._squares())

    def forward(
        self, x_BCHW: Tensor, w_BD: Tensor, folded: FoldedStyle | None, *, random_noise: bool = False
    ) -> Tensor:
        in_BI, out_BO = modulation(self.style(w_BD), self._squares()) if folded is None else folded(w_BD)
        assert out_BO is not None
        x = self._convolve(x_BCHW * in_BI.to(x_BCHW.dtype)[..., None, None])
        if random_noise:
            shift = self._shift(torch.randn_like(x[:, :1]))
        else:
            shift = self._shift(self.noise_HW) if self.folded_shift_CHW is None else self.folded_shift_CHW
        x = torch.addcmul(shift.to(x.dtype), x, (out_BO * GAIN).to(x.dtype)[..., None, None])
        x = leaky_relu_(x)
        return x.clamp(-self.clamp, self.clamp) if self.clamp else x

    def _shift(self, noise: Tensor) -> Tensor:
        """Bias and noise together, times the gain, which the leaky ReLU lets through."""
        return (self.bias[:, None, None] + noise * self.noise_strength) * GAIN

    def _squares(self) -> Tensor:
        """Sum of squares of each kernel (O, I): what demodulation divides by."""
        return self.weight.square().sum(dim=(2, 3))

    def _kernel(self) -> Tensor:
        return self.weight.transpose(0, 1).contiguous() if self.upsamples else self.weight

    def _convolve(self, x_BCHW: Tensor) -> Tensor:
        kernel = self._kernel() if self.folded_kernel is None else self.folded_kernel
        if not self.upsamples:
            return conv3x3(x_BCHW, kernel)
        assert self.fir_C1HW is not None
        x = upsample(x_BCHW, kernel, padding=0)
        return convolve(x, self.fir_C1HW, padding=1, groups=x.shape[1])


class ToRGB(nn.Module):
    """Features to picture: modulated, not demodulated."""

    def __init__(self, config: StyleGAN2Config, index: int):
        super().__init__()
        channels = config.channels[config.layer_px[index - 1].bit_length() - 3]
        self.clamp = config.conv_clamp
        self.scale = 1 / math.sqrt(channels)
        self.weight = nn.Parameter(torch.randn(RGB, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(RGB))
        self.style = style_transform(config, channels)

    def fold(self) -> FoldedStyle:
        return FoldedStyle(self.style, self.scale, None)

    def forward(self, x_BCHW: Tensor, w_BD: Tensor, folded: FoldedStyle | None) -> Tensor:
        in_BI = self.style(w_BD) * self.scale if folded is None else folded(w_BD)[0]
        weight_BOI = (self.weight.flatten(1) * in_BI[:, None]).to(x_BCHW.dtype)
        y: Tensor = self._product(weight_BOI, x_BCHW.flatten(2)).view(len(x_BCHW), RGB, *x_BCHW.shape[2:])
        y = y + self.bias.to(y.dtype)[:, None, None]
        return y.clamp(-self.clamp, self.clamp) if self.clamp else y

    def _product(self, weight_BOI: Tensor, x_BIP: Tensor) -> Tensor:
        """A weight for each image here: three rows are less to scale than all features."""
        if is_serving(x_BIP, self.weight):
            return by_image(torch.bmm, weight_BOI, x_BIP)
        return torch.bmm(weight_BOI, x_BIP)


def style_transform(config: StyleGAN2Config, channels: int) -> EqualizedLinear:
    """w to the scales of a convolution's input: 1 at first."""
    style = EqualizedLinear(config.w_dim, channels)
    nn.init.ones_(style.bias)
    return style


class StyleGAN2Synthesis(Synthesis):
    """W+ to picture."""

    fir_C1HW: Tensor

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.config = config
        self.const = nn.Parameter(torch.randn(1, config.channels[0], 4, 4))
        self.convolutions = nn.ModuleList(ModulatedConvolution(config, i) for i in range(config.num_layers - 1))
        self.to_rgbs = nn.ModuleList(ToRGB(config, i) for i in range(1, config.num_layers, 2))
        self.register_buffer("fir_C1HW", fir(RGB), persistent=False)

    def fold(self) -> None:
        folded: list[FoldedStyle] = []
        for layer in (*self.convolutions, *self.to_rgbs):
            assert isinstance(layer, ModulatedConvolution | ToRGB)
            folded.append(layer.fold())
        self.folded_styles = nn.ModuleList(folded)

    def forward(self, w_BLD: Tensor, *, random_noise: bool = False) -> Tensor:
        _, image_BCHW = self._run(w_BLD, None, None, range(self.config.num_layers), random_noise)
        assert image_BCHW is not None
        return image_BCHW

    def features(
        self, w_BLD: Tensor, *, x_BCHW: Tensor | None = None, start: int = 0, stop: int | None = None,
        random_noise: bool = False,
    ) -> Tensor:  # fmt: skip
        """As `Synthesis.features`. Behind the channels lie the three of the picture so far, alone after all layers."""
        layers = range(self.config.num_layers)[start:stop]
        x, image = x_BCHW, None
        if x_BCHW is not None:
            is_done = start == self.config.num_layers
            x, image = (None, x_BCHW) if is_done else (x_BCHW[:, :-RGB], x_BCHW[:, -RGB:])
        x, image = self._run(w_BLD, x, image, layers, random_noise)
        if x is None:
            assert image is not None
            return image
        if image is None:
            image = x.new_zeros(len(x), RGB, *x.shape[2:])
        return torch.cat([x, image], dim=1)

    def style_weights(self) -> list[Tensor]:
        """See `Synthesis.style_weights`; those of convolutions, of the last layer those of its to-RGB."""
        layers = [*self.convolutions, self.to_rgbs[-1]]
        return [layer.style.scaled_weight() for layer in layers if isinstance(layer, ModulatedConvolution | ToRGB)]

    def with_detail(self, x_BCHW: Tensor, detail_BCHW: Tensor) -> Tensor:
        channels = detail_BCHW.shape[1]
        if channels == x_BCHW.shape[1]:
            return x_BCHW + detail_BCHW
        return torch.cat([x_BCHW[:, :channels] + detail_BCHW, x_BCHW[:, channels:]], dim=1)

    def rgb(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW

    def _run(
        self, w_BLD: Tensor, x: Tensor | None, image: Tensor | None, layers: range, random_noise: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """The style layers one after another: features, None after the last, and the picture in their size."""
        rows = w_BLD.unbind(1)
        for index in layers:
            w_BD = rows[index]
            if index % 2:
                assert x is not None
                skip = self._to_rgb(index, x, w_BD)
                image = skip if image is None else image + skip
                if index == self.config.num_layers - 1:
                    return None, image
                image = upsample(image, self.fir_C1HW.to(image.dtype), groups=RGB)
            elif x is None:
                x = self.const.expand(len(w_BD), -1, -1, -1)
            layer = self.convolutions[index]
            assert x is not None
            assert isinstance(layer, ModulatedConvolution)
            x = layer(x, w_BD, self._folded(index), random_noise=random_noise)
        return x, image

    def _to_rgb(self, index: int, x_BCHW: Tensor, w_BD: Tensor) -> Tensor:
        image: Tensor = self.to_rgbs[index // 2](x_BCHW, w_BD, self._folded(len(self.convolutions) + index // 2))
        return image

    def _folded(self, place: int) -> FoldedStyle | None:
        if not len(self.folded_styles):
            return None
        folded = self.folded_styles[place]
        assert isinstance(folded, FoldedStyle)
        return folded


class StyleGAN2Generator(Generator):
    """Mapping, truncation and synthesis together."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.config: StyleGAN2Config = config
        self.mapping = MappingNetwork(config)
        self.truncation = Truncation(config, psi=config.truncation_psi, layers=config.truncation_layers)
        self.synthesis = StyleGAN2Synthesis(config)

    def map(self, z_BZ: Tensor, *, psi: float | None = None, cutoff: int | None = None) -> Tensor:
        w_BLD: Tensor = self.truncation(self.mapping(z_BZ), psi, cutoff)
        return w_BLD

    @property
    def w_avg_D(self) -> Tensor:
        return self.truncation.w_avg_D

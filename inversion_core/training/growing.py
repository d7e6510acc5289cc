"""Growing: networks of twice the resolution go on from trained ones, their new layers fading in (Karras 2017).

While alpha goes from 0 to 1, the picture is (1 - alpha) up(low picture) + alpha (high picture), and encoder and
discriminator mix likewise what their old first layer makes of the halved picture with what the new layers make
of the whole one. The old outer layers (to-RGB of G, stem of E, from-RGB of D) stay frozen in a `Fade` beside the
networks, so the networks have their plain form all along, and at the end nothing is left but them.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.errors import OptionInvalid
from inversion_core.models import DiscriminatorConfig, Encoder, EncoderConfig, GeneratorConfig
from inversion_core.models.discriminator import DiscriminatorTrunk
from inversion_core.models.encoder import ConvUnit
from inversion_core.models.generators.stylegan1.network import SynthesisNetwork
from inversion_core.models.layers import EqualizedConv2d, leaky_relu
from inversion_core.training.options import architecture
from inversion_core.training.projected import PROJECTION
from inversion_core.training.run import CHECKPOINT, read_checkpoint, tensors_below

NEW_LAYERS = 2
"""Style layers of one more resolution."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architectures:
    """The three networks of a generator run."""

    generator: GeneratorConfig
    encoder: EncoderConfig
    discriminator: DiscriminatorConfig


def grown(run: Path) -> Architectures:
    """Those for twice the resolution of a generator run; the new layers have half the channels of the last.

    Raises:
        OptionInvalid: there is no such run, or it cannot grow.
    """
    _, config = _read(run)
    g = architecture(GeneratorConfig, config["generator"])
    e = architecture(EncoderConfig, config["encoder"])
    d = architecture(DiscriminatorConfig, config["discriminator"])
    if g.w_per_layer or e.channels_base % 2:
        raise OptionInvalid(f"{run} cannot grow: it has a w for each layer, or an odd number of encoder channels")
    size = 2 * g.resolution
    return Architectures(
        generator=dataclasses.replace(
            g, resolution=size, channels=(*g.channels, max(4, g.channels[-1] // 2)),
            truncation_layers=g.truncation_layers + NEW_LAYERS,
        ),
        encoder=dataclasses.replace(e, resolution=size, channels_base=e.channels_base // 2),
        discriminator=dataclasses.replace(d, resolution=size, channels=(*d.channels, max(4, d.channels[-1] // 2))),
    )  # fmt: skip


class Fade(nn.Module):
    """The old outer layers of grown networks, live and averaged, and how far the new ones have come in."""

    alpha_on_device: Tensor
    """The same number where a recorded step reads it."""

    def __init__(self, architectures: Architectures):
        super().__init__()
        e = architectures.encoder
        for name in ("to_rgb", "to_rgb_ema"):
            self.add_module(name, nn.Conv2d(architectures.generator.channels[-2], 3, 1))
        for name in ("stem", "stem_ema"):
            width = min(2 * e.channels_base, e.channels_max)
            self.add_module(name, ConvUnit(3, width, 3, bias=not e.batch_norm, batch_norm=e.batch_norm))
        self.from_rgb = EqualizedConv2d(3, architectures.discriminator.channels[-2], 1)
        self.register_buffer("alpha_on_device", torch.zeros(()), persistent=False)
        self.alpha = 0.0
        self.requires_grad_(False)

    @property
    def alpha(self) -> float:
        """How far the new layers have come in, from 0 to 1."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._alpha = value
        self.alpha_on_device.fill_(value)

    def real(self, image_BCHW: Tensor) -> Tensor:
        """Real pictures at the detail that the generator has: without it D would know them by it."""
        return _mix(_double(F.avg_pool2d(image_BCHW, 2)), image_BCHW, self.alpha_on_device)

    def features(
        self, network: SynthesisNetwork, w_BLD: Tensor, *, random_noise: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Features at half and at full resolution."""
        x: Tensor | None = None
        layers = list(zip(network.layers, w_BLD.unbind(1), strict=True))
        for layer, w_BD in layers[:-NEW_LAYERS]:
            x = layer(x, w_BD, random_noise=random_noise)
        assert x is not None
        low_BCHW = x
        for layer, w_BD in layers[-NEW_LAYERS:]:
            x = layer(x, w_BD, random_noise=random_noise)
        return low_BCHW, x

    def picture(self, network: SynthesisNetwork, low_BCHW: Tensor, high_BCHW: Tensor, *, averaged: bool) -> Tensor:
        """What `network.rgb(high_BCHW)` will be, with as much of it as has come in."""
        old_BCHW = self.get_submodule("to_rgb_ema" if averaged else "to_rgb")(low_BCHW)
        if network.final_tanh:
            old_BCHW = old_BCHW.tanh()
        return _mix(_double(old_BCHW), network.rgb(high_BCHW), self.alpha_on_device)

    def encode(self, encoder: Encoder, image_BCHW: Tensor, *, averaged: bool) -> Tensor:
        """What `encoder(image_BCHW)` will be, likewise."""
        first, *others = encoder.blocks
        halved_BCHW = F.avg_pool2d(image_BCHW, 2)
        old_BCHW = self.get_submodule("stem_ema" if averaged else "stem")(halved_BCHW)
        x = _mix(old_BCHW, first(F.avg_pool2d(encoder.stem(image_BCHW), 2)), self.alpha_on_device)
        for block in others:
            x = block(F.avg_pool2d(x, 2))
        w_BLD: Tensor = encoder.head(x.flatten(1)).unflatten(1, (encoder.config.num_layers, -1))
        return w_BLD

    def trunk(self, trunk: DiscriminatorTrunk, image_BCHW: Tensor) -> Tensor:
        """What `trunk(image_BCHW)` will be, likewise."""
        first, *others = trunk.blocks
        old_BCHW = leaky_relu(self.from_rgb(F.avg_pool2d(image_BCHW, 2)))
        x = _mix(old_BCHW, first(leaky_relu(trunk.from_rgb(image_BCHW))), self.alpha_on_device)
        for block in others:
            x = block(x)
        return x


def grow(run: Path, modules: Mapping[str, nn.Module], fade: Fade) -> None:
    """Fill grown networks with the weights of the run that they grow from; their outermost layers stay new.

    Args:
        modules: "g", "g_ema", "e", "e_ema", "d" and, with a projected critic, "projection".
    Raises:
        OptionInvalid: there is no such run, it has another critic, or its networks are not what these grow from.
    """
    tensors, config = _read(run)
    old_layers, w_dim = 2 * len(config["generator"]["channels"]), config["generator"]["w_dim"]
    outer: dict[str, Tensor] = {}
    for suffix in ("", "_ema"):
        g, e = tensors_below(tensors, f"g{suffix}/"), tensors_below(tensors, f"e{suffix}/")
        outer |= {f"to_rgb{suffix}.{key}": value for key, value in tensors_below(g, "synthesis.to_rgb.").items()}
        outer |= {f"stem{suffix}.{key}": value for key, value in tensors_below(e, "stem.").items()}
        _fill(modules[f"g{suffix}"], _grown_generator(g), run)
        _fill(modules[f"e{suffix}"], _grown_encoder(e, old_layers, w_dim), run)
    d, projection = tensors_below(tensors, "d/"), tensors_below(tensors, f"{PROJECTION}/")
    if bool(projection) != (PROJECTION in modules):
        raise OptionInvalid(f"{run} has another kind of critic than the run that is to grow from it; give both one")
    if projection:  # heads on features do not know how large a picture is
        _fill(modules["d"], d, run)
        _fill(modules[PROJECTION], projection, run)
        outer |= {f"from_rgb.{key}": value for key, value in fade.from_rgb.state_dict().items()}
    else:
        outer |= {f"from_rgb.{key}": value for key, value in tensors_below(d, "trunk.from_rgb.").items()}
        _fill(modules["d"], _deeper(d, "trunk.blocks.", without="trunk.from_rgb."), run)
    fade.load_state_dict(outer)


def is_fading(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a generator run's checkpoint has a `Fade`: its last resolution has not wholly come in."""
    return any(key.startswith("fade/") for key in tensors)


def _read(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    if facts is None or "generator" not in facts["config"]:
        raise OptionInvalid(f"{run} holds no generator run; make one with: inversion train generator DATA --out {run}")
    if is_fading(tensors):
        raise OptionInvalid(f"{run} is growing itself; let its fade end first")
    return tensors, facts["config"]


def _fill(module: nn.Module, values: dict[str, Tensor], run: Path) -> None:
    try:
        unknown = module.load_state_dict(values, strict=False).unexpected_keys
    except RuntimeError as error:
        raise OptionInvalid(f"the networks do not grow from {run}: {error}") from error
    if unknown:
        raise OptionInvalid(f"the networks do not grow from {run}: they have no {', '.join(unknown)}")


def _grown_generator(old: dict[str, Tensor]) -> dict[str, Tensor]:
    outer = ("synthesis.to_rgb.", "truncation.psi_L")  # psi_L comes with the new configuration
    return {key: value for key, value in old.items() if not key.startswith(outer)}


def _grown_encoder(old: dict[str, Tensor], layers: int, w_dim: int) -> dict[str, Tensor]:
    """One block deeper; the codes of the new style layers begin as copies of the last one's."""
    new = _deeper(old, "blocks.", without="stem.")
    for key in [key for key in new if key.startswith("head.") and new[key].ndim]:
        rows_LD = new[key].unflatten(0, (layers, w_dim))
        new[key] = torch.cat([rows_LD, *[rows_LD[-1:]] * NEW_LAYERS]).flatten(0, 1)
    return new


def _deeper(old: dict[str, Tensor], blocks: str, *, without: str) -> dict[str, Tensor]:
    """The same with every block one place further in."""
    new = {}
    for key, value in old.items():
        if key.startswith(blocks):
            index, _, rest = key.removeprefix(blocks).partition(".")
            key = f"{blocks}{int(index) + 1}.{rest}"
        if not key.startswith(without):
            new[key] = value
    return new


def _double(image_BCHW: Tensor) -> Tensor:
    return F.interpolate(image_BCHW, scale_factor=2, mode="nearest")


def _mix(old: Tensor, new: Tensor, alpha: Tensor) -> Tensor:
    return (1 - alpha) * old + alpha * new

"""The generator of the published IDInvert files (Zhu 2020, PyTorch release).

The architecture is read off the shapes. What differs from ours, and is settled here:

- the to-RGB layer is scaled by 1 / sqrt(channels) when used: folded into its weight. Those of lower resolutions
  serve progressive growing alone and are left out;
- up-sampling layers come as `conv.weight` (O, I, 3, 3), or fused as `weight` (3, 3, I, O).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TypedDict

import torch
from torch import Tensor

from inversion_core.models.generators.reading import Beside, Found
from inversion_core.models.generators.stylegan1.config import GeneratorConfig
from inversion_core.models.generators.stylegan1.network import StyleGANGenerator
from inversion_core.models.source import Source

MARK = r"(mapping\.dense\d+|synthesis\.layer\d+\.epilogue\.style_mod\.dense)\.(fc|wscale)\."
"""Pattern of keys that only this layout has."""
BLUR = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
"""Binomial filter (Karras 2019 section 2), the only one that the generator here knows."""
NEVER_FUSED = 2048
"""`fused_from` of a generator without a fused layer."""


def recognised(keys: Iterable[str]) -> str | None:
    """What keys of the published generator are, perhaps with some missing; None of others."""
    return "IDInvert's generator" if any(re.match(MARK, key) for key in keys) else None


def refused(_keys: Iterable[str]) -> str | None:
    """None: whatever is known of this architecture can be drawn with."""
    return None


def read_generator(source: Source, _beside: Beside) -> Found | None:
    """The generator of a state dict; None where it is none of IDInvert's. PackInvalid as `convert_generator`."""
    if (what := recognised(source.tensors)) is None:
        return None
    generator = convert_generator(source)
    ignored = tuple(key for key in source.tensors if key not in source.taken)
    return Found(generator=generator, what=what, ignored=ignored)


def convert_generator(source: Source) -> StyleGANGenerator:
    """The generator; PackInvalid where the state dict is not of the published layout."""
    config = generator_config(source)
    state: dict[str, Tensor] = _mapping(source, config) | _truncation(source, config)
    if source.take("synthesis.lod", ()) != 0:
        raise source.fault(
            "synthesis.lod", "is not 0: the generator was caught while it was growing, and only a grown one can be used"
        )
    for index in range(config.num_layers):
        state |= _style_layer(source, config, index)
    last = f"synthesis.output{len(config.channels) - 1}"
    rgb = source.take(f"{last}.conv.weight", (3, config.channels[-1], 1, 1))
    state["synthesis.to_rgb.weight"] = rgb / math.sqrt(config.channels[-1])
    state["synthesis.to_rgb.bias"] = source.take(f"{last}.bias", (3,))
    source.finish(rf"synthesis\.output[0-{len(config.channels) - 2}]\.(conv\.weight|bias)")
    generator = StyleGANGenerator(config)
    generator.load_state_dict(state)
    return generator


def generator_config(source: Source) -> GeneratorConfig:
    """Read the architecture off the shapes."""
    layers = source.count(r"synthesis\.layer(\d+)\.")
    blocks = (layers + 1) // 2
    if not layers:
        raise source.fault("synthesis.layer0.const", "is missing, and so are all other keys of the synthesis network")
    if not 2 <= blocks <= 9:
        raise source.fault(
            "synthesis.layer0.const",
            f"and the {layers} layers of its like make pictures of {4 * 2 ** (blocks - 1)} px; 8 to 1024 are known",
        )
    styles = [f"synthesis.layer{i}.epilogue.style_mod.dense.fc.weight" for i in range(layers)]
    w_dim = source.usual([("truncation.w_avg", 0), *((key, 1) for key in styles)], "truncation.w_avg")
    return GeneratorConfig(
        resolution=4 * 2 ** (blocks - 1),
        channels=tuple(_channels(source, block) for block in range(blocks)),
        w_dim=w_dim,
        final_tanh=True,
        fused_from=_fused_from(source, blocks),
        **_mapping_widths(source, w_dim),
    )


class _MappingWidths(TypedDict):
    z_dim: int
    mapping_dim: int
    mapping_layers: int
    w_per_layer: bool


def _mapping_widths(source: Source, w_dim: int) -> _MappingWidths:
    first, depth = "mapping.dense0.fc.weight", source.count(r"mapping\.dense(\d+)\.")
    dense, last = [f"mapping.dense{i}" for i in range(depth)], f"mapping.dense{max(depth - 1, 0)}"
    z_dim = source.usual([(first, 1)], first)
    inner = [(f"{key}.fc.weight", 0) for key in dense[:-1]] + [(f"{key}.wscale.bias", 0) for key in dense[:-1]]
    inner += [(f"{key}.fc.weight", 1) for key in dense[1:]]
    hidden = source.usual(inner, first) if inner else z_dim
    if z_dim not in (w_dim, hidden):  # nothing else in the file says how wide z is
        raise source.fault(
            first, f"takes a z of width {z_dim}; it must be as wide as w ({w_dim}) or the mapping ({hidden})"
        )
    out = source.usual([(f"{last}.fc.weight", 0), (f"{last}.wscale.bias", 0)], f"{last}.fc.weight")
    return {"z_dim": z_dim, "mapping_dim": hidden, "mapping_layers": depth, "w_per_layer": out != w_dim}


def _channels(source: Source, block: int) -> int:
    keys: list[tuple[str, int]] = []
    for layer in (f"synthesis.layer{2 * block}", f"synthesis.layer{2 * block + 1}"):
        keys += [
            (f"{layer}.epilogue.bias", 0),
            (f"{layer}.epilogue.apply_noise.weight", 0),
            (f"{layer}.conv.weight", 0),
        ]
    return source.usual(keys, f"synthesis.layer{2 * block}.epilogue.bias")


def _fused_from(source: Source, blocks: int) -> int:
    """The smallest resolution with a fused up-sampling layer; all larger ones must have one too."""
    fused = [f"synthesis.layer{2 * block}.weight" in source.tensors for block in range(1, blocks)]
    if True not in fused:
        return NEVER_FUSED
    first = fused.index(True) + 1
    if not all(fused[first - 1 :]):
        block = first + fused[first - 1 :].index(False)
        raise source.fault(
            f"synthesis.layer{2 * block}.weight",
            "is missing: a fused up-sampling layer comes before it, and then all that follow are fused",
        )
    return int(4 * 2**first)


def _mapping(source: Source, config: GeneratorConfig) -> dict[str, Tensor]:
    depth, state = config.mapping_layers, {}
    out_dim = config.w_dim * (config.num_layers if config.w_per_layer else 1)
    widths = [config.z_dim] + [config.mapping_dim] * (depth - 1) + [out_dim]
    for i in range(depth):
        state[f"mapping.layers.{i}.weight"] = source.take(f"mapping.dense{i}.fc.weight", (widths[i + 1], widths[i]))
        state[f"mapping.layers.{i}.bias"] = source.take(f"mapping.dense{i}.wscale.bias", (widths[i + 1],))
    return state


def _truncation(source: Source, config: GeneratorConfig) -> dict[str, Tensor]:
    key, layers = "truncation.truncation", config.num_layers
    psi_L = torch.ones(layers)
    psi_L[: config.truncation_layers] = config.truncation_psi
    if key in source.tensors:  # the public code makes it anew when it is not in the file
        psi_L = source.take(key, (1, layers, 1)).flatten()
    return {"truncation.w_avg_D": source.take("truncation.w_avg", (config.w_dim,)), "truncation.psi_L": psi_L}


def _style_layer(source: Source, config: GeneratorConfig, index: int) -> dict[str, Tensor]:
    theirs, ours = f"synthesis.layer{index}", f"synthesis.layers.{index}"
    block, upsamples = index // 2, index % 2 == 0 and index > 0
    out_channels, size = config.channels[block], 4 * 2**block
    in_channels = config.channels[block - 1] if upsamples else out_channels
    state: dict[str, Tensor] = {}
    if index == 0:
        state[f"{ours}.const"] = source.take(f"{theirs}.const", (1, out_channels, 4, 4))
    elif upsamples and size >= config.fused_from:
        state[f"{ours}.weight"] = source.take(f"{theirs}.weight", (3, 3, in_channels, out_channels)).permute(3, 2, 0, 1)
    else:
        state[f"{ours}.weight"] = source.take(f"{theirs}.conv.weight", (out_channels, in_channels, 3, 3))
    if upsamples:
        _check_blur(source, f"{theirs}.blur.kernel", out_channels)
    epilogue = f"{theirs}.epilogue"
    state[f"{ours}.bias"] = source.take(f"{epilogue}.bias", (out_channels,))
    state[f"{ours}.noise_strength"] = source.take(f"{epilogue}.apply_noise.weight", (out_channels,))
    state[f"{ours}.noise_HW"] = source.take(f"{epilogue}.apply_noise.noise", (1, 1, size, size))[0, 0]
    state[f"{ours}.style.weight"] = source.take(
        f"{epilogue}.style_mod.dense.fc.weight", (2 * out_channels, config.w_dim)
    )
    state[f"{ours}.style.bias"] = source.take(f"{epilogue}.style_mod.dense.wscale.bias", (2 * out_channels,))
    return state


def _check_blur(source: Source, key: str, channels: int) -> None:
    if not torch.allclose(source.take(key, (channels, 1, 3, 3)), BLUR, atol=1e-6):
        raise source.fault(key, "is not the binomial filter (1, 2, 1)")

"""State dicts in the layout of the published IDInvert files, and what they mean, written out plainly.

`layout` lists keys and shapes for any architecture, `recipe` draws weights, and the functions at the end run the
networks straight from such a state dict, one operation after another, sharing no code with the package.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DATA = Path(__file__).parent / "data"
Layout = dict[str, tuple[int, ...]]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    channels: tuple[int, ...]
    w_dim: int = 6
    mapping_dim: int = 6
    mapping_layers: int = 3
    w_per_layer: bool = True
    fused_from: int = 128
    encoder_base: int = 3
    encoder_max: int = 5
    batch_norm: bool = True

    @property
    def resolution(self) -> int:
        return 2 ** (len(self.channels) + 1)

    @property
    def num_layers(self) -> int:
        return 2 * len(self.channels)


def layout_256() -> dict[str, Layout]:
    """The published files themselves."""
    keys = json.loads((DATA / "idinvert_ffhq256_keys.json").read_text())
    return {model: {key: tuple(shape) for key, shape in shapes.items()} for model, shapes in keys.items()}


def layout(arch: Architecture) -> dict[str, Layout]:
    """Keys and shapes of the published layout for another architecture; VGG-16 stays what it is."""
    return {"generator": _generator_layout(arch), "encoder": _encoder_layout(arch), "vgg16": layout_256()["vgg16"]}


def _generator_layout(arch: Architecture) -> Layout:
    shapes: Layout = {}
    wide = arch.w_dim * (arch.num_layers if arch.w_per_layer else 1)
    widths = [arch.w_dim] + [arch.mapping_dim] * (arch.mapping_layers - 1) + [wide]
    for i in range(arch.mapping_layers):
        shapes[f"mapping.dense{i}.fc.weight"] = (widths[i + 1], widths[i])
        shapes[f"mapping.dense{i}.wscale.bias"] = (widths[i + 1],)
    shapes["truncation.w_avg"] = (arch.w_dim,)
    shapes["truncation.truncation"] = (1, arch.num_layers, 1)
    shapes["synthesis.lod"] = ()
    for index in range(arch.num_layers):
        block = index // 2
        layer, c, size = f"synthesis.layer{index}", arch.channels[block], 4 * 2**block
        up = index % 2 == 0 and index > 0
        c_in = arch.channels[block - 1] if up else c
        if index == 0:
            shapes[f"{layer}.const"] = (1, c, 4, 4)
        elif up and size >= arch.fused_from:
            shapes[f"{layer}.weight"] = (3, 3, c_in, c)
        else:
            shapes[f"{layer}.conv.weight"] = (c, c_in, 3, 3)
        if up:
            shapes[f"{layer}.blur.kernel"] = (c, 1, 3, 3)
        shapes[f"{layer}.epilogue.bias"] = shapes[f"{layer}.epilogue.apply_noise.weight"] = (c,)
        shapes[f"{layer}.epilogue.apply_noise.noise"] = (1, 1, size, size)
        shapes[f"{layer}.epilogue.style_mod.dense.fc.weight"] = (2 * c, arch.w_dim)
        shapes[f"{layer}.epilogue.style_mod.dense.wscale.bias"] = (2 * c,)
        if index % 2:
            shapes[f"synthesis.output{block}.bias"] = (3,)
            shapes[f"synthesis.output{block}.conv.weight"] = (3, c, 1, 1)
    return shapes


def _encoder_layout(arch: Architecture) -> Layout:
    shapes: Layout = {}

    def norm(name: str, channels: int) -> None:
        if arch.batch_norm:
            shapes.update({f"{name}.bn.{k}": (channels,) for k in ("weight", "bias", "running_mean", "running_var")})
            shapes[f"{name}.bn.num_batches_tracked"] = ()

    widths = encoder_widths(arch)
    shapes["block0.conv.weight"] = (widths[0], 3, 3, 3)
    norm("block0.bn", widths[0])
    for i in range(1, len(widths)):
        narrow, wide, hidden = widths[i - 1], widths[i], min(widths[i - 1 : i + 1])
        if narrow != wide:
            shapes[f"block{i}.conv.weight"] = (wide, narrow, 1, 1)
            norm(f"block{i}.bn", wide)
        shapes[f"block{i}.conv1.weight"], shapes[f"block{i}.wscale1.bias"] = (hidden, narrow, 3, 3), (hidden,)
        norm(f"block{i}.bn1", hidden)
        shapes[f"block{i}.conv2.weight"], shapes[f"block{i}.wscale2.bias"] = (wide, hidden, 3, 3), (wide,)
        norm(f"block{i}.bn2", wide)
    code = arch.num_layers * arch.w_dim
    shapes[f"block{len(widths)}.fc.weight"] = (code, widths[-1] * 16)
    norm(f"block{len(widths)}.bn", code)
    return shapes


def encoder_widths(arch: Architecture) -> list[int]:
    return [min(arch.encoder_base * 2**i, arch.encoder_max) for i in range(len(arch.channels))]


# -- weights -------------------------------------------------------------------------------------------------


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers that depend on the name alone."""
    seed = zlib.crc32(f"idinvert-a/{name}".encode())
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@cache
def vgg_state() -> dict[str, Tensor]:
    """VGG-16 of recipe weights: the same for every architecture, so drawn once."""
    return recipe("vgg16", layout_256()["vgg16"])


def recipe(model: str, shapes: Layout) -> dict[str, Tensor]:
    """Weights for one state dict, as the parity measurements were made with."""
    return {key: torch.from_numpy(np.asarray(_recipe(model, key, shape))) for key, shape in shapes.items()}


def _recipe(model: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if shape == ():
        return np.zeros((), np.int64 if key.endswith("num_batches_tracked") else np.float32)
    if key.endswith("blur.kernel"):
        taps = np.array([1, 2, 1], np.float32) / 4
        return np.tile(np.outer(taps, taps), (shape[0], 1, 1, 1))
    if key.endswith("truncation.truncation"):
        return np.where(np.arange(shape[1]) < 8, 0.7, 1.0).astype(np.float32).reshape(shape)
    a = draw(f"{model}/{key}", shape)
    if key.endswith("running_var"):
        return np.abs(a) + np.float32(0.5)
    if key.endswith("running_mean"):
        return np.float32(0.1) * a
    if key.endswith("bn.weight"):
        return 1 + np.float32(0.1) * a
    if key.endswith(("bias", "apply_noise.weight", "w_avg")):
        return np.float32(0.1) * a
    if model != "generator" and len(shape) in (2, 4) and not (model == "encoder" and ".fc." in key):
        return (a * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
    return a


def write_files(folder: Path, layouts: Mapping[str, Layout], *, zipped: bool = True) -> dict[str, Path]:
    """G.pth, E.pth and V.pth of recipe weights; returns model -> file."""
    files = {model: folder / f"{model}.pth" for model in layouts}
    for model, file in files.items():
        state = vgg_state() if model == "vgg16" else recipe(model, layouts[model])
        torch.save(state, file, _use_new_zipfile_serialization=zipped)
    return files


# -- what the weights mean -----------------------------------------------------------------------------------


def naive_map(g: State, arch: Architecture, z_BZ: Tensor) -> Tensor:
    x = z_BZ / (z_BZ.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(arch.mapping_layers):
        weight, bias = g[f"mapping.dense{i}.fc.weight"], g[f"mapping.dense{i}.wscale.bias"]
        x = F.leaky_relu(x @ weight.T * (math.sqrt(2 / weight.shape[1]) * 0.01) + bias * 0.01, 0.2)
    w_BLD = x.view(len(x), -1, arch.w_dim).expand(-1, arch.num_layers, -1)
    return g["truncation.w_avg"] + (w_BLD - g["truncation.w_avg"]) * g["truncation.truncation"]


def naive_synthesize(g: State, arch: Architecture, w_BLD: Tensor) -> Tensor:
    x = torch.empty(0)
    for index in range(arch.num_layers):
        layer = f"synthesis.layer{index}"
        x = g[f"{layer}.const"].expand(len(w_BLD), -1, -1, -1) if index == 0 else _naive_conv(g, layer, index, x)
        epilogue = f"{layer}.epilogue"
        x = x + g[f"{epilogue}.apply_noise.noise"] * g[f"{epilogue}.apply_noise.weight"].view(1, -1, 1, 1)
        x = F.leaky_relu(x + g[f"{epilogue}.bias"].view(1, -1, 1, 1), 0.2)
        x = naive_adain(x, _naive_style(g, f"{epilogue}.style_mod.dense", w_BLD[:, index]))
    last = f"synthesis.output{len(arch.channels) - 1}"
    image = F.conv2d(x, g[f"{last}.conv.weight"]) / math.sqrt(x.shape[1]) + g[f"{last}.bias"].view(1, -1, 1, 1)
    return image.tanh()


def _naive_style(g: State, dense: str, w_BD: Tensor) -> Tensor:
    return w_BD @ g[f"{dense}.fc.weight"].T / math.sqrt(w_BD.shape[1]) + g[f"{dense}.wscale.bias"]


def _naive_conv(g: State, layer: str, index: int, x: Tensor) -> Tensor:
    if f"{layer}.weight" in g:  # fused: a transposed convolution turns its kernel round
        weight = g[f"{layer}.weight"].permute(3, 2, 0, 1).flip(2, 3)
    else:
        weight = g[f"{layer}.conv.weight"]
    if index % 2 == 0:
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    x = F.conv2d(x, weight, padding=1) * math.sqrt(2 / weight[0].numel())
    return F.conv2d(x, g[f"{layer}.blur.kernel"], padding=1, groups=x.shape[1]) if index % 2 == 0 else x


def naive_adain(x_BCHW: Tensor, style_BS: Tensor) -> Tensor:
    """AdaIN as Karras 2019 eq. 1 defines it, with the style's scale counted from 1."""
    mean = x_BCHW.mean((2, 3), keepdim=True)
    deviation = ((x_BCHW - mean).square().mean((2, 3), keepdim=True) + 1e-8).sqrt()
    scale, shift = style_BS[:, :, None, None].chunk(2, dim=1)
    return (x_BCHW - mean) / deviation * (1 + scale) + shift


def naive_encode(e: State, arch: Architecture, image_BCHW: Tensor) -> Tensor:
    def norm(x: Tensor, name: str) -> Tensor:
        if not arch.batch_norm:
            return x
        mean, var, weight, bias = (e[f"{name}.bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt() * weight.view(shape) + bias.view(shape)

    def unit(x: Tensor, conv: str, bias: str | None, bn: str) -> Tensor:
        weight = e[f"{conv}.weight"]
        y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        return F.leaky_relu(norm(y if bias is None else y + e[bias].view(1, -1, 1, 1), bn), 0.2)

    widths = encoder_widths(arch)
    x = unit(image_BCHW, "block0.conv", None, "block0.bn")
    for i in range(1, len(widths)):
        block, x = f"block{i}", F.avg_pool2d(x, 2)
        skip = unit(x, f"{block}.conv", None, f"{block}.bn") if widths[i] != widths[i - 1] else x
        y = unit(x, f"{block}.conv1", f"{block}.wscale1.bias", f"{block}.bn1")
        x = unit(y, f"{block}.conv2", f"{block}.wscale2.bias", f"{block}.bn2") + skip
    last = f"block{len(widths)}"
    y = x.flatten(1) @ e[f"{last}.fc.weight"].T / math.sqrt(x[0].numel())
    return norm(y, f"{last}.bn").view(len(y), arch.num_layers, arch.w_dim)


def naive_vgg(v: State, image_BCHW: Tensor) -> Tensor:
    x = (image_BCHW + 1) / 2 * 255
    x = x[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    for layer in range(23):
        if layer in (4, 9, 16):
            x = F.max_pool2d(x, 2)
        elif f"layer{layer}.weight" in v:
            x = F.conv2d(x, v[f"layer{layer}.weight"], v[f"layer{layer}.bias"], padding=1).relu()
    return x

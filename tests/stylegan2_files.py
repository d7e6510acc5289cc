"""StyleGAN2 generators in the layouts of the public programs, by the recipe of the golden values.

The key tables are written out here once more, in one place and without the package's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    width: int
    """Of z and w."""
    resolution: int
    base: int
    most: int
    mapping_layers: int

    @property
    def sizes(self) -> list[int]:
        return [2**k for k in range(2, int(math.log2(self.resolution)) + 1)]

    def channels(self, px: int) -> int:
        return min(self.base // px, self.most)


TINY = Recipe(32, 16, 256, 32, 2)
SMALL = Recipe(64, 64, 1024, 64, 8)
FIR = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


def shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Of NVIDIA's PyTorch layout, without filters."""
    width, found = recipe.width, {"mapping.w_avg": (recipe.width,)}
    for i in range(recipe.mapping_layers):
        found[f"mapping.fc{i}.weight"] = width, width
        found[f"mapping.fc{i}.bias"] = (width,)
    for px in recipe.sizes:
        out, block = recipe.channels(px), f"synthesis.b{px}"
        if px == 4:
            found[f"{block}.const"] = out, 4, 4
        layers = {"conv1": (out, out)} if px == 4 else {"conv0": (out, recipe.channels(px // 2)), "conv1": (out, out)}
        for name, (o, i) in {**layers, "torgb": (3, out)}.items():
            side = 1 if name == "torgb" else 3
            found[f"{block}.{name}.weight"] = o, i, side, side
            found[f"{block}.{name}.bias"] = (o,)
            found[f"{block}.{name}.affine.weight"] = i, width
            found[f"{block}.{name}.affine.bias"] = (i,)
            if name != "torgb":
                found[f"{block}.{name}.noise_const"] = px, px
                found[f"{block}.{name}.noise_strength"] = ()
    return found


def nvidia(recipe: Recipe, *, filters: bool = True) -> State:
    state: State = {}
    for number, (key, shape) in enumerate(sorted(shapes(recipe).items())):
        drawn = np.random.RandomState(number).standard_normal(shape)
        value = torch.as_tensor(np.asarray(drawn, dtype=np.float32))
        if key.endswith("noise_strength"):
            value = torch.tensor(0.3)
        elif key.endswith("affine.bias"):
            value = 1 + 0.1 * value
        elif key.endswith(".bias"):
            value = 0.1 * value
        elif key.startswith("mapping.") and key.endswith(".weight"):
            value = 100 * value
        state[key] = value
    if filters:
        for px in recipe.sizes[1:]:
            state |= {f"synthesis.b{px}.resample_filter": FIR, f"synthesis.b{px}.conv0.resample_filter": FIR}
    return state


def latents(recipe: Recipe) -> Tensor:
    return torch.from_numpy(np.random.RandomState(7).standard_normal((2, recipe.width)).astype(np.float32))


def rosinality(state: Mapping[str, Tensor], *, noises: bool = True, filters: bool = True) -> State:
    """`g_ema` of a state in NVIDIA's layout."""
    found: State = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "mapping":
            if parts[1].startswith("fc"):
                found[f"style.{int(parts[1][2:]) + 1}.{parts[2]}"] = value
            continue
        px, log2 = int(parts[1][1:]), int(math.log2(int(parts[1][1:])))
        if parts[2] == "const":
            found["input.input"] = value[None]
        elif parts[2] == "torgb":
            ours = "to_rgb1" if px == 4 else f"to_rgbs.{log2 - 3}"
            if parts[3] == "bias":
                found[f"{ours}.bias"] = value.view(1, 3, 1, 1)
            else:
                _styled(found, ours, parts[3:], value)
        elif parts[2].startswith("conv"):
            which = int(parts[2][4])
            ours = "conv1" if px == 4 else f"convs.{2 * (log2 - 3) + which}"
            match parts[3]:
                case "bias":
                    found[f"{ours}.activate.bias"] = value
                case "noise_strength":
                    found[f"{ours}.noise.weight"] = value.view(1)
                case "noise_const":
                    if noises:
                        found[f"noises.noise_{2 * log2 - 5 + which}"] = value[None, None]
                case "resample_filter":
                    if filters:
                        found[f"{ours}.conv.blur.kernel"] = 4 * value
                case _:
                    _styled(found, ours, parts[3:], value)
        elif filters:
            found[f"to_rgbs.{log2 - 3}.upsample.kernel"] = 4 * value
    return found


def _styled(found: State, ours: str, parts: list[str], value: Tensor) -> None:
    if parts[0] == "affine":
        found[f"{ours}.conv.modulation.{parts[1]}"] = value
    else:
        found[f"{ours}.conv.weight"] = value[None]


def mmgeneration(state: Mapping[str, Tensor]) -> State:
    """Of a generator; a checkpoint has it under generator_ema. in its state_dict."""
    found: State = {}
    for key, value in rosinality(state).items():
        key = re.sub(r"^style\.(\d+)\.weight$", r"style_mapping.\1.linear.weight_orig", key)
        key = re.sub(r"^style\.(\d+)\.bias$", r"style_mapping.\1.bias", key)
        key = key.replace("modulation.weight", "style_modulation.linear.weight_orig")
        key = key.replace("modulation.bias", "style_modulation.bias").replace("conv.weight", "conv.weight_orig")
        key = key.replace("noises.noise_", "injected_noise_").replace("noise.weight", "noise_injector.weight")
        key = key.replace("input.input", "constant_input.input").replace("style_style_", "style_")
        found[key] = value
    return found


def genforce(state: Mapping[str, Tensor]) -> State:
    found: State = {"truncation.w_avg": state["mapping.w_avg"]}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "mapping":
            if parts[1].startswith("fc"):
                found[f"mapping.dense{parts[1][2:]}.{parts[2]}"] = value
            continue
        log2 = int(math.log2(int(parts[1][1:])))
        if parts[2] == "const":
            found["synthesis.early_layer.const"] = value[None]
            continue
        if parts[-1] == "resample_filter":
            continue
        if parts[2] == "torgb":
            ours = f"synthesis.output{log2 - 2}"
        else:
            ours = f"synthesis.layer{2 * log2 - 5 + int(parts[2][4])}"
        if parts[3] == "affine":
            found[f"{ours}.style.{parts[4]}"] = value - 1 if parts[4] == "bias" else value
        elif parts[3] == "noise_const":
            found[f"{ours}.noise"] = value[None, None]
        elif parts[3] == "weight" and parts[2] == "conv0":
            found[f"{ours}.weight"] = value.flip(2, 3)
        else:
            found[f"{ours}.{parts[3]}"] = value
    return found


def tensorflow(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Variables of Gs, with those of its components under mapping/ and synthesis/."""
    found: State = {"lod": torch.tensor(0.0), "dlatent_avg": state["mapping.w_avg"]}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "mapping":
            if parts[1].startswith("fc"):
                found[f"mapping/Dense{parts[1][2:]}/{parts[2]}"] = value.t() if value.ndim == 2 else value
            continue
        px, log2 = int(parts[1][1:]), int(math.log2(int(parts[1][1:])))
        block = f"synthesis/{px}x{px}"
        if parts[2] == "const":
            found[f"{block}/Const/const"] = value[None]
            continue
        if parts[-1] == "resample_filter":
            continue
        name = {"torgb": "ToRGB", "conv0": "Conv0_up", "conv1": "Conv" if px == 4 else "Conv1"}[parts[2]]
        if parts[3] == "affine":
            found[f"{block}/{name}/mod_{parts[4]}"] = value.t() if parts[4] == "weight" else value - 1
        elif parts[3] == "noise_const":
            found[f"synthesis/noise{2 * log2 - 5 + int(parts[2][4])}"] = value[None, None]
        elif parts[3] == "weight":
            turned = value.flip(2, 3) if parts[2] == "conv0" else value
            found[f"{block}/{name}/weight"] = turned.permute(2, 3, 1, 0)
        else:
            found[f"{block}/{name}/{parts[3]}"] = value
    return {key: value.contiguous().numpy() for key, value in found.items()}

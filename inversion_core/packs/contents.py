"""What lies in a checkpoint: its state dicts, each with its place and what is known beside its tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from inversion_core.packs.checkpoint import (
    Array,
    Checkpoint,
    Module,
    TensorFlowNetwork,
    module_tensors,
    submodules,
)
from inversion_core.packs.unpickle import _Tensor

PREFERRED = ("G_ema", "g_ema", "Gs", "generator_smooth", "generator_ema")
"""Where averaged generators lie, which make the best pictures; then any other place but that of a decoder."""
MOST_DEPTH = 4
MOST_PARTS = 200
MEANS = ("latent_avg", "dlatent_avg", "w_avg")
NVIDIA_CLASSES = {
    "Generator", "MappingNetwork", "SynthesisNetwork", "SynthesisBlock", "SynthesisLayer", "ToRGBLayer",
    "FullyConnectedLayer", "Conv2dLayer",
}  # fmt: skip
MAPPING_RATE = 0.01
TENSORFLOW_NAMES = ("G", "D", "Gs")
TENSORFLOW_VERSION = 4
TENSORFLOW_KNOWN = {
    "architecture", "components", "conditioning", "conv_clamp", "dlatent_avg_beta", "dlatent_size", "dtype",
    "fmap_base", "fmap_decay", "fmap_max", "fmap_min", "func_name", "fused_modconv", "impl", "is_training",
    "is_validation", "label_fmaps",
    "label_size", "latent_size", "mapping_dtype", "mapping_fmaps", "mapping_func", "mapping_layers", "mapping_lrmul",
    "mapping_nonlinearity", "nonlinearity", "normalize_latents", "num_channels", "num_fp16_res", "randomize_noise",
    "resample_kernel", "resolution", "return_dlatents", "structure", "style_mixing_prob", "synthesis_func",
    "truncation_cutoff", "truncation_cutoff_val", "truncation_psi", "truncation_psi_val", "use_noise", "w_avg_beta",
}  # fmt: skip
TENSORFLOW_ONLY: Mapping[str, tuple[Any, ...]] = {
    "architecture": ("skip",), "resample_kernel": ([1, 3, 3, 1], (1, 3, 3, 1)), "mapping_lrmul": (0.01,),
    "nonlinearity": ("lrelu",), "mapping_nonlinearity": ("lrelu",), "num_channels": (3,), "use_noise": (True,),
}  # fmt: skip
"""Settings that must be the default ones, where they are stated."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One state dict."""

    place: str
    """The keys that lead to it, with dots; "" on top."""
    handles: Mapping[str, _Tensor | Array]
    mean: _Tensor | Array | None = None
    """The mean w that lies beside it."""
    options: Mapping[str, object] = field(default_factory=dict)
    """"opts" of the file."""
    conv_clamp: float = 0.0
    fault: str = ""
    """Why it cannot be used, whatever its keys."""
    details: tuple[str, ...] = field(default=())
    """What else a person should know of it."""

    @property
    def rank(self) -> int:
        """How much it is to be preferred among generators of one file; the smallest is the best."""
        last = self.place.rpartition(".")[2]
        if last == "decoder":  # of an encoder's file; who gives a generator beside it means that one
            return len(PREFERRED) + 1
        return PREFERRED.index(last) if last in PREFERRED else len(PREFERRED)


def parts_of(checkpoint: Checkpoint) -> list[Part]:
    """Every state dict of a file, and with it those of parts of a model ("encoder.", "decoder.")."""
    found: list[Part] = []
    for part in _walk(checkpoint.top, "", (None, {}), 0):
        found += _split(part)
        if len(found) > MOST_PARTS:
            break
    return found


def _walk(each: object, place: str, beside: tuple[Any, Mapping[str, object]], depth: int) -> Iterator[Part]:
    if isinstance(each, Module):
        yield _of_module(each, place)
    elif isinstance(each, TensorFlowNetwork):
        yield _of_tensorflow(each, place)
    elif isinstance(each, tuple | list) and depth < MOST_DEPTH:
        names = TENSORFLOW_NAMES if len(each) == 3 else tuple(map(str, range(len(each))))
        if len(each) <= MOST_DEPTH:
            for name, value in zip(names, each, strict=True):
                yield from _walk(value, _joined(place, name), beside, depth + 1)
    elif isinstance(each, dict) and depth < MOST_DEPTH:
        tensors = {key: value for key, value in each.items() if isinstance(key, str) and isinstance(value, _Tensor)}
        opts = each.get("opts")
        mean = next((tensors[key] for key in MEANS if key in tensors), beside[0])
        options = {str(key): value for key, value in opts.items()} if isinstance(opts, dict) else beside[1]
        if len(tensors) > 1 or (tensors and not any(key in MEANS for key in tensors)):
            yield Part(place=place, handles=tensors, mean=mean, options=options)
        for key, value in each.items():
            if isinstance(key, str) and isinstance(value, dict | Module | TensorFlowNetwork):
                yield from _walk(value, _joined(place, key), (mean, options), depth + 1)


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _split(part: Part) -> list[Part]:
    """The part itself; and where its keys begin with the name of a part of a model, that by itself."""
    groups: dict[str, dict[str, _Tensor | Array]] = {}
    for key, value in part.handles.items():
        head, dot, rest = key.partition(".")
        if dot and rest:
            groups.setdefault(head, {})[rest] = value
    inner = [
        Part(place=_joined(part.place, head), handles=groups[head], mean=part.mean, options=part.options)
        for head in ("module", "generator_ema", "generator", "decoder", "encoder", "hypernet", "discriminator", "g_ema")
        if head in groups
    ]
    wrapped = [deeper for each in inner if each.place.endswith("module") for deeper in _split(each)]
    return [*([] if inner else [part]), *(each for each in inner if not each.place.endswith("module")), *wrapped]


def _of_module(module: Module, place: str) -> Part:
    clamp, faults = 0.0, []
    for each in submodules(module):
        found = each.state.get("conv_clamp")
        if isinstance(found, int | float) and not isinstance(found, bool):
            if not 0 < found < math.inf or clamp not in (0.0, float(found)):
                faults.append(f"layers that clamp at {found:g} and elsewhere")
            clamp = float(found)
        if each.class_name == "SynthesisLayer" and each.state.get("activation", "lrelu") != "lrelu":
            faults.append(f"layers with the activation {str(each.state['activation'])[:40]!r}")
    faults += [f"a mapping network with the learning rate multiplier {rate}" for rate in _mapping_rates(module)]
    return Part(
        place=place, handles=dict(module_tensors(module)), conv_clamp=clamp,
        fault=f"has {faults[0]}: not supported" if faults else "", details=_strangers(module),
    )  # fmt: skip


def _strangers(module: Module) -> tuple[str, ...]:
    """A note of classes that the public networks do not have: their tensors fit, and they may compute otherwise."""
    names = sorted({each.class_name for each in submodules(module)} - NVIDIA_CLASSES)
    found = ", ".join(name[:40] for name in names[:3])
    return (f"it has modules of {found}, which NVIDIA's networks have not: compare its pictures",) if names else ()


def _mapping_rates(module: Module) -> Iterator[float]:
    """The learning rate multipliers of mapping layers that are not the usual one."""
    below = module.state.get("_modules")
    mapping = below.get("mapping") if isinstance(below, dict) else None
    layers = mapping.state.get("_modules") if isinstance(mapping, Module) else None
    for name, layer in layers.items() if isinstance(layers, dict) else ():
        rate = layer.state.get("bias_gain") if isinstance(layer, Module) else None
        if str(name).startswith("fc") and isinstance(rate, int | float) and not math.isclose(rate, MAPPING_RATE):
            yield rate


def _of_tensorflow(network: TensorFlowNetwork, place: str) -> Part:
    state = network.state
    handles = dict(_variables(state))
    components = state.get("components")
    for name, component in components.items() if isinstance(components, dict) else ():
        if isinstance(component, TensorFlowNetwork):
            handles |= {f"{name}/{key}": value for key, value in _variables(component.state)}
    settings = state.get("static_kwargs")
    settings = settings if isinstance(settings, dict) else {}
    clamp = settings.get("conv_clamp")
    return Part(
        place=place, handles=handles, fault=_tensorflow_fault(state.get("version"), settings),
        conv_clamp=float(clamp) if isinstance(clamp, int | float) and 0 < clamp < math.inf else 0.0,
    )  # fmt: skip


def _tensorflow_fault(version: object, settings: Mapping[Any, Any]) -> str:
    if version != TENSORFLOW_VERSION:
        return (
            f"is a TensorFlow network of version {str(version)[:20]} (3 is StyleGAN's first): not supported; version "
            f"{TENSORFLOW_VERSION}, StyleGAN2, is. Take a StyleGAN2 network"
        )
    for key, value in settings.items():
        if key not in TENSORFLOW_KNOWN:
            return f"has the setting {str(key)[:60]!r}, which is unknown, so its pictures might differ: not supported"
        if key in TENSORFLOW_ONLY and value is not None and value not in TENSORFLOW_ONLY[key]:
            return f"has {key} {str(value)[:40]!r}: not supported; {str(TENSORFLOW_ONLY[key][0])!r} is"
    return ""


def _variables(state: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    variables = state.get("variables")
    for each in variables if isinstance(variables, list) else ():
        match each:
            case (str(name), Array() as value) | [str(name), Array() as value]:
                yield name, value

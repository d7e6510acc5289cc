"""Checkpoints as public programs write them, from stand-ins of their classes; nothing of theirs is needed.

`module_src` of every module is a program that would create the canary file.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests import stylegan2_files as files


@contextmanager
def public_modules() -> Iterator[types.ModuleType]:
    """While pickles are written there are modules of the public names."""
    persistence = types.ModuleType("torch_utils.persistence")
    util, network = types.ModuleType("dnnlib.util"), types.ModuleType("dnnlib.tflib.network")

    def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
        raise AssertionError("the public loader executes module_src here")

    class EasyDict(dict[str, Any]):
        pass

    class Network:
        def __init__(self, state: dict[str, Any]):
            self.state = state

        def __getstate__(self) -> dict[str, Any]:
            return self.state

    _reconstruct_persistent_obj.__module__ = persistence.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    for each, module in ((EasyDict, util), (Network, network)):
        each.__module__, each.__qualname__ = module.__name__, each.__name__
        setattr(module, each.__name__, each)
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    names = {
        "torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": persistence,
        "dnnlib": types.ModuleType("dnnlib"), "dnnlib.util": util, "dnnlib.tflib": types.ModuleType("dnnlib.tflib"),
        "dnnlib.tflib.network": network,
    }  # fmt: skip
    sys.modules.update(names)
    try:
        yield persistence
    finally:
        for name in names:
            del sys.modules[name]


class Node:
    """A persistent module as NVIDIA's decorator pickles it."""

    def __init__(self, class_name: str, canary: Path, **attributes: Any):
        self.class_name, self.canary = class_name, canary
        self.state: dict[str, Any] = {
            "training": False, "_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict(),
            **attributes,
        }  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        source = f"open({str(self.canary)!r}, 'w').close()"
        meta = {
            "type": "class", "version": 6, "module_src": source, "class_name": self.class_name, "state": self.state,
        }  # fmt: skip
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)  # type: ignore[attr-defined]


CLASSES = {
    "mapping": "MappingNetwork", "synthesis": "SynthesisNetwork", "conv0": "SynthesisLayer", "conv1": "SynthesisLayer",
    "torgb": "ToRGBLayer", "affine": "FullyConnectedLayer",
}  # fmt: skip


def module_tree(state: Mapping[str, Tensor], canary: Path, *, conv_clamp: float | None, flat: bool = False) -> Node:
    """The generator as modules."""
    options: dict[str, Any] = sys.modules["dnnlib.util"].EasyDict(channel_base=1, conv_clamp=conv_clamp)  # type: ignore[attr-defined]
    top = Node("Generator", canary, _init_args=(), _init_kwargs=options if flat else {"synthesis_kwargs": options})
    for key, value in state.items():
        node, *_ = [top]
        *path, leaf = key.split(".")
        for name in path:
            below = node.state["_modules"]
            if name not in below:
                kind = CLASSES.get(name, "FullyConnectedLayer" if name.startswith("fc") else "SynthesisBlock")
                below[name] = Node(kind, canary)
                if kind in ("SynthesisLayer", "ToRGBLayer"):
                    below[name].state["conv_clamp"] = conv_clamp
                    below[name].state["act_gain"] = np.float64(np.sqrt(2))
                if kind == "FullyConnectedLayer":
                    below[name].state["bias_gain"] = 0.01 if name.startswith("fc") else 1
            node = below[name]
        is_parameter = leaf in ("weight", "bias", "const", "noise_strength")
        node.state["_parameters" if is_parameter else "_buffers"][leaf] = (
            torch.nn.Parameter(value) if is_parameter else value
        )
    return top


def write_nvidia(
    file: Path, recipe: files.Recipe, *, conv_clamp: float | None = 256.0, flat: bool = False, **more: Any
) -> Path:
    """A .pkl of stylegan2-ada; its G is not its G_ema. `file`.canary is what its source code would create."""
    state = files.nvidia(recipe)
    with public_modules():
        canary = file.with_suffix(".canary")
        trees = [
            module_tree({key: scale * value for key, value in state.items()}, canary, conv_clamp=conv_clamp, flat=flat)
            for scale in (1, 2)
        ]
        options = sys.modules["dnnlib.util"].EasyDict(path="faces")  # type: ignore[attr-defined]
        content = {"training_set_kwargs": options, "G": trees[1], "D": None, "G_ema": trees[0], **more}
        file.write_bytes(pickle.dumps(content, protocol=4))
    return file


def write_whole_module(file: Path, recipe: files.Recipe, *, zipped: bool = True) -> Path:
    """What PTI saves: a module as it is."""
    with public_modules():
        tree = module_tree(files.nvidia(recipe), file.with_suffix(".canary"), conv_clamp=None)
        torch.save(tree, file, _use_new_zipfile_serialization=zipped)
    return file


def write_tensorflow(
    file: Path, recipe: files.Recipe, *, version: int = 4, protocol: int = 4, **settings: object
) -> Path:
    """The tuple (G, D, Gs) of stylegan2."""
    variables = files.tensorflow(files.nvidia(recipe))
    with public_modules():
        network = sys.modules["dnnlib.tflib.network"].Network  # type: ignore[attr-defined]
        util = sys.modules["dnnlib.util"]

        def made(prefix: str, **more: Any) -> Any:
            own = [
                (name.removeprefix(prefix), value)
                for name, value in variables.items()
                if (name.startswith(prefix) if prefix else "/" not in name)
            ]
            source = f"open({str(file.with_suffix('.canary'))!r}, 'w').close()"
            return network({
                "version": version, "name": prefix or "Gs", "build_module_src": source, "variables": own,
                "static_kwargs": util.EasyDict(resolution=recipe.resolution, **settings), **more,
            })  # fmt: skip

        def whole() -> Any:
            parts = {name: made(f"{name}/") for name in ("mapping", "synthesis")}
            return made("", components=util.EasyDict(parts))

        file.write_bytes(pickle.dumps((whole(), whole(), whole()), protocol=protocol))
    return file

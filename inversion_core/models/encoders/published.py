"""The published encoders of pSp, e4e and ReStyle: the architecture, from keys, shapes and the options in the file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inversion_core.errors import PackInvalid
from inversion_core.models.encoders.pyramid import RGB, PyramidConfig, PyramidEncoder
from inversion_core.models.generators import Architecture
from inversion_core.models.source import Source

MARK = r"styles\.\d+\.convs\.\d+\."
FIRST = "input_layer."
"""Those with another body, ResNet-34, have none."""
TYPES = {
    "GradualStyleEncoder": ("pSp", False), "Encoder4Editing": ("e4e", True), "BackboneEncoder": ("ReStyle", False),
    "ProgressiveBackboneEncoder": ("ReStyle with e4e's heads", True),
}  # fmt: skip
"""What the public options call an encoder: what to call it, and whether its heads add to the first one's row."""
PASSES = 5
"""Of ReStyle, where the options do not say."""
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class FoundEncoder:
    """An encoder that was read."""

    encoder: PyramidEncoder
    what: str


def recognised(keys: Iterable[str]) -> bool:
    """Whether keys are of an encoder of this kind."""
    names = list(keys)
    return any(re.match(MARK, key) for key in names) and any(key.startswith(FIRST) for key in names)


def read_encoder(
    source: Source, options: Mapping[str, object], mean: Tensor | None, generator: Architecture
) -> FoundEncoder:
    """The encoder of a state dict.

    Args:
        options: "opts" of the file.
        mean: "latent_avg" of the file; it is added to the codes unless the options say otherwise.
        generator: whose codes it must make.
    Raises:
        PackInvalid: a tensor is missing, unknown or of another shape; the options do not tell which encoder it is; or
            it makes codes of another shape.
    """
    what, is_relative = _type(source, options)
    config = _config(source, options, is_relative, generator)
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in PyramidEncoder(config).state_dict().items()}
    state = {}
    for key, shape in shapes.items():
        if key == "start_LD":
            state[key] = _start(source, options, mean, config)
        elif key.endswith(COUNTER):
            state[key] = source.take(key, shape).long() if key in source.tensors else torch.tensor(0)
        else:
            state[key] = source.take(key, shape)
        if key.endswith("running_var") and bool((state[key] < 0).any()):
            raise source.fault(key, "holds a negative variance")
    source.finish(r"(?!)")
    encoder = PyramidEncoder(config)
    encoder.load_state_dict(state)
    return FoundEncoder(encoder=encoder, what=f"an encoder of {what}")


def _type(source: Source, options: Mapping[str, object]) -> tuple[str, bool]:
    if not any(key.startswith("latlayer") for key in source.tensors):
        return TYPES.get(str(options.get("encoder_type")), TYPES["BackboneEncoder"])
    if (found := TYPES.get(str(options.get("encoder_type")))) is not None:
        return found
    if "stylegan_size" in options:  # e4e's option; pSp's is output_size
        return TYPES["Encoder4Editing"]
    if "output_size" in options:
        return TYPES["GradualStyleEncoder"]
    raise PackInvalid(
        f"{source.file} is an encoder of pSp or of e4e: the keys of both are the same, and the options in the file, "
        f"which tell them apart, are missing. Give the checkpoint as it was published, with its 'opts'."
    )


def _config(source: Source, options: Mapping[str, object], is_relative: bool, generator: Architecture) -> PyramidConfig:
    rows, blocks = source.count(r"styles\.(\d+)\."), source.count(r"body\.(\d+)\.")
    last = [f"body.{i}.res_layer.3.weight" for i in range(blocks)]
    depths = [source.usual([(key, 0)], key) for key in last]
    groups = [(depth, len(list(same))) for depth, same in itertools.groupby(depths)]
    w_dim = source.usual([(f"styles.{i}.linear.weight", 0) for i in range(rows)], "styles.0.linear.weight")
    if (rows, w_dim) != (generator.num_layers, generator.w_dim):
        raise PackInvalid(
            f"{source.file} makes codes {rows}x{w_dim}, and the generator takes {generator.num_layers}x"
            f"{generator.w_dim}. Give the generator that it was trained for: its own decoder, for one."
        )
    coarse_px = 2 ** ((source.count(r"styles\.0\.convs\.(\d+)\.") + 1) // 2)
    first = "input_layer.0.weight"
    seen = source.usual([(first, 1)], first)
    if seen not in (RGB, 2 * RGB):
        raise source.fault(first, f"takes {seen} channels, sketches or maps of segments; pictures have three: not used")
    passes = options.get("n_iters_per_batch", PASSES)
    try:
        return PyramidConfig(
            resolution=generator.resolution, num_layers=rows, w_dim=w_dim, input_px=16 * coarse_px,
            channels=tuple(depth for depth, _ in groups), blocks=tuple(count for _, count in groups),
            has_pyramid="latlayer1.weight" in source.tensors, is_relative=is_relative,
            passes=0 if seen == RGB else passes if isinstance(passes, int) and 0 < passes <= 100 else PASSES,
        )  # fmt: skip
    except ValueError as error:
        raise PackInvalid(f"{source.file}: {error}") from error


def _start(source: Source, options: Mapping[str, object], mean: Tensor | None, config: PyramidConfig) -> Tensor:
    shape = config.num_layers, config.w_dim
    is_added = options.get("start_from_latent_avg", mean is not None) or config.passes > 0
    if not is_added:
        return torch.zeros(shape)
    if mean is None:
        raise source.fault("latent_avg", "is missing, and the codes are added to it")
    mean = mean.float()
    mean = mean[0] if mean.ndim == 3 and len(mean) == 1 else mean
    if tuple(mean.shape) not in (shape, shape[1:], (1, shape[1])) or not mean.isfinite().all():
        raise source.fault("latent_avg", f"has shape {tuple(mean.shape)}, and {shape} is needed")
    return mean.expand(shape).clone()

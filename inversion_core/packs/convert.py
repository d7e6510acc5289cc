"""The published IDInvert files (Zhu 2020, PyTorch release) as a pack.

The architecture is read off the shapes, so other resolutions and widths than 256 px convert too. What differs
between the layouts, and is settled here:

- the encoder scales its residual convolutions down and up again: both are left out;
- VGG-16 goes on behind relu4_3: left out.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from inversion_core.errors import PackInvalid
from inversion_core.models import Encoder, EncoderConfig, GeneratorConfig, VGG16Features
from inversion_core.models.generators.stylegan1.idinvert import convert_generator
from inversion_core.models.layers import resolutions
from inversion_core.models.perceptual import IMAGENET_MEAN_BGR, VGG16_PLAN
from inversion_core.models.source import Source
from inversion_core.packs.manifest import PackManifest, PerceptualSpec
from inversion_core.packs.published import Published
from inversion_core.packs.save import check_target, save_pack

LICENCE = (
    "That of the published files: see genforce/idinvert_pytorch for the networks, "
    "and Simonyan and Zisserman for VGG-16 (CC BY 4.0)."
)


def convert_idinvert(
    generator_file: str | Path,
    vgg_file: str | Path,
    folder: str | Path,
    *,
    encoder_file: str | Path | None = None,
    name: str | None = None,
    version: str = "1.0.0",
    licence: str = LICENCE,
    half: bool = False,
    overwrite: bool = False,
) -> PackManifest:
    """Convert published files into a pack folder.

    Args:
        generator_file, encoder_file, vgg_file: state dicts in the published layout; the encoder may be left out.
        name: of the pack; None: "idinvert", what the generator's file says it was trained on, and the size.
        half: store float16 (half the size, and no longer exactly the published weights).
    Raises:
        PackInvalid: a file is truncated, holds code, lacks a key, has one too many, or a shape is wrong.
        FileExistsError, ValueError: as `save_pack` and `PackManifest`.
    """
    check_target(Path(folder).absolute(), overwrite)  # now, not after all the reading
    generator = convert_generator(Published.read(generator_file, "generator"))
    encoder = None
    if encoder_file is not None:
        encoder = convert_encoder(Published.read(encoder_file, "encoder"), generator.config)
    vgg = convert_vgg(Published.read(vgg_file, "vgg"))
    manifest = PackManifest(
        name=default_name(Path(generator_file), generator.config.resolution) if name is None else name,
        version=version,
        description=f"IDInvert at {generator.config.resolution} px{'' if encoder else ', without its encoder'}: "
        "a StyleGAN whose mapping gives each layer a w of its own.",
        licence=licence,
        provenance="Converted from "
        + ", ".join(Path(file).name for file in (generator_file, encoder_file, vgg_file) if file),
        generator=generator.config,
        encoder=encoder.config if encoder else None,
        perceptual=PerceptualSpec(
            kind="vgg16",
            layer="relu4_3",
            args={"mean_bgr": list(IMAGENET_MEAN_BGR)},
            note="Caffe weights, as published.",
        ),
    )
    return save_pack(
        folder, manifest, generator=generator, perceptual=vgg, encoder=encoder, half=half, overwrite=overwrite
    )


def default_name(generator_file: Path, resolution: int) -> str:
    """The name of a pack: styleganinv_tower256_generator.pth makes idinvert-tower-256, g.pth idinvert-256."""
    published = re.match(r"styleganinv_([a-z]+)\d*_", generator_file.name)
    domain = f"{published[1]}-" if published else ""
    return f"idinvert-{domain}{resolution}"


N = TypeVar("N", bound=nn.Module)


# -- encoder -------------------------------------------------------------------------------------------------


def convert_encoder(source: Source, generator: GeneratorConfig) -> Encoder:
    """The encoder that belongs to a generator; PackInvalid where the state dict is not of the published layout."""
    config = encoder_config(source, generator)
    widths = [min(config.channels_base * 2**i, config.channels_max) for i in range(len(resolutions(config.resolution)))]
    state = _unit(source, config, "block0.conv", None, "block0.bn", "stem", (widths[0], 3, 3, 3))
    for i, (narrow, wide) in enumerate(pairwise(widths)):
        theirs, ours, hidden = f"block{i + 1}", f"blocks.{i}", min(narrow, wide)
        state |= _unit(
            source,
            config,
            f"{theirs}.conv1",
            f"{theirs}.wscale1",
            f"{theirs}.bn1",
            f"{ours}.unit1",
            (hidden, narrow, 3, 3),
        )
        state |= _unit(
            source,
            config,
            f"{theirs}.conv2",
            f"{theirs}.wscale2",
            f"{theirs}.bn2",
            f"{ours}.unit2",
            (wide, hidden, 3, 3),
        )
        if narrow != wide:
            state |= _unit(source, config, f"{theirs}.conv", None, f"{theirs}.bn", f"{ours}.skip", (wide, narrow, 1, 1))
    last, code = f"block{len(widths)}", config.num_layers * config.w_dim
    state["head.weight"] = source.take(f"{last}.fc.weight", (code, widths[-1] * 16))
    state |= _norm(source, f"{last}.bn", "head.norm", code) if config.batch_norm else {"head.bias": torch.zeros(code)}
    source.finish("")
    return _filled(Encoder(config), state)


def encoder_config(source: Source, generator: GeneratorConfig) -> EncoderConfig:
    """Resolution and code are the generator's; the widths are read off the shapes."""
    _check_size(source, generator)
    last = f"block{len(resolutions(generator.resolution)) - 1}"
    base = source.usual(
        [("block0.conv.weight", 0), ("block0.bn.bn.bias", 0), ("block0.bn.bn.running_var", 0)], "block0.conv.weight"
    )
    deepest = source.usual(
        [(f"{last}.conv2.weight", 0), (f"{last}.wscale2.bias", 0), (f"{last}.bn2.bn.bias", 0)], f"{last}.conv2.weight"
    )
    has_norm = any(".bn.running_mean" in key for key in source.tensors)
    return EncoderConfig(
        resolution=generator.resolution,
        w_dim=generator.w_dim,
        channels_base=base,
        channels_max=deepest,
        batch_norm=has_norm,
    )


def _check_size(source: Source, generator: GeneratorConfig) -> None:
    """An encoder has a block for each resolution, and a fully connected layer behind the last."""
    behind = len(resolutions(generator.resolution))
    found = [block for block in range(1, source.count(r"block(\d+)\.")) if f"block{block}.fc.weight" in source.tensors]
    if found and behind not in found:
        size = 2 ** (found[0] + 1)
        raise PackInvalid(
            f"{source.file} is an encoder for pictures of {size} px (it ends with block{found[0]}.fc), and the "
            f"generator makes {generator.resolution} px. Give the encoder published with this generator, or leave "
            f"--encoder out"
        )


def _unit(source: Source, config: EncoderConfig, conv: str, bias: str | None, norm: str, ours: str,
          shape: tuple[int, int, int, int]) -> dict[str, Tensor]:  # fmt: skip
    state = {f"{ours}.conv.weight": source.take(f"{conv}.weight", shape)}
    if bias is not None:
        state[f"{ours}.conv.bias"] = source.take(f"{bias}.bias", shape[:1])
    elif not config.batch_norm:
        state[f"{ours}.conv.bias"] = torch.zeros(shape[0])
    return state | (_norm(source, norm, f"{ours}.norm", shape[0]) if config.batch_norm else {})


def _norm(source: Source, theirs: str, ours: str, channels: int) -> dict[str, Tensor]:
    state = {
        f"{ours}.{key}": source.take(f"{theirs}.bn.{key}", (channels,))
        for key in ("weight", "bias", "running_mean", "running_var")
    }
    counter = f"{theirs}.bn.num_batches_tracked"  # counts training batches; files of old torch versions lack it
    state[f"{ours}.num_batches_tracked"] = (
        source.take(counter, ()).long() if counter in source.tensors else torch.tensor(0)
    )
    if (state[f"{ours}.running_var"] < 0).any():
        raise source.fault(f"{theirs}.bn.running_var", "holds a negative variance")
    return state


# -- VGG-16 --------------------------------------------------------------------------------------------------


def convert_vgg(source: Source) -> VGG16Features:
    """VGG-16 up to relu4_3; PackInvalid where the state dict is not of the published layout."""
    state: dict[str, Tensor] = {}
    in_channels, layer, convs = 3, 0, 0
    for width in VGG16_PLAN:  # the published keys count every convolution, ReLU and pooling
        if isinstance(width, int):
            state[f"convs.{convs}.weight"] = source.take(f"layer{layer}.weight", (width, in_channels, 3, 3))
            state[f"convs.{convs}.bias"] = source.take(f"layer{layer}.bias", (width,))
            in_channels, convs = width, convs + 1
        layer += 2 if isinstance(width, int) else 1
    source.finish(r"layer(24|26|28)\.(weight|bias)")
    return _filled(VGG16Features(), state)


def _filled(network: N, state: dict[str, Tensor]) -> N:
    network.load_state_dict(state)
    return network

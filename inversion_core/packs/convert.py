"""The published IDInvert files (Zhu 2020, PyTorch release) as a pack.

The architecture is read off the shapes, so other resolutions and widths than 256 px convert too. What differs
between the layouts, and is settled here:

- the to-RGB layer is scaled by 1 / sqrt(channels) when used: folded into its weight. Those of lower resolutions
  serve progressive growing alone and are left out;
- up-sampling layers come as `conv.weight` (O, I, 3, 3), or fused as `weight` (3, 3, I, O);
- the encoder scales its residual convolutions down and up again: both are left out;
- VGG-16 goes on behind relu4_3: left out.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import TypedDict, TypeVar

import torch
from torch import Tensor, nn

from inversion_core.errors import PackInvalid
from inversion_core.models import Encoder, EncoderConfig, GeneratorConfig, StyleGANGenerator, VGG16Features
from inversion_core.models.layers import resolutions
from inversion_core.models.perceptual import IMAGENET_MEAN_BGR, VGG16_PLAN
from inversion_core.packs.manifest import PackManifest, PerceptualSpec
from inversion_core.packs.published import Published
from inversion_core.packs.save import check_target, save_pack

LICENCE = (
    "That of the published files: see genforce/idinvert_pytorch for the networks, "
    "and Simonyan and Zisserman for VGG-16 (CC BY 4.0)."
)
BLUR = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
"""Binomial filter (Karras 2019 section 2), the only one that the generator here knows."""
NEVER_FUSED = 2048
"""`fused_from` of a generator without a fused layer."""


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


# -- generator -----------------------------------------------------------------------------------------------


def convert_generator(source: Published) -> StyleGANGenerator:
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
    return _filled(StyleGANGenerator(config), state)


def generator_config(source: Published) -> GeneratorConfig:
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


def _mapping_widths(source: Published, w_dim: int) -> _MappingWidths:
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


def _channels(source: Published, block: int) -> int:
    keys: list[tuple[str, int]] = []
    for layer in (f"synthesis.layer{2 * block}", f"synthesis.layer{2 * block + 1}"):
        keys += [
            (f"{layer}.epilogue.bias", 0),
            (f"{layer}.epilogue.apply_noise.weight", 0),
            (f"{layer}.conv.weight", 0),
        ]
    return source.usual(keys, f"synthesis.layer{2 * block}.epilogue.bias")


def _fused_from(source: Published, blocks: int) -> int:
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


def _mapping(source: Published, config: GeneratorConfig) -> dict[str, Tensor]:
    depth, state = config.mapping_layers, {}
    out_dim = config.w_dim * (config.num_layers if config.w_per_layer else 1)
    widths = [config.z_dim] + [config.mapping_dim] * (depth - 1) + [out_dim]
    for i in range(depth):
        state[f"mapping.layers.{i}.weight"] = source.take(f"mapping.dense{i}.fc.weight", (widths[i + 1], widths[i]))
        state[f"mapping.layers.{i}.bias"] = source.take(f"mapping.dense{i}.wscale.bias", (widths[i + 1],))
    return state


def _truncation(source: Published, config: GeneratorConfig) -> dict[str, Tensor]:
    key, layers = "truncation.truncation", config.num_layers
    psi_L = torch.ones(layers)
    psi_L[: config.truncation_layers] = config.truncation_psi
    if key in source.tensors:  # the public code makes it anew when it is not in the file
        psi_L = source.take(key, (1, layers, 1)).flatten()
    return {"truncation.w_avg_D": source.take("truncation.w_avg", (config.w_dim,)), "truncation.psi_L": psi_L}


def _style_layer(source: Published, config: GeneratorConfig, index: int) -> dict[str, Tensor]:
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


def _check_blur(source: Published, key: str, channels: int) -> None:
    if not torch.allclose(source.take(key, (channels, 1, 3, 3)), BLUR, atol=1e-6):
        raise source.fault(key, "is not the binomial filter (1, 2, 1)")


# -- encoder -------------------------------------------------------------------------------------------------


def convert_encoder(source: Published, generator: GeneratorConfig) -> Encoder:
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


def encoder_config(source: Published, generator: GeneratorConfig) -> EncoderConfig:
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


def _check_size(source: Published, generator: GeneratorConfig) -> None:
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


def _unit(source: Published, config: EncoderConfig, conv: str, bias: str | None, norm: str, ours: str,
          shape: tuple[int, int, int, int]) -> dict[str, Tensor]:  # fmt: skip
    state = {f"{ours}.conv.weight": source.take(f"{conv}.weight", shape)}
    if bias is not None:
        state[f"{ours}.conv.bias"] = source.take(f"{bias}.bias", shape[:1])
    elif not config.batch_norm:
        state[f"{ours}.conv.bias"] = torch.zeros(shape[0])
    return state | (_norm(source, norm, f"{ours}.norm", shape[0]) if config.batch_norm else {})


def _norm(source: Published, theirs: str, ours: str, channels: int) -> dict[str, Tensor]:
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


def convert_vgg(source: Published) -> VGG16Features:
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

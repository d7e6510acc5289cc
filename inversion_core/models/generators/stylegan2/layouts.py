"""The four layouts in which StyleGAN2's generator is published: the same tensors under other names, some turned.

Architecture and weights are read off keys and shapes. What differs between the layouts, and is settled here:

- NVIDIA's and rosinality's keep the 1 of a style's bias in it; TensorFlow's and genforce's add it at run time;
- TensorFlow and genforce store the kernels of up-convolutions turned round;
- TensorFlow stores matrices (in, out) and kernels (H, W, in, out).

The filter (1, 3, 3, 1) lies in most files as a constant. It is compared, not read: another one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inversion_core.errors import PackInvalid
from inversion_core.models.generators.reading import Beside, Found
from inversion_core.models.generators.stylegan2.config import StyleGAN2Config
from inversion_core.models.generators.stylegan2.network import RGB, StyleGAN2Generator
from inversion_core.models.source import Source

Shape = tuple[int, ...]
FIR = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
NOISE_SEED = 0
"""Of the noise that a file does not bring."""
NOTHING = Beside()
SIZES_PX = tuple(2**k for k in range(2, 11))


@dataclass(frozen=True)
class Form:
    """How a tensor lies in a file."""

    shape: Callable[[Shape], Shape]
    """Its shape there, by that here."""
    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


SAME = Form(lambda s: s, lambda t: t, lambda t: t)
FRAMED = Form(lambda s: (1, *s), lambda t: t[0], lambda t: t[None])
UNFRAMED = Form(lambda s: s[1:], lambda t: t[None], lambda t: t[0])
FRAMED_TWICE = Form(lambda s: (1, 1, *s), lambda t: t[0, 0], lambda t: t[None, None])
ONE_NUMBER = Form(lambda s: (1,), lambda t: t[0], lambda t: t[None])
CHANNELS = Form(lambda s: (1, *s, 1, 1), Tensor.flatten, lambda t: t[None, :, None, None])
TRANSPOSED = Form(lambda s: s[::-1], Tensor.t, Tensor.t)
HWIO = Form(lambda s: (*s[2:], s[1], s[0]), lambda t: t.permute(3, 2, 0, 1), lambda t: t.permute(2, 3, 1, 0))
TURNED = Form(lambda s: s, lambda t: t.flip(2, 3), lambda t: t.flip(2, 3))
HWIO_TURNED = Form(HWIO.shape, lambda t: HWIO.read(t).flip(2, 3), lambda t: HWIO.write(t.flip(2, 3)))
LESS_ONE = Form(lambda s: s, lambda t: t + 1, lambda t: t - 1)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to name and turn the tensors of a StyleGAN2 generator."""

    what: str
    """What to call it."""
    mark: str
    """Pattern of keys that only this layout has."""
    mapping: Callable[[int], str]
    """Prefix of the mapping layer of that number."""
    convolution: Callable[[int, int], str]
    """Prefix of the convolution of that resolution, 0 the up-sampling one or 1."""
    rgb: Callable[[int], str]
    const: tuple[str, Form]
    noise: tuple[Callable[[int, int], str], Form]
    """Key of the noise of a convolution."""
    matrix: Form = SAME
    kernel: Form = SAME
    up_kernel: Form = SAME
    rgb_kernel: Form = SAME
    strength: Form = SAME
    style_bias: Form = SAME
    rgb_bias: Form = SAME
    names: Mapping[str, str]
    """Of the parts below a prefix, where they have other names; "plain" ones are those of fully connected layers."""
    separator: str = "."
    mean: str
    """Key of the mean w; "" where it lies beside the state dict."""
    embed: str = ""
    """Prefix of the class embedding."""
    filters: str
    """Pattern of keys that hold the filter."""
    ignored: str = r"(?!)"
    """Pattern of keys that a picture does not need."""

    def key(self, prefix: str, part: str) -> str:
        return f"{prefix}{self.separator}{self.names.get(part, part.rpartition(' ')[2])}"


def _log2(px: int) -> int:
    return px.bit_length() - 1


NVIDIA = Layout(
    what="NVIDIA's PyTorch layout (stylegan2-ada, stylegan3 repository)",
    mark=r"synthesis\.b\d+\.conv1\.",
    mapping=lambda i: f"mapping.fc{i}",
    convolution=lambda px, which: f"synthesis.b{px}.conv{which}",
    rgb=lambda px: f"synthesis.b{px}.torgb",
    const=("synthesis.b4.const", UNFRAMED),
    noise=(lambda px, which: f"synthesis.b{px}.conv{which}.noise_const", SAME),
    names={"style.weight": "affine.weight", "style.bias": "affine.bias", "rgb.bias": "bias"},
    mean="mapping.w_avg",
    embed="mapping.embed",
    filters=r"synthesis\.b\d+\.(conv\d\.|torgb\.)?resample_filter",
)
ROSINALITY = Layout(
    what="rosinality's layout",
    mark=r"convs\.\d+\.conv\.modulation\.",
    mapping=lambda i: f"style.{i + 1}",
    convolution=lambda px, which: "conv1" if px == 4 else f"convs.{2 * (_log2(px) - 3) + which}",
    rgb=lambda px: "to_rgb1" if px == 4 else f"to_rgbs.{_log2(px) - 3}",
    const=("input.input", SAME),
    noise=(lambda px, which: f"noises.noise_{2 * _log2(px) - 5 + which}", FRAMED_TWICE),
    kernel=FRAMED,
    up_kernel=FRAMED,
    rgb_kernel=FRAMED,
    strength=ONE_NUMBER,
    rgb_bias=CHANNELS,
    names={
        "weight": "conv.weight", "style.weight": "conv.modulation.weight", "style.bias": "conv.modulation.bias",
        "bias": "activate.bias", "noise_strength": "noise.weight", "rgb.bias": "bias",
    },
    mean="",
    filters=r"(convs\.\d+\.conv\.blur|to_rgbs\.\d+\.upsample)\.kernel",
)  # fmt: skip
MMGENERATION = Layout(
    what="MMGeneration's layout",
    mark=r"(style_mapping\.\d+\.|constant_input\.)",
    mapping=lambda i: f"style_mapping.{i + 1}",
    convolution=ROSINALITY.convolution,
    rgb=ROSINALITY.rgb,
    const=("constant_input.input", SAME),
    noise=(lambda px, which: f"injected_noise_{2 * _log2(px) - 5 + which}", FRAMED_TWICE),
    kernel=FRAMED,
    up_kernel=FRAMED,
    rgb_kernel=FRAMED,
    strength=ONE_NUMBER,
    rgb_bias=CHANNELS,
    names={
        "plain weight": "linear.weight_orig", "weight": "conv.weight_orig",
        "style.weight": "conv.style_modulation.linear.weight_orig", "style.bias": "conv.style_modulation.bias",
        "bias": "activate.bias", "plain bias": "bias", "noise_strength": "noise_injector.weight", "rgb.bias": "bias",
    },
    mean="",
    filters=r"(convs\.\d+\.conv\.blur|to_rgbs\.\d+\.upsample)\.kernel",
)  # fmt: skip
GENFORCE = Layout(
    what="genforce's layout",
    mark=r"synthesis\.layer\d+\.style\.weight",
    mapping=lambda i: f"mapping.dense{i}",
    convolution=lambda px, which: f"synthesis.layer{2 * _log2(px) - 5 + which}",
    rgb=lambda px: f"synthesis.output{_log2(px) - 2}",
    const=("synthesis.early_layer.const", SAME),
    noise=(lambda px, which: f"synthesis.layer{2 * _log2(px) - 5 + which}.noise", FRAMED_TWICE),
    up_kernel=TURNED,
    style_bias=LESS_ONE,
    names={"rgb.bias": "bias"},
    mean="truncation.w_avg",
    filters=r"synthesis\.(.*\.)?kernel",
)
TENSORFLOW = Layout(
    what="NVIDIA's TensorFlow layout",
    mark=r"(synthesis/|G_synthesis/)\d+x\d+/Conv",
    mapping=lambda i: f"mapping/Dense{i}",
    convolution=lambda px, which: f"synthesis/{px}x{px}/{'Conv' if px == 4 else ('Conv0_up', 'Conv1')[which]}",
    rgb=lambda px: f"synthesis/{px}x{px}/ToRGB",
    const=("synthesis/4x4/Const/const", SAME),
    noise=(lambda px, which: f"synthesis/noise{2 * _log2(px) - 5 + which}", FRAMED_TWICE),
    matrix=TRANSPOSED,
    kernel=HWIO,
    up_kernel=HWIO_TURNED,
    rgb_kernel=HWIO,
    style_bias=LESS_ONE,
    names={"style.weight": "mod_weight", "style.bias": "mod_bias", "rgb.bias": "bias"},
    separator="/",
    mean="dlatent_avg",
    embed="mapping/LabelEmbed",
    filters=r"(?!)",
    ignored=r"lod",
)
LAYOUTS = (NVIDIA, ROSINALITY, MMGENERATION, GENFORCE, TENSORFLOW)


def recognised(keys: Iterable[str]) -> str | None:
    """The layout that keys are in, for people."""
    layout = layout_of(keys)
    return None if layout is None else layout.what


def layout_of(keys: Iterable[str]) -> Layout | None:
    """The layout that keys are in; None where they are none of a StyleGAN2 generator."""
    names = list(keys)
    return next((each for each in LAYOUTS if any(re.match(each.mark, key) for key in names)), None)


def refused(keys: Iterable[str]) -> str | None:
    """What the keys are, and what to do, where they are those of a generator that is known and cannot be drawn with."""
    names = list(keys)
    return next((text for mark, text in REFUSED if any(re.match(mark, key) for key in names)), None)


OTHER_NETWORK = "Take a StyleGAN2 network of the same data with the default architecture, 'skip'."
REFUSED = (
    (
        r"synthesis\.(input\.(freqs|phases|transform)|L\d+_\d+_\d+\.)",
        "a StyleGAN3 generator: not supported yet. Take the StyleGAN2 network of the same data; NVIDIA publishes both.",
    ),
    (
        r"(synthesis\.b\d+\.skip\.|synthesis/\d+x\d+/Skip/)",
        f"a StyleGAN2 generator with the architecture 'resnet': not supported. {OTHER_NETWORK}",
    ),
    (
        r"(G_synthesis/|synthesis/)?ToRGB_lod0",
        f"a StyleGAN2 generator with the architecture 'orig': not supported. {OTHER_NETWORK}",
    ),
    (
        r"synthesis\.(blocks\.\d+\.adain\d?\.|initial_conv\d)|.*\.adain\.style_scale",
        "a generator with AdaIN, which is no StyleGAN2 whatever its name says: not supported. Take an NVIDIA, "
        "rosinality, genforce or MMGeneration file.",
    ),
)
"""Generators that are known by their keys and cannot be drawn with."""


# -- from a file -----------------------------------------------------------------------------------------------


def read_config(source: Source, layout: Layout, *, conv_clamp: float = 0.0, label: int = 0) -> StyleGAN2Config:
    """The architecture, from keys and shapes.

    Raises:
        PackInvalid: it is none that can be drawn with.
    """
    if (text := refused(source.tensors)) is not None:
        raise PackInvalid(f"{source.file} is {text}")
    weights = {px: layout.key(layout.convolution(px, 1), "weight") for px in SIZES_PX}
    sizes = [px for px in SIZES_PX if weights[px] in source.tensors]
    if not sizes or sizes != list(SIZES_PX[: len(sizes)]) or len(sizes) < 2:
        raise source.fault(weights[SIZES_PX[len(sizes)]] if len(sizes) < len(SIZES_PX) else weights[4], "is missing")
    missing = [px for px in sizes if layout.key(layout.rgb(px), "weight") not in source.tensors]
    if missing and missing != [px for px in sizes if px in missing and px < sizes[-1]]:
        raise source.fault(layout.key(layout.rgb(missing[0]), "weight"), "is missing")
    if len(missing) == len(sizes) - 1:
        raise PackInvalid(f"{source.file} is {REFUSED[2][1]}")
    channels = tuple(source.usual([(layout.key(layout.convolution(px, 1), "bias"), 0)], weights[px]) for px in sizes)
    is_transposed = layout.matrix is TRANSPOSED
    out, inner = (1, 0) if is_transposed else (0, 1)
    styles = [layout.key(layout.convolution(px, 1), "style.weight") for px in sizes]
    w_dim = source.usual([(key, inner) for key in styles], styles[0])
    depth = 0
    while layout.key(layout.mapping(depth), "plain weight") in source.tensors:
        depth += 1
    first = layout.key(layout.mapping(0), "plain weight")
    if not depth:
        raise source.fault(first, "is missing, and so is the mapping network")
    hidden = source.usual([(first, out)], first) if depth > 1 else w_dim
    embed = layout.key(layout.embed, "plain weight") if layout.embed else ""
    labels = embed_dim = 0
    if embed and embed in source.tensors:
        labels, embed_dim = source.usual([(embed, inner)], embed), source.usual([(embed, out)], embed)
    if (unknown := next((key for key in source.tensors if "LabelConcat" in key), None)) is not None:
        raise PackInvalid(
            f"{source.file}: key {unknown!r} is of a class-conditional network of StyleGAN2's first release: not "
            "supported. Take one of stylegan2-ada, or one without classes."
        )
    _check_rgb(source, layout, sizes)
    try:
        return StyleGAN2Config(
            resolution=sizes[-1], channels=channels, z_dim=source.usual([(first, inner)], first) - embed_dim,
            w_dim=w_dim, mapping_layers=depth, mapping_dim=hidden, labels=labels, embed_dim=embed_dim, label=label,
            conv_clamp=conv_clamp, truncation_layers=2 * len(sizes),
        )  # fmt: skip
    except ValueError as error:
        raise PackInvalid(f"{source.file}: {error}") from error


def _check_rgb(source: Source, layout: Layout, sizes: list[int]) -> None:
    key = layout.key(layout.rgb(sizes[-1]), "rgb.bias")
    tensor = source.tensors.get(key)
    if tensor is not None and max(tensor.shape, default=0) == tensor.numel() != RGB:
        raise source.fault(key, f"says that pictures have {tensor.numel()} channels; three are needed, RGB")


def entries(config: StyleGAN2Config, layout: Layout) -> Iterator[tuple[str, str, Form, Shape]]:
    """Each tensor of the generator but w_avg and psi: our key, the file's key, its form there, our shape."""
    widths = [config.z_dim + config.embed_dim, *[config.mapping_dim] * (config.mapping_layers - 1), config.w_dim]
    for i in range(config.mapping_layers):
        yield f"mapping.layers.{i}.weight", layout.key(layout.mapping(i), "plain weight"), layout.matrix, (
            widths[i + 1], widths[i],
        )  # fmt: skip
        yield f"mapping.layers.{i}.bias", layout.key(layout.mapping(i), "plain bias"), SAME, (widths[i + 1],)
    if config.labels:
        shape = config.embed_dim, config.labels
        yield "mapping.embed.weight", layout.key(layout.embed, "plain weight"), layout.matrix, shape
        yield "mapping.embed.bias", layout.key(layout.embed, "plain bias"), SAME, shape[:1]
    yield "synthesis.const", *layout.const, (1, config.channels[0], 4, 4)
    for index, px in enumerate(config.layer_px):
        block = px.bit_length() - 3
        if index % 2:
            below = config.layer_px[index - 1]
            width, ours = config.channels[below.bit_length() - 3], f"synthesis.to_rgbs.{index // 2}"
            yield from _part(config, layout, ours, layout.rgb(below), (RGB, width, 1, 1), layout.rgb_kernel)
            yield f"{ours}.bias", layout.key(layout.rgb(below), "rgb.bias"), layout.rgb_bias, (RGB,)
        if index == config.num_layers - 1:
            return
        ours, which = f"synthesis.convolutions.{index}", 1 - index % 2
        theirs, out = layout.convolution(px, which), config.channels[block]
        inner = config.channels[block - 1] if index % 2 else out
        kernel = layout.up_kernel if index % 2 else layout.kernel
        yield from _part(config, layout, ours, theirs, (out, inner, 3, 3), kernel)
        yield f"{ours}.bias", layout.key(theirs, "bias"), SAME, (out,)
        yield f"{ours}.noise_strength", layout.key(theirs, "noise_strength"), layout.strength, ()
        yield f"{ours}.noise_HW", layout.noise[0](px, which), layout.noise[1], (px, px)


def _part(
    config: StyleGAN2Config, layout: Layout, ours: str, theirs: str, shape: Shape, kernel: Form
) -> Iterator[tuple[str, str, Form, Shape]]:
    yield f"{ours}.weight", layout.key(theirs, "weight"), kernel, shape
    yield f"{ours}.style.weight", layout.key(theirs, "style.weight"), layout.matrix, (shape[1], config.w_dim)
    yield f"{ours}.style.bias", layout.key(theirs, "style.bias"), layout.style_bias, (shape[1],)


def read_generator(source: Source, beside: Beside = NOTHING) -> Found | None:
    """The generator of a state dict; None where it is no StyleGAN2 generator.

    Raises:
        PackInvalid: it is one that cannot be drawn with, or a tensor is missing, unknown or of another shape.
    """
    layout = layout_of(source.tensors)
    if layout is None:
        return None
    config = read_config(source, layout, conv_clamp=beside.conv_clamp, label=beside.label)
    mean_D = beside.mean_D
    generator, notes = StyleGAN2Generator(config), []
    state: dict[str, Tensor] = {"truncation.psi_L": generator.truncation.psi_L}
    has_noise = any(layout.noise[0](px, 1) in source.tensors for px in SIZES_PX)
    draw = torch.Generator().manual_seed(NOISE_SEED)
    for ours, theirs, form, shape in entries(config, layout):
        if ours.endswith("noise_HW") and not has_noise:
            state[ours] = torch.randn(shape, generator=draw)
        else:
            state[ours] = form.read(source.take(theirs, form.shape(shape))).contiguous()
    if not has_noise:
        notes.append(f"the file has no noise: it was drawn, with seed {NOISE_SEED}")
    if layout.mean and layout.mean in source.tensors:
        mean_D = source.take(layout.mean, (config.w_dim,))
    state["truncation.w_avg_D"] = torch.zeros(config.w_dim) if mean_D is None else _mean(source, mean_D, config)
    _check_filters(source, layout)
    source.finish(rf"({layout.filters})|({layout.ignored})")
    generator.load_state_dict(state)
    if mean_D is None:
        generator.truncation.w_avg_D.copy_(computed_mean(generator))
        notes.append(f"the file has no mean w: it was computed from {MEAN_DRAWS} z")
    ignored = tuple(key for key in source.tensors if key not in source.taken)
    return Found(generator=generator, what=layout.what, ignored=ignored, notes=tuple(notes))


MEAN_DRAWS = 10_000


@torch.no_grad()
def computed_mean(generator: StyleGAN2Generator) -> Tensor:
    """The mean w (D) of many z, where a file has none."""
    draw = torch.Generator().manual_seed(NOISE_SEED)
    z_BZ = torch.randn(MEAN_DRAWS, generator.config.z_dim, generator=draw)
    return generator.mapping(z_BZ)[:, 0].mean(dim=0)  # type: ignore[no-any-return]


def _mean(source: Source, mean_D: Tensor, config: StyleGAN2Config) -> Tensor:
    """One mean for all layers; pSp and e4e repeat it."""
    mean_D = mean_D.float()
    if mean_D.ndim == 3 and len(mean_D) == 1:
        mean_D = mean_D[0]
    if mean_D.ndim == 2 and bool((mean_D == mean_D[0]).all()):
        mean_D = mean_D[0]
    if tuple(mean_D.shape) != (config.w_dim,) or not mean_D.isfinite().all():
        raise source.fault("latent_avg", f"has shape {tuple(mean_D.shape)}; one mean w ({config.w_dim},) is needed")
    return mean_D


def _check_filters(source: Source, layout: Layout) -> None:
    for key, tensor in source.tensors.items():
        if re.fullmatch(layout.filters, key):
            kernel = tensor.float().reshape(-1)
            if kernel.numel() != FIR.numel() or not torch.allclose(kernel / kernel.sum(), FIR.flatten(), atol=1e-5):
                raise PackInvalid(
                    f"{source.file}: key {key!r} is another filter than (1, 3, 3, 1): not supported. "
                    "Take a network that was trained with the default filter."
                )


def write_state(generator: StyleGAN2Generator, layout: Layout) -> dict[str, Tensor]:
    """The generator's tensors as that layout has them, without filters: what `read_generator` reads."""
    state, found = generator.state_dict(), {}
    for ours, theirs, form, _ in entries(generator.config, layout):
        found[theirs] = form.write(state[ours]).contiguous().clone()
    if layout.mean:
        found[layout.mean] = generator.truncation.w_avg_D.clone()
    return found

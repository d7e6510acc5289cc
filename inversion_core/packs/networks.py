"""Networks from a manifest, weights from safetensors files into them; faults name file, key and remedy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from inversion_core.errors import PackInvalid
from inversion_core.latents import detail_shape
from inversion_core.models import (
    DetailPredictor,
    DiscriminatorConfig,
    DiscriminatorFeatures,
    VGG16Features,
    build_generator,
)
from inversion_core.models.encoders.kinds import build_encoder
from inversion_core.packs.directions import DIRECTIONS_FILE, direction_shapes
from inversion_core.packs.learned import Variant, build_learned
from inversion_core.packs.manifest import MANIFEST_FILE, PackManifest
from inversion_core.packs.reader import REMEDY
from inversion_core.packs.shapes import shapes_only

WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64)
"""What weights may be stored as; all but counters become float32."""
GENERATOR_KEY = "generator_sha256"
"""Entry of a learned optimizer's file: the SHA-256 of the generator that it was trained for."""


def build_network(manifest: PackManifest, network: str) -> nn.Module:
    """The network named "generator", "encoder", "perceptual" or "detail_predictor", with weights yet to be filled in.

    Raises:
        ValueError: its settings in the manifest are not valid.
    """
    if network == "generator":
        return build_generator(manifest.generator)
    if network == "encoder":
        assert manifest.encoder is not None
        return build_encoder(manifest.encoder)
    if network == "detail_predictor":
        return build_predictor(manifest)
    args = manifest.perceptual.args
    if manifest.perceptual.kind == "vgg16":
        return VGG16Features(mean_bgr=args["mean_bgr"])
    config = DiscriminatorConfig(resolution=args["resolution"], channels=tuple(args["channels"]))
    if config.resolution > manifest.resolution:  # larger pictures it shrinks
        raise ValueError(f"resolution is {config.resolution}, and the generator's is only {manifest.resolution}")
    return DiscriminatorFeatures(config, until=args["until"])


def build_predictor(manifest: PackManifest) -> DetailPredictor:
    """The network that begins the pack's detail, with weights yet to be filled in."""
    spec = manifest.detail_or_default
    assert spec.predictor is not None
    channels, _, _ = detail_shape(manifest.generator, spec.px)
    return DetailPredictor(spec.predictor, resolution=manifest.resolution, px=spec.px, channels=channels)


def expected_tensors(build: Callable[[], nn.Module]) -> dict[str, torch.Size]:
    """Key -> shape of a network's weights, found without making them: a manifest that lies costs no memory.

    Raises:
        ValueError: as `build`.
    """
    with shapes_only():
        return {key: value.shape for key, value in build().state_dict().items()}


PathOf = Callable[[str], Path]
"""Where a file that the manifest names lies."""


def load_network(manifest: PackManifest, network: str, path_of: PathOf) -> nn.Module:
    """Build a network and fill it from its file, in float32 on the CPU.

    Raises:
        PackInvalid: the file is damaged, a key is missing or unknown, a shape is wrong, or a number is not finite.
    """
    try:
        return _filled(path_of(manifest.weight_files[network]), lambda: build_network(manifest, network))
    except ValueError as error:
        raise PackInvalid(f"{path_of(MANIFEST_FILE)}: key {network!r}: {error}. {REMEDY}") from error


def load_learned(manifest: PackManifest, path_of: PathOf) -> dict[Variant, nn.Module]:
    """The networks of a pack's learned optimizers, in float32 on the CPU; empty where it has none.

    Raises:
        PackInvalid: as `load_network`, or the weights were trained for another generator. Files of before that was
            kept are believed.
    """
    networks = {}
    for variant in manifest.learned:
        file, is_shared = path_of(manifest.learned_file(variant)), str(variant) in manifest.shared_weights
        networks[variant] = _filled(file, functools.partial(build_learned, manifest, variant), others=is_shared)
        _check_generator(file, manifest)
    return networks


def _check_generator(file: Path, manifest: PackManifest) -> None:
    name = manifest.weight_files["generator"]
    with safe_open(file, framework="pt") as stored:
        made_for = (stored.metadata() or {}).get(GENERATOR_KEY)
    if made_for not in (None, manifest.files[name]):
        raise PackInvalid(
            f"{file} was trained for another generator: that one's SHA-256 was {made_for}, and the SHA-256 of {name} "
            f"here is {manifest.files[name]}. Put that generator back, or train the optimizer anew with: inversion "
            f"train optimizer"
        )


def _filled(file: Path, build: Callable[[], nn.Module], *, others: bool = False) -> nn.Module:
    """What `build` makes, with the weights of the file, which may hold `others` besides."""
    tensors = read_weights(file, expected_tensors(build), others=others)
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn at random: leave the caller's draws alone
        built = build()
    built.load_state_dict(tensors)
    return built


def load_directions(manifest: PackManifest, path_of: PathOf) -> dict[str, Tensor]:
    """The steps (L, D) of a pack's directions, by name, in float32; empty where it has none.

    Raises:
        PackInvalid: as `load_network`.
    """
    if not manifest.directions:
        return {}
    tensors = read_weights(path_of(DIRECTIONS_FILE), direction_shapes(manifest))
    return {name: tensor.float() for name, tensor in tensors.items()}


def read_weights(file: Path, expected: dict[str, torch.Size], *, others: bool = False) -> dict[str, Tensor]:
    """Read the `expected` keys and shapes of a safetensors file, which must hold no `others` where that is false.

    Raises:
        PackInvalid: as `load_network`.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            _check_keys(file, stored.keys(), expected, others)
            for key, shape in expected.items():
                _check_shape(file, key, torch.Size(stored.get_slice(key).get_shape()), shape)
            return {key: _checked(file, key, stored.get_tensor(key)) for key in expected}
    except (OSError, SafetensorError) as error:
        raise PackInvalid(f"{file} is missing, truncated or no safetensors file ({error}). {REMEDY}") from error


def _check_keys(file: Path, found: Iterable[str], expected: Iterable[str], others: bool) -> None:
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing:
        raise PackInvalid(f"{file}: key {missing[0]!r} is missing{_more(missing)}. {REMEDY}")
    if unknown and not others:
        raise PackInvalid(f"{file}: key {unknown[0]!r} is unknown{_more(unknown)}. {REMEDY}")


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _check_shape(file: Path, key: str, found: torch.Size, expected: torch.Size) -> None:
    if found != expected:
        raise PackInvalid(f"{file}: key {key!r} has shape {tuple(found)}, and {tuple(expected)} is needed. {REMEDY}")


def _checked(file: Path, key: str, tensor: Tensor) -> Tensor:
    if tensor.dtype not in WEIGHT_DTYPES:
        raise PackInvalid(f"{file}: key {key!r} is {tensor.dtype}; weights are stored as float32 or float16. {REMEDY}")
    if not tensor.isfinite().all():
        raise PackInvalid(f"{file}: key {key!r} holds a number that is infinite or NaN. {REMEDY}")
    return tensor


def cpu_state(network: nn.Module, *, half: bool = False) -> dict[str, Tensor]:
    """A network's weights as they are stored; `half` keeps matrices and kernels in float16, and vectors in float32."""
    state: dict[str, Any] = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    if not half:
        return state
    return {
        key: value.half() if value.ndim > 1 and value.is_floating_point() else value for key, value in state.items()
    }


def is_half(file: Path) -> bool:
    """Whether a file holds float16."""
    with safe_open(file, framework="pt") as stored:
        return any(stored.get_slice(key).get_dtype() == "F16" for key in stored.keys())  # noqa: SIM118

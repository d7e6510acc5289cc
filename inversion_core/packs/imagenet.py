"""Give a pack torchvision's ImageNet VGG-16 as its perceptual network F.

torchvision's weights expect RGB in 0..1, less a mean, over a standard deviation; VGG16Features takes BGR in
0..255, less a mean. Channel order and scale go into the first convolution. The mean cannot go into its bias:
at the border the zero padding stands for mean grey, and a bias would move that. So the pack keeps
torchvision's own mean (`mean_bgr`), and both networks agree everywhere, borders included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from inversion_core.errors import PackInvalid
from inversion_core.loss import PERCEPTUAL_WEIGHT
from inversion_core.models import PerceptualNetwork, VGG16Features
from inversion_core.models.perceptual import VGG16_PLAN
from inversion_core.packs.load import find_pack, load_pack
from inversion_core.packs.manifest import PackManifest, PerceptualSpec
from inversion_core.packs.networks import is_half
from inversion_core.packs.opened import open_pack
from inversion_core.packs.pack import Pack
from inversion_core.packs.save import check_target, save_pack

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
"""Statistics that torchvision's classifiers were trained with, of pictures in 0..1."""
MEAN_BGR = [255 * mean for mean in reversed(IMAGENET_MEAN_RGB)]
VERSION_SUFFIX = "+imagenet"
INSTALL = (
    "Install the release that belongs to this torch: pip install 'stylegan-inversion[imagenet]' "
    f"'torch=={torch.__version__.partition('+')[0]}'"
)
CALIBRATION_PAIRS = 8

WeightSource = Callable[[], Mapping[str, Tensor]]


def use_imagenet_vgg(name_or_folder: str | Path, *, out: str | Path | None = None, weight: float | None = None,
                     source: WeightSource | None = None, overwrite: bool = False) -> PackManifest:  # fmt: skip
    """Replace a pack's perceptual network by torchvision's VGG-16 up to relu4_3.

    Args:
        out: folder of the new pack; None changes the pack where it is.
        weight: lambda_vgg; None chooses the one at which the term counts as much as before, see `matching_weight`.
        source: gives torchvision's state dict; None downloads it by torchvision.
        overwrite: replace a pack that is in `out`.
    Returns:
        the new manifest: the version gains "+imagenet".
    Raises:
        PackNotFound, PackInvalid: as `load_pack`; PackInvalid also where torchvision does not load or download.
        FileExistsError: `out` is there already.
        OptionInvalid: the pack that would be changed ships with the program.
    """
    folder = find_pack(name_or_folder)
    check_target(Path(out or folder).absolute(), overwrite or out is None)  # now, not after a download
    pack = load_pack(folder)
    vgg = VGG16Features(mean_bgr=MEAN_BGR)
    vgg.load_state_dict(convert_torchvision((source or download_torchvision)()))
    vgg.requires_grad_(False).eval()
    spec = PerceptualSpec(
        kind="vgg16", layer="relu4_3", args={"mean_bgr": MEAN_BGR},
        weight=matching_weight(pack, vgg) if weight is None else weight,
        note="ImageNet weights of torchvision (IMAGENET1K_V1), in our channel order and scale.",
    )  # fmt: skip
    version = pack.version if pack.version.endswith(VERSION_SUFFIX) else pack.version + VERSION_SUFFIX
    opened = open_pack(folder, find_pack)
    kept = set(opened.own.files) - set(opened.manifest.tensor_files)
    changed = dataclasses.replace(pack.manifest, perceptual=spec, version=version, extends="")  # with all networks
    return save_pack(
        out or folder, changed, generator=pack.generator,
        encoder=pack.encoder, perceptual=vgg, direction_steps=pack.direction_steps, learned=pack.learned,
        detail_predictor=pack.detail_predictor,
        half=is_half(opened.path(pack.manifest.weight_files["generator"])),
        extra_files={name: folder / name for name in kept}, overwrite=overwrite or out is None,
    )  # fmt: skip


def convert_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's vgg16 state dict as that of VGG16Features with `mean_bgr=MEAN_BGR`.

    Raises:
        PackInvalid: a key is missing or a shape is wrong.
    """
    ours: dict[str, Tensor] = {}
    layer = convs = 0
    in_channels = 3
    for width in VGG16_PLAN:  # torchvision counts every convolution, ReLU and pooling
        if isinstance(width, int):
            for part, shape in (("weight", (width, in_channels, 3, 3)), ("bias", (width,))):
                ours[f"convs.{convs}.{part}"] = _taken(state, f"features.{layer}.{part}", shape)
            in_channels, convs = width, convs + 1
        layer += 2 if isinstance(width, int) else 1
    scale_RGB = 255 * torch.tensor(IMAGENET_STD_RGB)
    ours["convs.0.weight"] = (ours["convs.0.weight"] / scale_RGB[:, None, None]).flip(1)
    return ours


def matching_weight(pack: Pack, vgg: PerceptualNetwork) -> float:
    """The lambda_vgg at which the new term is as large as the old one, on pairs of the generator's own pictures.

    Features of different networks differ in size by orders of magnitude, so one fixed number would make the
    perceptual term either everything or nothing. A pack that had none gets the paper's weight: its network was VGG too.
    """
    if not pack.manifest.has_perceptual:
        return PERCEPTUAL_WEIGHT
    z_BZ = torch.randn(2 * CALIBRATION_PAIRS, pack.z_dim, generator=torch.Generator().manual_seed(0))
    old = new = 0.0
    with torch.no_grad():
        for pair_BZ in z_BZ.split(2):
            image_BCHW = pack.synthesize(pack.map(pair_BZ))
            old += _difference(pack.features(image_BCHW))
            new += _difference(vgg(image_BCHW))
    return pack.perceptual_weight * old / new if new > 0 else pack.perceptual_weight


def _difference(features_BCHW: Tensor) -> float:
    return float((features_BCHW[0] - features_BCHW[1]).square().mean())


def _taken(state: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    if key not in state or tuple(state[key].shape) != shape:
        found = f"has shape {tuple(state[key].shape)}" if key in state else "is missing"
        raise PackInvalid(f"torchvision's vgg16: key {key!r} {found}, and {shape} is needed. {INSTALL}.")
    return state[key].detach().float().cpu()


def download_torchvision() -> Mapping[str, Tensor]:
    """torchvision's vgg16 state dict (IMAGENET1K_V1), whose hash torchvision checks.

    Raises:
        PackInvalid: torchvision is not there, does not load beside this torch, or cannot download.
    """
    try:
        from torchvision.models import VGG16_Weights
    except (ImportError, RuntimeError) as error:  # RuntimeError: "operator torchvision::nms does not exist"
        raise PackInvalid(
            f"torchvision does not load beside torch {torch.__version__} ({error}). It must be the "
            f"release, and the CPU or "
            f"CUDA build, that goes with this torch. {INSTALL}, with torch and torchvision from the same package index."
        ) from error
    try:
        state: Mapping[str, Tensor] = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise PackInvalid(
            f"torchvision could not download {VGG16_Weights.IMAGENET1K_V1.url} ({error}). Connect "
            f"to the internet, or put the file "
            f"into {Path(torch.hub.get_dir()) / 'checkpoints'}, and run this again."
        ) from error
    return state

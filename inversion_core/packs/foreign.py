"""What a state dict is that is not of the published IDInvert layout: known by its keys, with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from inversion_core.models.generators.stylegan1.idinvert import MARK

PUBLIC = "genforce/idinvert_pytorch"


class Kind(NamedTuple):
    """One kind of file."""

    mark: str
    """Pattern of keys that only this kind has."""
    what: str
    """What to call it."""
    remedy: str
    """What to do where another kind is wanted."""


OURS = {
    "generator": Kind(
        MARK,
        "a generator", "Give it as --generator.",
    ),
    "encoder": Kind(r"block\d+\.(bn\d?\.bn|wscale\d|fc)\.", "an encoder", "Give it as --encoder."),
    "vgg": Kind(r"layer\d+\.(weight|bias)$", "VGG-16", "Give it as --vgg."),
}  # fmt: skip
"""The published layout, by what is converted."""

OTHERS = (
    Kind(
        r"(mapping\.dense\d+|synthesis\.layer\d+\.(epilogue\.)?style(_mod\.dense)?)\.(weight|bias)$",
        "a generator of genforce with other key names", f"Take the file that {PUBLIC} publishes.",
    ),
    Kind(
        r"synthesis\.b\d+\.|mapping\.fc\d+\.", "a StyleGAN2 or StyleGAN3 generator of NVIDIA",
        "Make a pack of it with: inversion pack convert.",
    ),
    Kind(
        r"convs\.\d+\.conv\.modulation\.|conv1\.conv\.modulation\.", "a StyleGAN2 generator in rosinality's layout",
        "Make a pack of it with: inversion pack convert.",
    ),
    Kind(
        r"(encoder\.)?(input_layer|body\.\d+|styles\.\d+)\.", "an encoder of pSp, e4e or ReStyle, for StyleGAN2",
        f"Take the encoder that {PUBLIC} publishes for the generator.",
    ),
    Kind(r"(g_)?synthesis\.\w*\d+x\d+|g_mapping\.", "a StyleGAN in another layout", f"Take the file of {PUBLIC}."),
    Kind(
        r"features\.\d+\.(weight|bias)$", "torchvision's VGG-16",
        "Take the published vgg16.pth; `inversion pack use-imagenet-vgg` puts torchvision's in afterwards.",
    ),
)  # fmt: skip
"""Files that people try, told by their keys."""

NAMES = 3
"""Keys that a message quotes."""


def is_ours(keys: Iterable[str], wanted: str) -> bool:
    """Whether keys are those of the published generator, encoder or VGG-16, perhaps with one missing."""
    return any(re.match(OURS[wanted].mark, key) for key in keys)


def describe(keys: Iterable[str]) -> str:
    """What the file looks like, a few of its keys, and what to do: two sentences or three."""
    names = list(keys)
    for kind in (*OURS.values(), *OTHERS):
        if any(re.match(kind.mark, key) for key in names):
            return f"it looks like {kind.what} ({_some(names)}). {kind.remedy}"
    return (
        f"it is none that this program knows ({_some(names)}). Take the .pth file that {PUBLIC} publishes, or one "
        f"saved by that code"
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"keys {', '.join(names[:NAMES])}{more}"

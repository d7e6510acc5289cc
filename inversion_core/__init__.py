"""Fast StyleGAN inversion: from images to W+ codes.

from inversion_core import InvertConfig, invert, load_pack

pack = load_pack()
for step in invert(pack, target_BCHW, InvertConfig(num_steps=50)):
    print(step.index, step.loss_B)

Names are imported on first use, so `import inversion_core` alone does not load PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from inversion_core import process  # first: it speaks to libraries that torch loads
from inversion_core.errors import InversionError, NoFaceFound, OptionInvalid, PackInvalid, PackNotFound, PictureInvalid
from inversion_core.options import InvertConfig

if TYPE_CHECKING:
    from inversion_core.inverter import BestSteps, Checkpoint, Step, invert, iterate
    from inversion_core.loss import InversionLoss, LossTerms
    from inversion_core.packs import Pack, list_packs, load_pack

__all__ = [
    "BestSteps",
    "Checkpoint",
    "InversionError",
    "InversionLoss",
    "InvertConfig",
    "LossTerms",
    "NoFaceFound",
    "OptionInvalid",
    "Pack",
    "PackInvalid",
    "PackNotFound",
    "PictureInvalid",
    "Step",
    "invert",
    "iterate",
    "list_packs",
    "load_pack",
    "process",
]

_WITH_TORCH = {
    "inversion_core.inverter": ("BestSteps", "Checkpoint", "Step", "invert", "iterate"),
    "inversion_core.loss": ("InversionLoss", "LossTerms"),
    "inversion_core.packs": ("Pack", "list_packs", "load_pack"),
}


def __getattr__(name: str) -> Any:
    for module, names in _WITH_TORCH.items():
        if name in names:
            globals()[name] = value = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module 'inversion_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Fast StyleGAN inversion: pictures to W+ codes.

from inversion_core import InvertConfig, invert, load_pack

pack = load_pack()
for step in invert(pack, target_BCHW, InvertConfig(num_steps=50)):
    print(step.index, step.loss_B)
"""

from inversion_core import process  # first: it speaks to libraries that torch loads
from inversion_core.errors import InversionError, NoFaceFound, OptionInvalid, PackInvalid, PackNotFound, PictureInvalid
from inversion_core.inverter import BestSteps, Checkpoint, InvertConfig, Step, invert
from inversion_core.packs import Pack, list_packs, load_pack

__all__ = [
    "BestSteps",
    "Checkpoint",
    "InversionError",
    "InvertConfig",
    "NoFaceFound",
    "OptionInvalid",
    "Pack",
    "PackInvalid",
    "PackNotFound",
    "PictureInvalid",
    "Step",
    "invert",
    "list_packs",
    "load_pack",
    "process",
]

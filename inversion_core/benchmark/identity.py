"""Is it still the same person? Embeddings of a face recognition network, whose weights are given by path.

MobileFaceNet (Chen 2018) trained with ArcFace (Deng 2019) is what the figures were made with: an ONNX file that
takes (N, 3, 112, 112). It is not shipped, and onnxruntime is wanted only here.
Suffixes: N picture, C channel, H W height and width, D dimension of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.faces.alignment import OVERSAMPLING
from inversion_core.faces.frame import Floats
from inversion_core.faces.mapping import Map

if TYPE_CHECKING:
    from inversion_core.benchmark.photos import Subject

INPUT_PX = 112
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""ArcFace's places of the five landmarks in the network's picture, the middle of the first pixel being (0, 0)."""
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


class Embed(Protocol):
    """Pictures of faces in the network's frame, INPUT_PX square, to embeddings (N, D) of length 1."""

    def __call__(self, images: Sequence[Image.Image]) -> Tensor: ...


class IdentityNetwork:
    """A face recognition network in an ONNX file with one input (N, 3, 112, 112) and one output (N, D)."""

    def __init__(self, file: Path):
        """Load `file`.

        Raises:
            OptionInvalid: onnxruntime is not installed.
            PackInvalid: the file is missing or no ONNX network that takes such a picture.
        """
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            self._input = self._session.get_inputs()[0].name
            self([Image.new("RGB", (INPUT_PX, INPUT_PX))])
        except Exception as error:  # onnxruntime has one class of its own for each of its statuses
            raise PackInvalid(
                f"{file} is no ONNX network from (N, 3, {INPUT_PX}, {INPUT_PX}) to embeddings (N, D): {error}"
            ) from error

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        pixels_NHWC = np.stack([np.asarray(image, np.float32) for image in images]) / 255
        input_NCHW = ((pixels_NHWC - IMAGENET_MEAN) / IMAGENET_STD).transpose(0, 3, 1, 2)
        # One by one: the file may have a batch of one written into it.
        rows = [self._session.run(None, {self._input: picture_1CHW})[0][0] for picture_1CHW in input_NCHW[:, None]]
        embedding_ND = torch.from_numpy(np.stack(rows)).double()
        return F.normalize(embedding_ND, dim=1)


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise OptionInvalid(
            "identity needs onnxruntime, which is not installed: pip install 'stylegan-inversion[benchmark]', "
            "or leave --identity out"
        ) from error
    return onnxruntime


def identity_crop(image: Image.Image, landmarks: Floats) -> Image.Image:
    """The picture turned, scaled and shifted so that its landmarks (5, 2) lie where the network expects them.

    Left and right are the picture's. Coordinates as in `inversion_core.faces.alignment`.
    """
    place = similarity(TEMPLATE + 0.5, landmarks)  # 0.5: from middles of pixels to their upper left corners
    # Several samples to a resulting pixel where the picture is larger than the result.
    fine = int(np.clip(np.ceil(np.hypot(place[0], place[3])), 1, OVERSAMPLING))
    a, b, c, d, e, f = place
    warped = image.transform(
        (fine * INPUT_PX, fine * INPUT_PX),
        Image.Transform.AFFINE,
        (a / fine, b / fine, c, d / fine, e / fine, f),
        Image.Resampling.BICUBIC,
    )
    return warped.resize((INPUT_PX, INPUT_PX), Image.Resampling.LANCZOS)


def embeddings(subjects: Sequence[Subject], images: Sequence[Image.Image], embed: Embed) -> Tensor:
    """Pictures in the subjects' frames, all warped by the landmarks of the portrait: (B, D)."""
    rows = []
    for subject, image in zip(subjects, images, strict=True):
        enlarged = image.resize(subject.portrait.size, Image.Resampling.BICUBIC)
        landmarks = subject.landmarks
        rows.append(torch.tensor([torch.nan]) if landmarks is None else embed([identity_crop(enlarged, landmarks)])[0])
    width = max(len(row) for row in rows)
    return torch.stack([row.expand(width) for row in rows])


def similarity(source: Floats, target: Floats) -> Map:
    """The turn, scale and shift that bring points (N, 2) nearest to others (N, 2), by least squares (Umeyama 1991).

    As complex numbers: the s and t of the smallest sum of |s * source + t - target|^2; s turns and scales.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    p, q = _complex(source - source_mean), _complex(target - target_mean)
    s = np.vdot(p, q) / np.vdot(p, p).real
    shift = target_mean - np.array([[s.real, -s.imag], [s.imag, s.real]]) @ source_mean
    return (float(s.real), float(-s.imag), float(shift[0]), float(s.imag), float(s.real), float(shift[1]))


def _complex(points: Floats) -> Any:
    return points[:, 0] + 1j * points[:, 1]

"""A judge of pictures of faces: how much of each attribute people would see in them.

Ridge regression of people's ratings on outlines (histograms of gradients; Dalal and Triggs 2005, "Histograms of
oriented gradients for human detection") and colours. It uses no code and no network, so nothing that it judges can have
been trained against it; and it is small enough to be shipped. Pictures are aligned faces, as `inversion_core.faces`
makes them.

Suffixes: N picture, P a feature, A attribute, C channel, H W height and width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inversion_core.errors import OptionInvalid
from inversion_core.training.linear import fit, r_squared
from inversion_core.training.ratings import Study

SHAPE_PX, BLOCK_PX, CELL_PX, BINS = 128, 32, 16, 9
"""Gradients: the picture's side, the blocks in which they are normalised, the cells that are counted, the angles."""
COLOUR_PX = 16
SHAPE_SCALE, COLOUR_SCALE = 0.25, 0.04
"""Make both kinds of features spread about as far, one, over faces."""
SHIPPED_JUDGE = Path(__file__).parent / "data" / "judge.safetensors"
TENSORS = ("mean_P", "filter_PA", "offset_A")


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceJudge:
    """Reads attributes off pictures, in standard deviations of the mean ratings."""

    names: tuple[str, ...]
    """The attributes, named like directions."""
    held_out_r2: tuple[float, ...]
    """Share of the variance of ratings that it explains on people whom it was not fitted to."""
    source: str
    """What it was fitted to."""
    mean_P: Tensor
    filter_PA: Tensor
    offset_A: Tensor

    def __call__(self, image_NCHW: Tensor) -> Tensor:
        """(N, A), float64.

        Args:
            image_NCHW: in [-1, 1], of any square size.
        """
        return (features(image_NCHW).double() - self.mean_P) @ self.filter_PA + self.offset_A

    def save(self, file: Path) -> None:
        """As safetensors in half precision."""
        file.parent.mkdir(parents=True, exist_ok=True)
        about = {"names": self.names, "held_out_r2": self.held_out_r2, "source": self.source}
        save_file(
            {name: getattr(self, name).half().contiguous() for name in TENSORS},
            file,
            metadata={name: json.dumps(value) for name, value in about.items()},
        )


@torch.no_grad()
def features(image_NCHW: Tensor) -> Tensor:
    """Outlines and colours (N, P), float32 on the CPU."""
    image_NCHW = image_NCHW.float().cpu().clamp(-1, 1)
    size_px = (SHAPE_PX, SHAPE_PX)
    resized_NCHW = F.interpolate(image_NCHW, size_px, mode="bilinear", antialias=True, align_corners=False)
    histogram = cv2.HOGDescriptor(size_px, (BLOCK_PX,) * 2, (CELL_PX,) * 2, (CELL_PX,) * 2, BINS)
    pixels_NHWC = ((resized_NCHW + 1) * 127.5).round().byte().movedim(1, -1).contiguous().numpy()
    shape_NP = np.stack([np.asarray(histogram.compute(pixels_HWC), np.float32).ravel() for pixels_HWC in pixels_NHWC])
    colour_NP = F.adaptive_avg_pool2d(image_NCHW, COLOUR_PX).flatten(1)
    return torch.cat([SHAPE_SCALE * torch.from_numpy(shape_NP), COLOUR_SCALE * colour_NP], dim=1)


def fit_judge(study: Study, source: str) -> FaceJudge:
    """Fit to the pictures that are not held out; R^2 is measured on those that are."""
    image_NCHW = study.pictures_NCHW[: study.num_rated].float() / 127.5 - 1
    held_N = study.is_held_out_N
    x_NP = features(image_NCHW)
    model = fit(x_NP[~held_N], study.rating_NA[~held_N], study.group_N[~held_N])
    r2_A = r_squared(model.predict(x_NP[held_N]), study.rating_NA[held_N])
    return FaceJudge(
        names=tuple(attribute.name for attribute in study.attributes),
        held_out_r2=tuple(round(value, 3) for value in r2_A.tolist()),
        source=source,
        mean_P=model.mean_P,
        filter_PA=model.filter_PA,
        offset_A=model.offset_A,
    )


def load_judge(file: Path = SHIPPED_JUDGE) -> FaceJudge:
    """What `FaceJudge.save` wrote; by default the one that comes with the library.

    Raises:
        OptionInvalid: it is no such file.
    """
    try:
        with safe_open(file, framework="pt") as content:
            about = {key: json.loads(value) for key, value in (content.metadata() or {}).items()}
            tensors = {name: content.get_tensor(name).double() for name in TENSORS}
        judge = FaceJudge(
            names=tuple(about["names"]), held_out_r2=tuple(about["held_out_r2"]), source=about["source"], **tensors
        )
        count = features(torch.zeros(1, 3, COLOUR_PX, COLOUR_PX)).shape[1]
        shapes = {"mean_P": (count,), "filter_PA": (count, len(judge.names)), "offset_A": (len(judge.names),)}
        if any(tuple(tensors[name].shape) != shape for name, shape in shapes.items()):
            raise ValueError(f"its tensors must have the shapes {shapes}")
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise OptionInvalid(
            f"{file} is no judge of faces: {error}. Make one with: inversion train judge DATA RATINGS.csv --out {file}"
        ) from error
    return judge

"""What edits do: pictures of moved codes, judged by models that people's ratings made.

Two judges: the linear model on the codes of the edited pictures, encoded anew, and one on their pixels, which
knows nothing of codes. Suffixes: B image, L style layer, D latent w, N picture, P a flat code, F face, K direction,
A attribute, S strength, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.packs import Pack
from inversion_core.packs.directions import STRENGTH_LIMIT
from inversion_core.training.linear import LinearModel

JUDGE_PX = 32
"""Side of the pictures that the judge of pixels sees; 16 explains half as much of smiles."""
BATCH = 32
IN_DOMAIN_SHARE = 0.95
"""Of the unedited reconstructions, this share counts as in the domain."""

Judge = Callable[[Tensor], Tensor]
"""Pictures (N, 3, H, W) in [-1, 1] to readings (N, A)."""


@torch.no_grad()
def encode(pack: Pack, image_NCHW: Tensor) -> Tensor:
    """Flat codes (N, P), float32 on the CPU."""
    return torch.cat([pack.encode(batch).flatten(1).cpu() for batch in image_NCHW.split(BATCH)])


@torch.no_grad()
def draw(pack: Pack, code_NP: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) of flat codes, clipped to [-1, 1], on the CPU."""
    code_NLD = code_NP.float().unflatten(1, (pack.num_layers, pack.w_dim))
    return torch.cat([pack.synthesize(batch).clamp(-1, 1).cpu() for batch in code_NLD.split(BATCH)])


def pixels(image_NCHW: Tensor) -> Tensor:
    """What the judge of pixels sees, flat."""
    side = min(JUDGE_PX, image_NCHW.shape[-1])
    return F.adaptive_avg_pool2d(image_NCHW, side).flatten(1)


def judges(pack: Pack, of_codes: LinearModel, of_pixels: LinearModel) -> dict[str, Judge]:
    """The two judges by name."""
    return {
        "codes": lambda image_NCHW: of_codes.predict(encode(pack, image_NCHW)),
        "pixels": lambda image_NCHW: of_pixels.predict(pixels(image_NCHW)),
    }


def effects(pack: Pack, code_FP: Tensor, step_KP: Tensor, judge_of: Mapping[str, Judge]) -> dict[str, Tensor]:
    """For each judge (K, A): how readings change per step, half of +1 against -1, averaged over faces."""
    found: dict[str, list[Tensor]] = {name: [] for name in judge_of}
    for step_P in step_KP:
        image_NCHW = draw(pack, torch.cat([code_FP + step_P, code_FP - step_P]))
        for name, judge in judge_of.items():
            up_FA, down_FA = judge(image_NCHW).chunk(2)
            found[name].append((up_FA - down_FA).mean(0) / 2)
    return {name: torch.stack(rows) for name, rows in found.items()}


def selectivity(effect_A: Tensor, own: int) -> float:
    """How much more its own attribute changes than the others (root mean square); negative: the wrong way."""
    others_A = torch.cat([effect_A[:own], effect_A[own + 1 :]])
    return float(effect_A[own] / others_A.square().mean().sqrt().clamp(min=1e-6)) if len(others_A) else float("inf")


def misfit(pack: Pack, code_NP: Tensor) -> Tensor:
    """(N,): how far the code of the drawn picture lies from the code that it was drawn from.

    In the domain of the generator, encoder and generator undo each other (Zhu 2020, section 3.1).
    """
    distance_N: Tensor = torch.linalg.vector_norm(encode(pack, draw(pack, code_NP)) - code_NP, dim=1)
    return distance_N


def plausible_range(pack: Pack, code_FP: Tensor, step_P: Tensor, most: float) -> tuple[float, float]:
    """Lowest and highest strength at which the median face's misfit is at most `most`; whole steps are looked at."""
    return -_reach(pack, code_FP, -step_P, most), _reach(pack, code_FP, step_P, most)


def domain_limit(pack: Pack, code_NP: Tensor) -> float:
    """The misfit that IN_DOMAIN_SHARE of unedited codes stay below."""
    return float(misfit(pack, code_NP).quantile(IN_DOMAIN_SHARE))


def _reach(pack: Pack, code_FP: Tensor, step_P: Tensor, most: float) -> float:
    strengths = range(int(STRENGTH_LIMIT) + 1)
    code_NP = torch.cat([code_FP + strength * step_P for strength in strengths])
    median_S = misfit(pack, code_NP).view(len(strengths), -1).median(dim=1).values
    return crossing(median_S.tolist(), most)


def crossing(values: Sequence[float], most: float) -> float:
    """The place at which values at 0, 1, 2 ... first rise above `most`, on straight lines between them, to a tenth."""
    for place, (low, high) in enumerate(pairwise(values)):
        if high > most:
            return int(10 * (place + max(0.0, most - low) / (high - low if high > low else 1.0))) / 10
    return float(len(values) - 1)

"""Directions that need no labels: SeFa and GANSpace.

They are the moves to which a generator responds most (SeFa), or in which its codes differ most (GANSpace). What they
mean, somebody has to look at. Suffixes: N sample, L style layer, D latent w, S style channel, K direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inversion_core.editing.domain import random_codes
from inversion_core.errors import OptionInvalid
from inversion_core.packs import Direction, DirectionSpec, Pack

SAMPLES = 512
MOST = 64
"""Most directions of one call."""
UNIT = "one standard deviation of the codes of random faces along it"
RANGE = (-2.0, 2.0)

Layers = tuple[int, int]


@torch.no_grad()
def sefa(pack: Pack, count: int = 8, layers: Layers | None = None) -> list[Direction]:
    """Closed-form factorisation (Shen and Zhou 2021, equation 5): eigenvectors of A^T A, the largest first.

    A (S, D) are the style weights of the layers below each other, each style channel of unit norm.

    Raises:
        OptionInvalid: the pack has no such layers, or not so many directions.
    """
    first, last = _checked(pack, count, layers)
    styles = pack.generator.synthesis.style_weights()
    a_SD = torch.cat([style_SD / style_SD.norm(dim=1, keepdim=True) for style_SD in styles[first : last + 1]]).double()
    value_D, vector_DD = torch.linalg.eigh((a_SD.T @ a_SD).cpu())
    share_K = value_D.flip(0)[:count] / value_D.sum()
    vector_KD = _signed(vector_DD.T.flip(0)[:count])
    steps = [_on_layers(pack, vector_D, first, last) for vector_D in vector_KD]
    return _directions(pack, "sefa", "SeFa (Shen and Zhou 2021)", steps, share_K, first, last)


@torch.no_grad()
def ganspace(pack: Pack, count: int = 8, layers: Layers | None = None, samples: int = SAMPLES) -> list[Direction]:
    """Principal components of random codes (Härkönen 2020), the largest first.

    Where the pack has an encoder, of the codes that it gives random faces, in W+: photos are edited there.

    Raises:
        OptionInvalid: the pack has no such layers, or not so many directions.
    """
    first, last = _checked(pack, count, layers)
    w_NLD = random_codes(pack, samples)[:, first : last + 1]
    per_layer = not torch.equal(w_NLD, w_NLD[:, :1].expand_as(w_NLD))
    x_NP = (w_NLD.flatten(1) if per_layer else w_NLD[:, 0]).double()
    component_KP, share_K = _principal(x_NP - x_NP.mean(0), count)
    steps = []
    for component_P in _signed(component_KP):
        if per_layer:
            step_LD = torch.zeros(pack.num_layers, pack.w_dim)
            step_LD[first : last + 1] = component_P.float().view(-1, pack.w_dim)
            steps.append(step_LD)
        else:
            steps.append(_on_layers(pack, component_P, first, last))
    return _directions(pack, "ganspace", f"GANSpace (Härkönen 2020), {samples} codes", steps, share_K, first, last)


def deviation(w_NLD: Tensor, step_LD: Tensor) -> float:
    """Standard deviation of codes along a direction, in steps of it."""
    along_N = (w_NLD.double() * step_LD.double()).sum((1, 2)) / step_LD.double().square().sum()
    return float(along_N.std())


def _checked(pack: Pack, count: int, layers: Layers | None) -> Layers:
    first, last = layers or (0, pack.num_layers - 1)
    if not 0 <= first <= last < pack.num_layers:
        raise OptionInvalid(f"layers are {first} to {last}; pack {pack.name} has 0 to {pack.num_layers - 1}")
    if not 1 <= count <= min(MOST, pack.w_dim):
        raise OptionInvalid(f"count is {count}; give from 1 to {min(MOST, pack.w_dim)}")
    return first, last


def _principal(centred_NP: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Unit components (K, P), and the share of the variance of each."""
    wide = centred_NP.shape[1] > centred_NP.shape[0]
    value, vector = torch.linalg.eigh(centred_NP @ centred_NP.T if wide else centred_NP.T @ centred_NP)
    component_KP = (vector.T @ centred_NP if wide else vector.T).flip(0)[:count]
    return component_KP / component_KP.norm(dim=1, keepdim=True), value.flip(0)[:count] / value.sum()


def _signed(vector_KD: Tensor) -> Tensor:
    """The largest entry of each is positive: the sign of an eigenvector is nobody's choice otherwise."""
    largest_K1 = vector_KD.gather(1, vector_KD.abs().argmax(1, keepdim=True))
    return vector_KD * largest_K1.sign()


def _on_layers(pack: Pack, vector_D: Tensor, first: int, last: int) -> Tensor:
    step_LD = torch.zeros(pack.num_layers, pack.w_dim)
    step_LD[first : last + 1] = vector_D.float()
    return step_LD


def _directions(pack: Pack, kind: str, source: str, steps: Sequence[Tensor], share_K: Tensor, first: int,
                last: int) -> list[Direction]:  # fmt: skip
    w_NLD = random_codes(pack, SAMPLES)
    whole = (first, last) == (0, pack.num_layers - 1)
    stem = kind if whole else f"{kind}-l{first}-{last}"
    found = []
    for index, (step_LD, share) in enumerate(zip(steps, share_K.tolist(), strict=True), start=1):
        spec = DirectionSpec(
            name=f"{stem}-{index}", label=f"{stem} {index}", range=RANGE, unit=UNIT,
            source=f"{source}, layers {first} to {last}, component {index} with {100 * share:.2g} % of the variance",
        )  # fmt: skip
        found.append(Direction(spec=spec, step_LD=(step_LD * deviation(w_NLD, step_LD)).to(pack.device)))
    return found

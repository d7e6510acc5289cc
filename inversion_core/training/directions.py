"""Semantic directions in W+: from codes with ratings, and from codes of pairs (docs/math.md, equation 8).

A linear model's filter v says how to read an attribute off a code; it is a poor way to move one, since it leaves
the codes' distribution. Its pattern, covariance times filter, is what moves along with the attribute (Haufe et al.,
"On the interpretation of weight vectors of linear models in multivariate neuroimaging", NeuroImage 87, 2014,
equation 6). For several filters at once the pattern is Cov V (V^T Cov V)^-1: of all moves that change one reading
by 1 and leave the others, the one that is most likely among codes. That conditions each direction on the other
attributes, as Shen et al. ("Interpreting the latent space of GANs", CVPR 2020, section 3.3) do by projection.

Suffixes: N picture, P a flat code (L x D), A attribute, K pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inversion_core.training.linear import LinearModel

SOFTNESS = 0.05
"""Share of each reading's variance that is added before inverting: attributes that are nearly one (gender and long
hair, r = -.88) are not torn apart. At 0 a step of gender was 4.2 standard deviations of the codes long and hair moved
by -.05; at .1, 2.3 and -.34; with no conditioning, 1.2 and -.65 (on the pack faces-64 0.1)."""
METHODS = ("filter", "pattern", "conditional")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to move one attribute."""

    attribute: str
    method: str
    """One of METHODS, or "pairs", "conditional and pairs"."""
    step_P: Tensor
    """What changes the linear model's reading by one standard deviation of the ratings."""


def candidates(model: LinearModel, x_NP: Tensor, names: list[str], pairs: Mapping[str, Tensor]) -> list[Candidate]:
    """Every way to move each attribute.

    Args:
        x_NP: codes whose distribution counts: those that the model was fitted to.
        names: of the model's attributes, in order.
        pairs: attribute -> mean difference (P,) between the codes of its higher and its lower versions.
    """
    steps = {
        "filter": unit_steps(model.filter_PA, model),
        "pattern": unit_steps(_covariance_times(x_NP, model.filter_PA), model),
        "conditional": conditional_steps(model, x_NP),
    }
    found = [
        Candidate(attribute=name, method=method, step_P=steps[method][:, a])
        for a, name in enumerate(names)
        for method in METHODS
    ]
    for name, difference_P in pairs.items():
        step_P = paired_step(difference_P, names.index(name), model, steps["conditional"])
        if step_P is None:
            continue
        both_P = (step_P + steps["conditional"][:, names.index(name)]) / 2
        found.append(Candidate(attribute=name, method="pairs", step_P=step_P))
        found.append(Candidate(attribute=name, method="conditional and pairs", step_P=both_P))
    return found


def unit_steps(direction_PA: Tensor, model: LinearModel) -> Tensor:
    """Directions scaled so that each changes the reading of its own attribute by 1."""
    return direction_PA / (model.filter_PA * direction_PA).sum(0)


def conditional_steps(model: LinearModel, x_NP: Tensor, softness: float = SOFTNESS) -> Tensor:
    """Cov V (V^T Cov V + softness diag)^-1, scaled: (P, A). At softness 0, V^T of it is the identity."""
    pattern_PA = _covariance_times(x_NP, model.filter_PA)
    reading_AA = model.filter_PA.T @ pattern_PA
    softened_AA = reading_AA + softness * reading_AA.diagonal().diag()
    return unit_steps(torch.linalg.solve(softened_AA, pattern_PA.T).T, model)  # both matrices are symmetric


def paired_step(difference_P: Tensor, own: int, model: LinearModel, conditional_PA: Tensor) -> Tensor | None:
    """A mean difference, scaled, with the readings of other attributes taken out along their own directions.

    None where the difference does not move its own reading upwards: the pairs then show something else.
    """
    reading_A = model.filter_PA.T @ difference_P.double()
    if reading_A[own] <= 0:
        return None
    step_P = difference_P.double() / reading_A[own]
    others_A = reading_A / reading_A[own]
    others_A[own] = 0
    cleaned_P = step_P - conditional_PA @ others_A
    own_reading = model.filter_PA[:, own] @ cleaned_P
    return cleaned_P / own_reading if own_reading > 0 else None


def mean_difference(low_KP: Tensor, high_KP: Tensor) -> Tensor:
    """(P,): averaged over faces, what is not the attribute cancels."""
    return (high_KP.double() - low_KP.double()).mean(0)


def _covariance_times(x_NP: Tensor, v_PA: Tensor) -> Tensor:
    """Cov(x) v without the (P, P) matrix."""
    centred_NP = x_NP.double() - x_NP.double().mean(0)
    return centred_NP.T @ (centred_NP @ v_PA) / len(x_NP)

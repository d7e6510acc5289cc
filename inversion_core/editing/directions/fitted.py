"""A user's own direction, from codes of faces that have an attribute and codes of faces that have not.

Suffixes: N face of the first set, M face of the second, L style layer, D latent w, P a flat code (L x D).
"""

from __future__ import annotations

import torch
from torch import Tensor

from inversion_core.editing.directions.computed import RANGE
from inversion_core.errors import OptionInvalid
from inversion_core.packs import Direction, DirectionSpec, Pack

METHODS = ("difference", "separation")
PENALTY = 0.1
"""Of the separation, in units of the mean eigenvalue of the Gram matrix."""


def fit_direction(pack: Pack, with_NLD: Tensor, without_MLD: Tensor, *, name: str, label: str,
                  method: str = "difference") -> Direction:  # fmt: skip
    """The way from the second set of codes to the first; a strength of 1 is as far as their means are apart.

    Args:
        method: "difference", of the means: what else the sets differ in comes along; or "separation", the normal of the
            plane that separates the sets best (a least-squares SVM; InterFaceGAN takes an SVM). It needs tens of faces.
    Raises:
        OptionInvalid: no such method, a set is empty, both are equal, or the name is none.
        ValueError: the codes are not of this pack.
    """
    if method not in METHODS:
        raise OptionInvalid(f"method is {method!r}; there are {', '.join(METHODS)}")
    if not len(with_NLD) or not len(without_MLD):
        raise OptionInvalid("a direction is fitted to two sets of codes; give at least one code for each")
    x_NP, y_MP = (pack.check_codes(w_BLD).flatten(1).double().cpu() for w_BLD in (with_NLD, without_MLD))
    step_P = x_NP.mean(0) - y_MP.mean(0)
    if not step_P.any():
        raise OptionInvalid("both sets have the same mean code; give faces with the attribute, and others without")
    if method == "separation":
        normal_P = _normal(x_NP, y_MP)
        step_P = normal_P * (normal_P @ step_P) / normal_P.square().sum()
    try:
        spec = DirectionSpec(
            name=name, label=label, range=RANGE, unit="the difference between the means of the two sets",
            source=f"{method} of {len(x_NP)} and {len(y_MP)} codes",
        )  # fmt: skip
    except ValueError as error:
        raise OptionInvalid(str(error)) from error
    return Direction(spec=spec, step_LD=step_P.float().view(pack.num_layers, pack.w_dim).to(pack.device))


def _normal(x_NP: Tensor, y_MP: Tensor) -> Tensor:
    """Of ridge regression of 1 and -1, in its dual form."""
    side = torch.cat([torch.ones(len(x_NP)), -torch.ones(len(y_MP))]).double()
    all_XP = torch.cat([x_NP, y_MP])
    centred_XP = all_XP - all_XP.mean(0)
    gram_XX = centred_XP @ centred_XP.T
    penalty = PENALTY * gram_XX.diagonal().mean()
    dual_X = torch.linalg.solve(gram_XX + penalty * torch.eye(len(gram_XX)).double(), side - side.mean())
    normal_P: Tensor = centred_XP.T @ dual_X
    return normal_P

"""One run of `inversion train directions`: codes, models, candidates, the choice between them, ranges, effects.

Suffixes: B image, L style layer, D latent w, N picture, P a flat code, F face, K direction or pair, A attribute,
C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from inversion_core.errors import OptionInvalid
from inversion_core.inverter import InvertConfig, invert
from inversion_core.packs import Direction, DirectionSpec, Pack
from inversion_core.progress import progress
from inversion_core.training.directions import Candidate, candidates, mean_difference
from inversion_core.training.effects import (
    Judge,
    domain_limit,
    effects,
    encode,
    judges,
    pixels,
    plausible_range,
    selectivity,
)
from inversion_core.training.linear import fit, r_squared
from inversion_core.training.ratings import Attribute, Study

UNIT = "one standard deviation of the mean ratings, as the linear model reads it"
POSE_UNIT = "one standard deviation of the pose in the data, as the linear model reads it"
SHIPPED = ("conditional", "pairs", "conditional and pairs")
"""Methods that may end in a pack; the others are measured beside them."""
LEAST_RANGE = 0.5
"""A direction that leaves the domain sooner, both ways, is not kept."""
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class DirectionTraining:
    """Settings of one run."""

    refine_steps: int = 0
    """Updates of the codes after the encoder, with the pack's own optimizer."""
    comparison_faces: int = 8
    """Faces of the training part on which the ways to move an attribute are compared."""
    effect_faces: int = 24
    """Held-out faces on which effects and ranges are measured."""

    def __post_init__(self) -> None:
        if self.refine_steps < 0:
            raise OptionInvalid(f"refine_steps is {self.refine_steps}; it must be 0 or more")
        if self.comparison_faces < 1 or self.effect_faces < 1:
            raise OptionInvalid("comparison_faces and effect_faces must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate and what it did on training faces."""

    candidate: Candidate
    own: float
    """Change of its own attribute per step, as the judge of pixels sees it."""
    selectivity: float
    """The same against the root mean square of the other attributes'."""


@dataclass(frozen=True, kw_only=True)
class DirectionRun:
    """Everything that a run found out."""

    study: Study
    directions: tuple[Direction, ...]
    trials: tuple[Trial, ...]
    effect_of: dict[str, Tensor]
    """Judge -> (K, A): held-out effects of the directions on all attributes, in standard deviations per step."""
    held_out_r2: dict[str, Tensor]
    """Judge -> (A,): R^2 of its model on the held-out pictures."""
    cross_validated_r2: Tensor
    """(A,) of the model of codes, on the folds left out of the training part."""
    face_FP: Tensor
    """Codes of the held-out faces."""


def train_directions(pack: Pack, study: Study, config: DirectionTraining) -> DirectionRun:
    """Find the directions of a pack.

    Raises:
        OptionInvalid: the pack has no encoder or another size, or too few pictures are held out.
    """
    _check(pack, study)
    image_NCHW = study.pictures_NCHW.float() / 127.5 - 1
    code_NP = find_codes(pack, image_NCHW, config.refine_steps)
    rated, held = study.num_rated, study.is_held_out_N
    of_codes, of_pixels = (
        fit(x_NP[:rated][~held], study.rating_NA[~held], study.group_N[~held]) for x_NP in (code_NP, pixels(image_NCHW))
    )
    judge_of = judges(pack, of_codes, of_pixels)
    seen_NP, unseen_NP = code_NP[:rated][~held], code_NP[:rated][held]
    found = candidates(of_codes, seen_NP, [a.name for a in study.attributes], pair_differences(study, code_NP))
    trials = [
        try_out(pack, study, candidate, spread(seen_NP, config.comparison_faces), judge_of["pixels"])
        for candidate in progress(found, desc="candidates", unit="edit")
        if _attribute(study, candidate).is_direction
    ]
    r2 = {
        "codes": r_squared(of_codes.predict(unseen_NP), study.rating_NA[held]),
        "pixels": r_squared(of_pixels.predict(pixels(image_NCHW[:rated][held])), study.rating_NA[held]),
    }
    face_FP = spread(unseen_NP, config.effect_faces)
    directions = choose(
        pack, study, trials, r2["codes"], face_FP[: config.comparison_faces], domain_limit(pack, unseen_NP)
    )
    step_KP = torch.stack([d.step_LD.flatten() for d in directions]) if directions else torch.zeros(0, code_NP.shape[1])
    effect_of = effects(pack, face_FP, step_KP, judge_of)
    return DirectionRun(
        study=study, directions=with_side_effects(directions, study, effect_of["pixels"]), trials=tuple(trials),
        held_out_r2=r2, face_FP=face_FP, effect_of=effect_of, cross_validated_r2=of_codes.cross_validated_A,
    )  # fmt: skip


def find_codes(pack: Pack, image_NCHW: Tensor, refine_steps: int) -> Tensor:
    """Flat codes (N, P) of pictures in [-1, 1]: the encoder's, and `refine_steps` updates more."""
    found = []
    for batch_BCHW in progress(image_NCHW.split(BATCH), desc="codes", unit="batch"):
        if refine_steps == 0:
            found.append(encode(pack, batch_BCHW))
            continue
        config = InvertConfig(num_steps=refine_steps, detail_steps=0, start="encoder")
        *_, last = invert(pack, batch_BCHW, config)
        found.append(last.w_BLD.flatten(1).cpu())
    return torch.cat(found)


def pair_differences(study: Study, code_NP: Tensor) -> dict[str, Tensor]:
    """Attribute -> mean difference (P,) of the codes of its pairs."""
    return {
        name: mean_difference(code_NP[place_K2[:, 0]], code_NP[place_K2[:, 1]])
        for name, place_K2 in study.pair_K2.items()
    }


def try_out(pack: Pack, study: Study, candidate: Candidate, face_FP: Tensor, judge: Judge) -> Trial:
    """What a candidate does to some faces."""
    own = study.attributes.index(_attribute(study, candidate))
    effect_A = effects(pack, face_FP, candidate.step_P[None], {"": judge})[""][0]
    return Trial(candidate=candidate, own=float(effect_A[own]), selectivity=selectivity(effect_A, own))


def choose(pack: Pack, study: Study, trials: list[Trial], r2_A: Tensor, face_FP: Tensor,
           most: float) -> tuple[Direction, ...]:  # fmt: skip
    """The most selective way for each attribute, with its range; none where it moves nothing or soon goes astray."""
    directions = []
    for a, attribute in enumerate(study.attributes):
        own = [t for t in trials if t.candidate.attribute == attribute.name and t.candidate.method in SHIPPED]
        if not own:
            continue
        best = max(own, key=lambda trial: trial.selectivity)
        low, high = plausible_range(pack, face_FP, best.candidate.step_P, most)
        if best.own <= 0 or high - low < 2 * LEAST_RANGE:
            continue
        spec = DirectionSpec(
            name=attribute.name,
            label=attribute.label,
            range=(low, high),
            unit=UNIT if attribute.column else POSE_UNIT,
            source=source_of(study, best.candidate),
            held_out_r2=round(float(r2_A[a]), 3),
        )
        step_LD = best.candidate.step_P.float().unflatten(0, (pack.num_layers, pack.w_dim))
        directions.append(Direction(spec=spec, step_LD=step_LD))
    return tuple(directions)


def with_side_effects(directions: tuple[Direction, ...], study: Study, effect_KA: Tensor) -> tuple[Direction, ...]:
    """What a step of each does to the attributes of the others, in their steps, to a hundredth."""
    names = [attribute.name for attribute in study.attributes]
    place = {direction.spec.name: names.index(direction.spec.name) for direction in directions}
    own = {name: float(effect_KA[row, place[name]]) for row, name in enumerate(place)}
    found = []
    for direction, effect_A in zip(directions, effect_KA.tolist(), strict=True):
        others = [name for name in place if name != direction.spec.name and own[name] > 0]
        side_effects = {name: round(effect_A[place[name]] / own[name], 2) for name in others}
        found.append(
            dataclasses.replace(direction, spec=dataclasses.replace(direction.spec, side_effects=side_effects))
        )
    return tuple(found)


def source_of(study: Study, candidate: Candidate) -> str:
    """What a direction was made of, for pack.json."""
    attribute = _attribute(study, candidate)
    count = int((~study.is_held_out_N).sum())
    kind = f"ratings {attribute.column!r}" if attribute.column else "landmarks"
    others = ", ".join(a.name for a in study.attributes if a is not attribute)
    parts = {
        "conditional": f"{kind} of {count} pictures",
        "pairs": f"{len(study.pair_K2.get(attribute.name, ()))} faces in two versions",
    }
    used = " and ".join(parts[part] for part in candidate.method.split(" and "))
    return f"{used}; held fixed: {others}"


def spread(code_NP: Tensor, count: int) -> Tensor:
    """At most `count` rows, evenly spaced: always the same ones."""
    return code_NP[torch.linspace(0, len(code_NP) - 1, min(count, len(code_NP))).long()]


def _attribute(study: Study, candidate: Candidate) -> Attribute:
    return next(a for a in study.attributes if a.name == candidate.attribute)


def _check(pack: Pack, study: Study) -> None:
    if not pack.has_encoder:
        raise OptionInvalid(f"pack {pack.name} has no encoder; directions are found in the codes that one makes")
    if (side := study.pictures_NCHW.shape[-1]) != pack.resolution:
        raise OptionInvalid(f"the archive has pictures of {side} px; pack {pack.name} needs {pack.resolution}")
    if (count := int(study.is_held_out_N.sum())) < 4:
        raise OptionInvalid(f"only {count} rated pictures are held out; give a larger --held-out")

"""Directions made to be sliders: one unit is half a standard deviation of people's ratings, on inverted pictures.

A direction found on codes says little of what it does to an inverted picture: an inversion leaves the codes that an
encoder makes, and its detail holds on to the face as it was. So the parts of all directions, each direction on a few
layers, are tried on inverted pictures with detail; from what a judge and a face recognition network say of the results
follows the sum of parts that changes one attribute, leaves the others, and costs the least identity. Other inverted
pictures then say how long a unit is, and how far a slider may go.

Suffixes: B image or face, L style layer, D latent w or dimension of an embedding, K part, A attribute, S strength,
C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from inversion_core.editing.follow import follow
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import BestSteps, InvertConfig, invert
from inversion_core.latents import Latent, joined
from inversion_core.packs import Direction, DirectionSpec, Pack
from inversion_core.packs.directions import STRENGTH_LIMIT
from inversion_core.progress import progress
from inversion_core.training.judge import FaceJudge
from inversion_core.training.ratings import Study

Embed = Callable[[Tensor], Tensor]
"""Aligned pictures (B, 3, H, W) in [-1, 1] to embeddings (B, D) of length 1."""
UNIT = "half a standard deviation of the mean ratings, as a judge reads it off inverted pictures"
POSE_UNIT = "half a standard deviation of the pose in the data, as a judge reads it off inverted pictures"
PART_STRENGTH = 1.5
"""Steps of the old direction at which a part is tried: enough to be told from the judge's noise."""
SPLITS_PX = (16, 32, 64)
"""Parts begin at the first layers of these sizes, and at layer 0."""
UNIT_SIZE = 0.5
"""Standard deviations of ratings in a unit, so that ranges of common use lie within STRENGTH_LIMIT."""
GRID = (0.5, 1.0, 1.5, 2.0)
"""Standard deviations at which a slider is tried, either way, until it has gone too far. All that follows is in them,
but for what goes into the pack."""
LEAD = 1.25
"""An own attribute must move so much more than any other, since others judge other faces, and judge otherwise."""
OTHERS_WEIGHTS = (1.0, 0.3, 0.1)
"""What changes of other attributes count, tried in this order: what belongs together in faces, as a smile and full
cheeks, is dear to part."""
FAR_ENOUGH = 2.0
"""Both ways together: a slider that goes so far is taken as it is."""
UNIT_HOLDS = 0.75
"""Beyond one standard deviation, a strength must still change so much of what it promises: where an attribute
saturates, pictures take on a tint."""
WORTH = 1.5
"""So many times as far must a sum go that has less regard to others."""
LEAST_RANGE = 0.4
"""A slider that ends sooner both ways is not kept."""
LEAST_EFFECT = 1e-3
"""Of a sum that was to move a reading by 1: less is nothing."""
BATCH = 12


@dataclass(frozen=True, kw_only=True)
class SliderTraining:
    """Settings of one run."""

    parts_faces: int = 10
    """Held-out pictures on which parts are tried."""
    range_faces: int = 12
    """Other held-out pictures, for units and ranges."""
    detail_steps: int = 10
    least_identity: float = 0.62
    """Mean identity similarity to the picture at the ends of a range."""
    identity_weight: float = 1.0
    """What identity counts against the changes of attributes."""
    shrinkage: float = 0.005
    """What the size of the sum counts, so that noise is not followed."""

    def __post_init__(self) -> None:
        if min(self.parts_faces, self.range_faces) < 2:
            raise OptionInvalid("at least 2 faces are needed for parts, and 2 for ranges")
        if not 0 < self.least_identity < 1:
            raise OptionInvalid(f"least identity is {self.least_identity}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Inverted pictures, and what is known of them before any edit."""

    pack: Pack
    judge: FaceJudge
    embed: Embed
    latent: Latent
    plain_BCHW: Tensor
    """The codes' pictures without detail, from which the flow goes."""
    reading_BA: Tensor
    embedding_BD: Tensor
    """Of the inversions."""
    picture_BD: Tensor
    """Of the pictures themselves."""

    @classmethod
    @torch.no_grad()
    def of(cls, pack: Pack, judge: FaceJudge, embed: Embed, picture_BCHW: Tensor, latent: Latent) -> Subjects:
        drawn_BCHW = pack.synthesize(latent).clamp(-1, 1)
        return cls(
            pack=pack, judge=judge, embed=embed, latent=latent, plain_BCHW=pack.synthesize(latent.w_BLD),
            reading_BA=judge(drawn_BCHW), embedding_BD=embed(drawn_BCHW), picture_BD=embed(picture_BCHW),
        )  # fmt: skip

    @torch.no_grad()
    def moved(self, step_LD: Tensor) -> tuple[Tensor, Tensor]:
        """Changes of readings (B, A), and embeddings (B, D), after a step."""
        step_LD = step_LD.to(self.latent.w_BLD)
        latent = follow(self.pack, self.latent, self.latent.w_BLD + step_LD, before_BCHW=self.plain_BCHW)
        drawn_BCHW = self.pack.synthesize(latent).clamp(-1, 1)
        return self.judge(drawn_BCHW) - self.reading_BA, self.embed(drawn_BCHW)


@dataclass(frozen=True, kw_only=True)
class Response:
    """What parts of directions do to inverted faces, per unit of each."""

    effect_KA: Tensor
    """Changes of readings, half of up against down, averaged over faces."""
    cost_KK: Tensor
    """Inner products of the changes of embeddings, averaged over faces: twice the identity lost, to second order."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """One direction at one strength, averaged over faces."""

    strength: float
    own: float
    """Change of its own attribute, the way of the strength."""
    spread: float
    """Standard deviation of it over faces."""
    change_A: tuple[float, ...]
    identity: float

    def others(self, own: int) -> float:
        """The largest change of any other attribute."""
        return max((abs(value) for a, value in enumerate(self.change_A) if a != own), default=0.0)


@dataclass(frozen=True, kw_only=True)
class SliderRun:
    """Everything that a run found out."""

    directions: tuple[Direction, ...]
    reach_of: dict[str, list[Reach]]
    """Direction -> what it does at the strengths that were tried, in standard deviations of ratings."""
    dropped: dict[str, str]
    """Direction -> why it is not kept."""
    subjects: Subjects
    """The pictures of the ranges."""


def train_sliders(pack: Pack, study: Study, judge: FaceJudge, embed: Embed, config: SliderTraining) -> SliderRun:
    """Make sliders of a pack's directions, on pictures of the study that were held out.

    Raises:
        OptionInvalid: the pack has no directions that the judge reads, or too few pictures are held out.
    """
    known = {name: direction for name, direction in pack.directions.items() if name in judge.names}
    if not known:
        raise OptionInvalid(f"pack {pack.name} has no directions of {', '.join(judge.names)}; train some first")
    if (side := study.pictures_NCHW.shape[-1]) != pack.resolution:
        raise OptionInvalid(f"the archive has pictures of {side} px; pack {pack.name} needs {pack.resolution}")
    picture_NCHW = study.pictures_NCHW[: study.num_rated][study.is_held_out_N].float() / 127.5 - 1
    if len(picture_NCHW) < (wanted := config.parts_faces + config.range_faces):
        raise OptionInvalid(f"{len(picture_NCHW)} rated pictures are held out, {wanted} are needed; see --held-out")
    picture_NCHW = picture_NCHW[torch.linspace(0, len(picture_NCHW) - 1, wanted).long()].to(pack.device)
    latent = invert_all(pack, picture_NCHW, config.detail_steps)
    first = config.parts_faces
    parts, ranges = (
        Subjects.of(pack, judge, embed, picture_NCHW[start:end], latent.rows(start, end))
        for start, end in ((0, first), (first, wanted))
    )
    return find_sliders(known, parts, ranges, config)


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A sum of parts that moves its attribute by one standard deviation, with what it does."""

    step_LD: Tensor
    down: list[Reach]
    up: list[Reach]
    low: float
    """How far down it may go, from 0."""
    high: float


def find_sliders(known: dict[str, Direction], parts: Subjects, ranges: Subjects, config: SliderTraining) -> SliderRun:
    """The same with inverted pictures: those for the parts, and those for units and ranges."""
    names = parts.judge.names
    steps = split_up([direction.step_LD for direction in known.values()], parts.pack)
    response = respond(parts, steps)
    directions: list[Direction] = []
    reach_of: dict[str, list[Reach]] = {}
    dropped: dict[str, str] = {}
    for name, direction in progress(known.items(), desc="sliders", unit="direction"):
        slider = best_slider(ranges, steps, response, names.index(name), config)
        if isinstance(slider, str):
            dropped[name] = slider
            continue
        spec = dataclasses.replace(
            direction.spec, range=(-in_units(slider.low), in_units(slider.high)),
            unit=POSE_UNIT if name in ("yaw", "pitch") else UNIT,
            source=source_of(direction.spec, config),
            side_effects=side_effects(slider.down, slider.up, names.index(name), names, known),
        )  # fmt: skip
        directions.append(Direction(spec=spec, step_LD=UNIT_SIZE * slider.step_LD))
        reach_of[name] = [*reversed(slider.down), *slider.up[1:]]
    return SliderRun(directions=tuple(directions), reach_of=reach_of, dropped=dropped, subjects=ranges)


def best_slider(
    ranges: Subjects, steps: Sequence[Tensor], response: Response, own: int, config: SliderTraining
) -> Slider | str:
    """By the first of OTHERS_WEIGHTS that goes far enough, or by one that goes WORTH times as far; or why by none."""
    best: Slider | None = None
    reason = "no part of any direction moves its own attribute"
    for weight in OTHERS_WEIGHTS:
        share_K = combine(response, own, config, others_weight=weight)
        if share_K is None:
            continue
        step_LD = torch.einsum("k,kld->ld", share_K.float(), torch.stack(list(steps)))
        if (unit := unit_of(ranges, step_LD, own)) is None:
            reason = "it does not move its own attribute the same way up and down"
            continue
        slider = slider_of(ranges, step_LD * unit, own, config)
        reason = "others move as much, or the person is lost, before it does anything"
        if best is None or slider.low + slider.high >= WORTH * (best.low + best.high):
            best = slider
        if best.low + best.high >= FAR_ENOUGH:
            break
    return best if best is not None and best.low + best.high >= 2 * LEAST_RANGE else reason


def slider_of(ranges: Subjects, step_LD: Tensor, own: int, config: SliderTraining) -> Slider:
    """Measure how far a step of one standard deviation may go."""
    down, up = (tried(ranges, step_LD, own, sign, config) for sign in (-1, 1))
    low, high = (limit_of(found, own, config) for found in (down, up))
    return Slider(step_LD=step_LD, down=down, up=up, low=low, high=high)


def invert_all(pack: Pack, picture_NCHW: Tensor, detail_steps: int) -> Latent:
    """The best latents of pictures, as the service finds them."""
    config = InvertConfig(num_steps=pack.detail.after, detail_steps=detail_steps)
    found = []
    for picture_BCHW in progress(picture_NCHW.split(BATCH), desc="inverting", unit="batch"):
        best = BestSteps()
        for step in invert(pack, picture_BCHW, config):
            best.update(step)
        found.append(best.latent)
    return joined(found)


def split_up(steps: Sequence[Tensor], pack: Pack) -> list[Tensor]:
    """Each step on a few layers, 0 on the others."""
    layer_px = list(pack.generator.config.layer_px)
    starts = sorted({0, *(layer_px.index(px) for px in SPLITS_PX if px in layer_px)})
    found = []
    for step_LD in steps:
        for start, end in zip(starts, [*starts[1:], len(layer_px)], strict=True):
            part_LD = torch.zeros_like(step_LD)
            part_LD[start:end] = step_LD[start:end]
            found.append(part_LD)
    return found


def respond(subjects: Subjects, steps: Sequence[Tensor]) -> Response:
    """Try every part up and down."""
    effects, changes = [], []
    for step_LD in progress(steps, desc="parts", unit="part"):
        down_BA, down_BD = subjects.moved(-PART_STRENGTH * step_LD)
        up_BA, up_BD = subjects.moved(PART_STRENGTH * step_LD)
        effects.append((up_BA - down_BA).mean(0) / (2 * PART_STRENGTH))
        changes.append((up_BD - down_BD).double() / (2 * PART_STRENGTH))
    change_KBD = torch.stack(changes)
    cost_KK = torch.einsum("kbd,lbd->kl", change_KBD, change_KBD) / change_KBD.shape[1]
    return Response(effect_KA=torch.stack(effects), cost_KK=cost_KK)


def combine(response: Response, own: int, config: SliderTraining, *, others_weight: float = 1.0) -> Tensor | None:
    """Shares (K,) of the parts: the reading `own` up by 1, the others as they are, for little identity.

    Args:
        others_weight: what changes of others count against the change of its own.
    Returns:
        None where no part moves that reading.
    """
    effect_KA = response.effect_KA.double()
    wanted_A = torch.zeros(effect_KA.shape[1], dtype=torch.float64)
    wanted_A[own] = 1
    weight_A = torch.full_like(wanted_A, others_weight)
    weight_A[own] = 1
    matrix_KK = (effect_KA * weight_A) @ effect_KA.T + config.identity_weight * response.cost_KK
    matrix_KK += config.shrinkage * torch.eye(len(effect_KA), dtype=torch.float64)
    share_K: Tensor = torch.linalg.solve(matrix_KK, effect_KA @ wanted_A)
    moved = float(share_K @ effect_KA[:, own])
    return share_K / moved if moved > LEAST_EFFECT else None


def unit_of(subjects: Subjects, step_LD: Tensor, own: int) -> float | None:
    """By how much a step is to be multiplied, so that it moves the reading `own` by 1 from -1 to +1, on average.

    None where no such factor between a quarter and four is found.
    """
    factor = 1.0
    for _ in range(2):
        down, up = (measure(subjects, factor * step_LD, own, sign) for sign in (-1, 1))
        if (moved := (down.own + up.own) / 2) <= 0.1:
            return None
        factor /= moved
        if not 0.25 < factor < 4:
            return None
    return factor


def measure(subjects: Subjects, step_LD: Tensor, own: int, strength: float) -> Reach:
    """What a direction does at a strength."""
    change_BA, embedding_BD = subjects.moved(strength * step_LD)
    sign = math.copysign(1.0, strength)
    return Reach(
        strength=strength,
        own=sign * float(change_BA[:, own].mean()),
        spread=float(change_BA[:, own].std()),
        change_A=tuple(change_BA.mean(0).tolist()),
        identity=float((embedding_BD * subjects.picture_BD).sum(1).mean()),
    )


def tried(subjects: Subjects, step_LD: Tensor, own: int, sign: int, config: SliderTraining) -> list[Reach]:
    """Strength 0, then outwards until the person is lost, and to 1 at least."""
    start = float((subjects.embedding_BD * subjects.picture_BD).sum(1).mean())
    nothing = tuple(0.0 for _ in subjects.judge.names)
    found = [Reach(strength=0.0, own=0.0, spread=0.0, change_A=nothing, identity=start)]
    for strength in GRID:
        if strength > 1 and found[-1].identity < config.least_identity:
            break
        found.append(measure(subjects, step_LD, own, sign * strength))
    return found


def limit_of(found: Sequence[Reach], own: int, config: SliderTraining) -> float:
    """The largest strength, to a twentieth, up to which all is well; 0 where nothing is.

    All is well while the person stays, the own attribute goes on moving about as much as promised, and moves more than
    any other.

    Args:
        found: strength 0 and then outwards, as `tried` gives them.
    """
    limit = 0.0
    for before, after in pairwise(found):
        if after.own <= LEAD * after.others(own) or after.own <= before.own:
            break
        if abs(after.strength) > 1 and after.own < UNIT_HOLDS * abs(after.strength):
            break
        if after.identity < config.least_identity:
            room = max(0.0, before.identity - config.least_identity) / (before.identity - after.identity)
            limit = abs(before.strength) + room * (abs(after.strength) - abs(before.strength))
            break
        limit = abs(after.strength)
    return math.floor(20 * limit + 1e-6) / 20


def in_units(limit: float) -> float:
    """The end of a range, to a tenth."""
    return min(STRENGTH_LIMIT, round(limit / UNIT_SIZE, 1))


def side_effects(
    down: Sequence[Reach], up: Sequence[Reach], own: int, names: Sequence[str], known: dict[str, Direction]
) -> dict[str, float]:
    """What one unit does to the attributes of the other directions, in their units, to a hundredth.

    All units are of one size, so it is what standard deviations do to standard deviations.
    """
    lower, upper = (next(reach for reach in found if abs(reach.strength) == 1) for found in (down, up))
    return {
        name: round((upper.change_A[a] - lower.change_A[a]) / 2, 2)
        for a, name in enumerate(names)
        if a != own and name in known
    }


def source_of(spec: DirectionSpec, config: SliderTraining) -> str:
    """What a slider was made of."""
    start = spec.source.split("; held fixed")[0]
    return (
        f"{start}; its layers weighed on {config.parts_faces} inverted pictures, unit and range measured on "
        f"{config.range_faces} others"
    )

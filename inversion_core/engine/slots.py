"""The batched state of those who have a place: latents and optimizer states in cohorts, targets side by side.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width; 1 a batch of one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from inversion_core.course import Course
from inversion_core.engine.request import Request
from inversion_core.engine.step import Inputs
from inversion_core.engine.stop import Progress
from inversion_core.engine.ticket import Ticket
from inversion_core.latents import Latent, joined
from inversion_core.models.serving import serving
from inversion_core.optimizers import AnyOptimizer, Evaluation

State = tuple[Any, ...]


@dataclass(kw_only=True, eq=False)
class Slot:
    """One request that has been admitted, and all of it that is not batched."""

    request: Request
    ticket: Ticket
    optimizer: AnyOptimizer
    cohort_key: Hashable
    target_1CHW: Tensor
    features_1CHW: Tensor
    """Of the target times the mask."""
    mask_11HW: Tensor | None
    weight_11HW: Tensor | None
    admitted_s: float
    progress: Progress
    course: Course
    begins_at: int
    """Index of the Step with which detail is to begin: after the updates of w, or where they bring nothing any more."""
    detail_from: int | None
    """Index of the Step with which it began; None: it has not."""
    latent: Latent
    """A batch of one, while it has no place in a cohort; there it is a row."""
    state: State
    """The same of the optimizer's state."""
    base_1CHW: Tensor | None = None
    """The features to which detail is added; None: w moves."""
    steps_here: int = field(default=0)
    """Steps since it last got a place, for taking turns."""

    @property
    def detail_px(self) -> int | None:
        """Size of the detail that moves; None: w moves."""
        return None if self.base_1CHW is None else self.base_1CHW.shape[-1]

    @property
    def expects_detail(self) -> bool:
        """Whether it is still to begin."""
        return self.course.detail_px is not None and self.detail_from is None

    @property
    def is_due(self) -> bool:
        """Whether its next step is one of detail, and what that needs is not there (`stages.begin`)."""
        if self.base_1CHW is not None:
            return False
        return self.detail_from is not None or (self.expects_detail and self.progress.index >= self.begins_at)

    @property
    def last_index(self) -> int:
        """Index of its last Step."""
        if self.course.detail_px is None:
            return self.course.num_steps
        return (self.begins_at if self.detail_from is None else self.detail_from) + self.course.detail_steps


class Cohort:
    """The rows of one optimizer: what its pure step takes and gives, batch first."""

    def __init__(self, optimizer: AnyOptimizer) -> None:
        self.optimizer = optimizer
        self.slots: list[Slot] = []
        self.latent: Latent
        self.state: State

    def join(self, slot: Slot) -> None:
        if self.slots:
            self.latent = joined([self.latent, slot.latent])
            self.state = _joined(self.state, slot.state)
        else:
            self.latent, self.state = slot.latent, slot.state
        self.slots.append(slot)

    def leave(self, slot: Slot) -> None:
        """Take the row out; the slot has it now."""
        row = self.slots.index(slot)
        slot.latent, slot.state = self.latent.rows(row, row + 1), self.row_state(row)
        self.slots.remove(slot)
        kept = [index for index in range(len(self.latent)) if index != row]
        self.latent = self.latent.mapped(lambda rows_B: rows_B[kept])
        self.state = _mapped(lambda rows_B: rows_B[kept], self.state)

    def row_state(self, row: int) -> State:
        return _mapped(lambda rows_B: rows_B[row : row + 1], self.state)

    def advance(self, evaluation: Evaluation) -> list[tuple[Slot, Exception]]:
        """One update of every row; returns those whose own update fails, which stay as they are."""
        with serving():
            try:
                self.latent, self.state = self.optimizer.step(self.latent, evaluation, self.state)
                return []
            except Exception:
                return self._advance_alone(evaluation)

    def _advance_alone(self, evaluation: Evaluation) -> list[tuple[Slot, Exception]]:
        latents, states, failed = [], [], []
        for row, slot in enumerate(self.slots):
            latent, state = self.latent.rows(row, row + 1), self.row_state(row)
            try:
                latent, state = self.optimizer.step(latent, evaluation.rows(row, row + 1), state)
            except Exception as error:
                failed.append((slot, error))
            latents.append(latent)
            states.append(state)
        self.latent, self.state = joined(latents), _joined(*states)
        return failed


class Batch:
    """The cohorts of one pack, whose rows are evaluated together, in the order of `slots`."""

    def __init__(self) -> None:
        self._cohorts: dict[Hashable, Cohort] = {}
        self._inputs: Inputs | None = None

    @property
    def cohorts(self) -> list[Cohort]:
        return list(self._cohorts.values())

    @property
    def slots(self) -> list[Slot]:
        return [slot for cohort in self._cohorts.values() for slot in cohort.slots]

    def join(self, slot: Slot) -> None:
        self._inputs = None
        self._cohorts.setdefault(slot.cohort_key, Cohort(slot.optimizer)).join(slot)

    def leave(self, slot: Slot) -> None:
        self._inputs = None
        cohort = self._cohorts[slot.cohort_key]
        cohort.leave(slot)
        if not cohort.slots:
            del self._cohorts[slot.cohort_key]

    def latent(self) -> Latent:
        return joined([cohort.latent for cohort in self._cohorts.values()])

    def inputs(self) -> Inputs:
        """Targets and the like of all rows; put side by side only when a row has come or gone."""
        if self._inputs is None:
            self._inputs = stacked(self.slots)
        return self._inputs


def stacked(slots: Sequence[Slot]) -> Inputs:
    """The inputs of slots in their order."""
    target_BCHW = torch.cat([slot.target_1CHW for slot in slots])
    bases = [slot.base_1CHW for slot in slots if slot.base_1CHW is not None]
    return Inputs(
        target_BCHW=target_BCHW,
        target_features_BCHW=torch.cat([slot.features_1CHW for slot in slots]),
        mask_B1HW=maps(target_BCHW, [slot.mask_11HW for slot in slots]),
        weight_B1HW=maps(target_BCHW, [slot.weight_11HW for slot in slots]),
        base_BCHW=torch.cat(bases) if bases else None,
    )


def maps(like_BCHW: Tensor, own: Sequence[Tensor | None]) -> Tensor | None:
    """The maps (B, 1, H, W) of images; ones, which change nothing, for those without; None where all are."""
    if all(map_11HW is None for map_11HW in own):
        return None
    ones_11HW = torch.ones_like(like_BCHW[:1, :1])
    return torch.cat([ones_11HW if map_11HW is None else map_11HW for map_11HW in own])


def _mapped(change: Any, state: State) -> State:
    mapped: State = type(state)(*map(change, state))  # a NamedTuple of tensors: see optimizers/protocol.py
    return mapped


def _joined(*states: State) -> State:
    joined: State = type(states[0])(*(torch.cat(rows) for rows in zip(*states, strict=True)))
    return joined

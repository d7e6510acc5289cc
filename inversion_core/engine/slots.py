"""The batched state of those who have a place: codes and optimizer states in cohorts, targets side by side.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width; 1 a batch of one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from inversion_core.engine.request import Request
from inversion_core.engine.step import Inputs, seen_rows
from inversion_core.engine.stop import Progress
from inversion_core.engine.ticket import Ticket
from inversion_core.models.serving import serving
from inversion_core.optimizers.seen import AnyOptimizer, Seen, advance

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
    w_1LD: Tensor
    """The codes while it has no place in a cohort; there they are a row."""
    state: State
    """The same of the optimizer's state."""
    steps_here: int = field(default=0)
    """Steps since it last got a place, for taking turns."""


class Cohort:
    """The rows of one optimizer: what its pure step takes and gives, batch first."""

    def __init__(self, optimizer: AnyOptimizer) -> None:
        self.optimizer = optimizer
        self.slots: list[Slot] = []
        self.w_BLD: Tensor
        self.state: State

    def join(self, slot: Slot) -> None:
        if self.slots:
            self.w_BLD = torch.cat([self.w_BLD, slot.w_1LD])
            self.state = _joined(self.state, slot.state)
        else:
            self.w_BLD, self.state = slot.w_1LD, slot.state
        self.slots.append(slot)

    def leave(self, slot: Slot) -> None:
        """Take the row out; the slot has it now."""
        row = self.slots.index(slot)
        slot.w_1LD, slot.state = self.w_BLD[row : row + 1], self.row_state(row)
        self.slots.remove(slot)
        kept = [index for index in range(len(self.w_BLD)) if index != row]
        self.w_BLD, self.state = self.w_BLD[kept], _mapped(lambda rows_B: rows_B[kept], self.state)

    def row_state(self, row: int) -> State:
        return _mapped(lambda rows_B: rows_B[row : row + 1], self.state)

    def advance(self, grad_BLD: Tensor, seen: Seen | None) -> list[tuple[Slot, Exception]]:
        """One update of every row; returns those whose own update fails, which stay as they are."""
        with serving():
            try:
                self.w_BLD, self.state = advance(self.optimizer, self.w_BLD, grad_BLD, self.state, seen)
                return []
            except Exception:
                return self._advance_alone(grad_BLD, seen)

    def _advance_alone(self, grad_BLD: Tensor, seen: Seen | None) -> list[tuple[Slot, Exception]]:
        w_rows, states, failed = [], [], []
        for row, slot in enumerate(self.slots):
            w_1LD, state = self.w_BLD[row : row + 1], self.row_state(row)
            try:
                own = None if seen is None else seen_rows(seen, row, row + 1)
                w_1LD, state = advance(self.optimizer, w_1LD, grad_BLD[row : row + 1], state, own)
            except Exception as error:
                failed.append((slot, error))
            w_rows.append(w_1LD)
            states.append(state)
        self.w_BLD, self.state = torch.cat(w_rows), _joined(*states)
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

    def codes(self) -> Tensor:
        parts = [cohort.w_BLD for cohort in self._cohorts.values()]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def inputs(self) -> Inputs:
        """Targets and the like of all rows; put side by side only when a row has come or gone."""
        if self._inputs is None:
            self._inputs = stacked(self.slots)
        return self._inputs


def stacked(slots: Sequence[Slot]) -> Inputs:
    """The inputs of slots in their order."""
    ones_11HW = torch.ones_like(slots[0].target_1CHW[:, :1])  # times one changes nothing

    def maps(own: Sequence[Tensor | None]) -> Tensor | None:
        if all(map_11HW is None for map_11HW in own):
            return None
        return torch.cat([ones_11HW if map_11HW is None else map_11HW for map_11HW in own])

    return Inputs(
        target_BCHW=torch.cat([slot.target_1CHW for slot in slots]),
        target_features_BCHW=torch.cat([slot.features_1CHW for slot in slots]),
        mask_B1HW=maps([slot.mask_11HW for slot in slots]),
        weight_B1HW=maps([slot.weight_11HW for slot in slots]),
    )


def _mapped(change: Any, state: State) -> State:
    mapped: State = type(state)(*map(change, state))  # a NamedTuple of tensors: see optimizers/protocol.py
    return mapped


def _joined(*states: State) -> State:
    joined: State = type(states[0])(*(torch.cat(rows) for rows in zip(*states, strict=True)))
    return joined

"""The engine without its thread: who has a place, and one iteration of everything. Read this after request.py.

A tick does, in this order: let go who has canceled, take turns, let in who waits, begin detail where w has had its
updates, and for each batch one evaluation, one small copy of the losses, a Step for each row, and one update of those
that go on. Steps of w and steps of detail are batches of their own: a step of detail runs fewer layers.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from inversion_core.engine.admission import Entry, admit
from inversion_core.engine.buckets import default_buckets
from inversion_core.engine.graphs import make_step
from inversion_core.engine.precision import Precision, choose_precision
from inversion_core.engine.slots import Batch, Slot, stacked
from inversion_core.engine.stages import begin, by_detail
from inversion_core.engine.step import Evaluate, Losses, Outcome, Parts, Want
from inversion_core.engine.stop import StopReason, advanced, stop_reason
from inversion_core.engine.threads import ThreadGovernor
from inversion_core.engine.ticket import ImageStep
from inversion_core.engine.waiting import WaitingLine
from inversion_core.optimizers import looks
from inversion_core.packs import Pack

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How much an engine takes on, and how it shares it out."""

    slots: int = 8
    """Requests that are computed at the same time."""
    max_waiting: int = 64
    """Requests that may wait for a place; one more is refused with EngineFull."""
    steps_ahead: int = 4
    """Steps that are kept for a caller who does not take them; then its request waits."""
    aging_s: float = 10.0
    """What one step of priority is worth, in seconds of waiting."""
    turn_steps: int = 50
    """Steps after which a request gives its place up while another one waits."""
    buckets: tuple[int, ...] | None = None
    """Sizes of what is computed at once, ascending; None: on a CPU every size up to what pays, on CUDA a few."""
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads that a step may be given, the likeliest first: the fastest is found by trying. Empty:
    torch's own number is left alone."""
    precision: Precision | None = Precision.FLOAT32
    """Arithmetic of a step. None: for each pack the fastest that leaves the final loss as it is, found by trying when
    the pack is first used. Whatever it is, a request's last Step is judged in float32."""
    clock: Callable[[], float] = time.monotonic
    make_step: Callable[[Pack, float, Precision], Evaluate] = field(default=make_step)
    """From a pack, the regulariser's weight and a precision to what evaluates a batch."""

    def __post_init__(self) -> None:
        for name in ("slots", "steps_ahead", "turn_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_waiting < 0 or not self.aging_s > 0:
            raise ValueError("max_waiting must be 0 or more, and aging_s above 0")


class Core:
    """Not safe for threads, except for what `lock` of the Engine guards: `waiting`."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.waiting: WaitingLine[Entry | Slot] = WaitingLine(config.aging_s)
        """New requests, and those that gave their place up for a while."""
        self._batches: dict[Hashable, Batch] = {}
        self._parts: dict[Hashable, Parts] = {}
        self._precisions: dict[tuple[int, int | None], Precision] = {}
        """Pack, and the size of the detail that moves, if it is detail -> what was chosen for it."""
        self._governors: dict[Hashable, ThreadGovernor] = {}
        """Batch -> who says how many threads its steps get; none where torch's own number stays."""
        self._held: list[Slot] = []
        """Slots whose caller does not take the Steps; they keep their place."""

    # -- one iteration ---------------------------------------------------------------------------------------

    def tick(self, arrivals: Sequence[Entry | Slot]) -> bool:
        """One iteration with those who were let in for it; returns whether anything was computed."""
        self._let_go()
        self._release_held()
        self._place(arrivals)
        self._begin_detail()
        for key, batch in list(self._batches.items()):
            self._step(key, batch)
            if not batch.slots:
                del self._batches[key]
        return bool(self._batches) or bool(arrivals)

    @property
    def free(self) -> int:
        """Places that nobody has."""
        return self._config.slots - len(self._held) - sum(len(batch.slots) for batch in self._batches.values())

    @property
    def running(self) -> list[Slot]:
        return [*self._held, *(slot for batch in self._batches.values() for slot in batch.slots)]

    def pick(self) -> list[Entry | Slot]:
        """Take from the line those who get a place in the next tick; call it with the line guarded."""
        now_s = self._config.clock()
        for gone in self.waiting.remove_where(lambda item: item.ticket.is_canceled):
            gone.ticket.end(StopReason.CANCELED)
        self._take_turns(now_s)
        return [self.waiting.take() for _ in range(min(max(self.free, 0), len(self.waiting)))]

    def _take_turns(self, now_s: float) -> None:
        """Who has had a turn goes to the end of the line, as long as others wait: long jobs hold up no short ones."""
        tired = sorted(
            (slot for slot in self.running if slot.steps_here >= self._config.turn_steps),
            key=lambda slot: -slot.steps_here,
        )
        for slot in tired[: max(0, len(self.waiting) - max(self.free, 0))]:
            self._take_out(slot)
            self.waiting.add(slot, priority=slot.request.priority, now_s=now_s)

    # -- coming and going ------------------------------------------------------------------------------------

    def _place(self, arrivals: Sequence[Entry | Slot]) -> None:
        for slot in arrivals:
            if isinstance(slot, Slot):
                self._join(slot)
        groups: dict[int, list[Entry]] = {}
        for entry in arrivals:
            if isinstance(entry, Entry):
                groups.setdefault(id(entry.request.pack), []).append(entry)
        for group in groups.values():
            for slot in self._admitted(group):
                self._join(slot)

    def _admitted(self, entries: Sequence[Entry]) -> list[Slot]:
        """All at once; where that fails, in halves, until the one is alone whose fault it is, or memory suffices."""
        try:
            return admit(entries, self._config.clock())
        except Exception as error:
            if len(entries) == 1:
                entries[0].ticket.end(None, error)
                return []
        half = len(entries) // 2
        return self._admitted(entries[:half]) + self._admitted(entries[half:])

    def _join(self, slot: Slot) -> None:
        slot.steps_here = 0
        self._batches.setdefault(_batch_key(slot), Batch()).join(slot)

    def _take_out(self, slot: Slot) -> None:
        if slot in self._held:
            self._held.remove(slot)
            return
        key = _batch_key(slot)
        self._batches[key].leave(slot)
        if not self._batches[key].slots:
            del self._batches[key]

    def _let_go(self) -> None:
        for slot in self.running:
            if slot.ticket.is_canceled:
                self._take_out(slot)
                slot.ticket.end(StopReason.CANCELED)

    def _release_held(self) -> None:
        for slot in [slot for slot in self._held if slot.ticket.has_room]:
            self._held.remove(slot)
            self._batches.setdefault(_batch_key(slot), Batch()).join(slot)

    def _begin_detail(self) -> None:
        """Whoever has had all updates of w moves on to a batch of detail; the place stays."""
        for due in by_detail(slot for batch in self._batches.values() for slot in batch.slots):
            for slot in due:
                self._take_out(slot)
            for slot in self._begun(due):
                self._batches.setdefault(_batch_key(slot), Batch()).join(slot)

    def _begun(self, slots: Sequence[Slot]) -> list[Slot]:
        """As `_admitted`."""
        try:
            begin(slots)
            return list(slots)
        except Exception as error:
            if len(slots) == 1:
                slots[0].ticket.end(None, error)
                return []
        half = len(slots) // 2
        return self._begun(slots[:half]) + self._begun(slots[half:])

    # -- the step --------------------------------------------------------------------------------------------

    def _step(self, key: Hashable, batch: Batch) -> None:
        parts = self._parts_for(key, batch)
        outcome = self._evaluated(key, parts, batch)
        if outcome is None:
            return  # who was at fault is gone; the others are stepped in the next tick
        ended = self._deliver(parts, batch, outcome)
        failed = [] if outcome.grad is None else _advance(batch, outcome)
        for slot, reason in ended:
            batch.leave(slot)
            slot.ticket.end(reason)
        _end_failed(batch, [(slot, error) for slot, error in failed if not slot.ticket.is_ended])
        for slot in batch.slots:
            if not slot.ticket.has_room:
                batch.leave(slot)
                self._held.append(slot)

    def _parts_for(self, key: Hashable, batch: Batch) -> Parts:
        if key not in self._parts:
            request = batch.slots[0].request
            buckets = self._config.buckets or default_buckets(self._config.slots, request.pack)
            precision = self._precision_of(request.pack, batch.slots[0].detail_px)
            make, weight = self._config.make_step, request.config.regulariser_weight
            exact = None if precision is Precision.FLOAT32 else make(request.pack, weight, Precision.FLOAT32)
            self._parts[key] = Parts(make(request.pack, weight, precision), buckets, exact)
        return self._parts[key]

    def _precision_of(self, pack: Pack, px: int | None) -> Precision:
        if self._config.precision is not None:
            return self._config.precision
        if (id(pack), px) not in self._precisions:
            self._precisions[id(pack), px] = choose_precision(pack, px)[0]
        return self._precisions[id(pack), px]

    def _evaluated(self, key: Hashable, parts: Parts, batch: Batch) -> Outcome | None:
        try:
            return self._timed(key, parts, batch, _want(batch))
        except Exception as error:
            self._find_fault(parts, batch, error)
            return None

    def _timed(self, key: Hashable, parts: Parts, batch: Batch, want: Want) -> Outcome:
        """With the number of threads that is fastest just now."""
        if not self._config.threads:
            return parts(batch.latent(), batch.inputs(), want)
        governor = self._governors.setdefault(key, ThreadGovernor(self._config.threads))
        if torch.get_num_threads() != governor.count:
            torch.set_num_threads(governor.count)
        began_s = time.perf_counter()
        outcome = parts(batch.latent(), batch.inputs(), want)
        governor.note((len(outcome.loss_B), want), time.perf_counter() - began_s)
        return outcome

    def _find_fault(self, parts: Parts, batch: Batch, error: Exception) -> None:
        """Evaluate each row alone: whoever fails ends. Where none does, it is the batch that failed: no more of it."""
        latent, slots = batch.latent(), batch.slots
        log.warning("a batch failed rows=%d error=%r", len(slots), error)
        failed: list[tuple[Slot, Exception]] = []
        for row, slot in enumerate(slots):
            try:
                parts(latent.rows(row, row + 1), stacked([slot]), _want(batch))
            except Exception as alone:
                failed.append((slot, alone))
        if not failed:
            parts.limit = 1
        _end_failed(batch, failed)

    def _deliver(self, parts: Parts, batch: Batch, outcome: Outcome) -> list[tuple[Slot, StopReason]]:
        """A Step to each caller; returns whose last one it was."""
        losses = outcome.losses()
        now_s = self._config.clock()
        reasons = [_judge(slot, loss.total, now_s) for slot, loss in zip(batch.slots, losses, strict=True)]
        image_BCHW, last = outcome.image_BCHW, [row for row, reason in enumerate(reasons) if reason is not None]
        if (exact := _judged(parts, batch, last)) is not None:
            image_BCHW = image_BCHW.index_copy(0, torch.tensor(last, device=image_BCHW.device), exact.image_BCHW)
            losses = _replaced(losses, last, exact.losses())
        frames = _frames(batch.slots, reasons, image_BCHW)
        row = 0
        for cohort in batch.cohorts:
            for cohort_row, slot in enumerate(cohort.slots):
                slot.ticket.put(
                    ImageStep(
                        index=slot.progress.index, loss=losses[row].total, pixel=losses[row].pixel,
                        perceptual=losses[row].perceptual, reason=reasons[row], frame_HWC=frames.get(row),
                        image_row=row, cohort_row=cohort_row,
                        cohort_latent=cohort.latent, image_BCHW=image_BCHW, state=cohort.state,
                        detail_from=slot.detail_from,
                    )
                )  # fmt: skip
                row += 1
        return [(slot, reason) for slot, reason in zip(batch.slots, reasons, strict=True) if reason is not None]


def _want(batch: Batch) -> Want:
    """What the rows need to go on; nothing but the loss where this is the last Step of all."""
    if all(slot.progress.index >= slot.last_index for slot in batch.slots):
        return Want.LOSS
    return Want.LOOK if any(looks(cohort.optimizer) for cohort in batch.cohorts) else Want.GRADIENT


def _advance(batch: Batch, outcome: Outcome) -> list[tuple[Slot, Exception]]:
    """One update of every row; returns whose update failed."""
    failed: list[tuple[Slot, Exception]] = []
    first = 0
    for cohort in batch.cohorts:
        end = first + len(cohort.slots)
        failed += cohort.advance(outcome.evaluation(with_look=looks(cohort.optimizer)).rows(first, end))
        for slot in cohort.slots:
            slot.progress = replace(slot.progress, index=slot.progress.index + 1)
            slot.steps_here += 1
        first = end
    return failed


def _judged(parts: Parts, batch: Batch, rows: Sequence[int]) -> Outcome | None:
    """These rows in float32, where the step rounds more coarsely; what it found has to do where that fails."""
    if not rows or not parts.rounds:
        return None
    try:
        return parts.judged(
            batch.latent().mapped(lambda rows_B: rows_B[rows]), stacked([batch.slots[row] for row in rows])
        )
    except Exception as error:
        log.warning("not judged in float32 rows=%d error=%r", len(rows), error)
        return None


def _replaced(values: Sequence[Losses], rows: Sequence[int], others: Sequence[Losses]) -> list[Losses]:
    at_rows = dict(zip(rows, others, strict=True))
    return [at_rows.get(row, value) for row, value in enumerate(values)]


def _end_failed(batch: Batch, failed: Iterable[tuple[Slot, Exception]]) -> None:
    for slot, error in failed:
        batch.leave(slot)
        slot.ticket.end(None, error)


def _batch_key(slot: Slot) -> Hashable:
    """Equal for slots that are evaluated together."""
    return id(slot.request.pack), slot.request.config.regulariser_weight, slot.detail_px


def _judge(slot: Slot, loss: float, now_s: float) -> StopReason | None:
    rules = slot.request.rules
    index, seconds = slot.progress.index, now_s - slot.admitted_s + rules.seconds_before
    slot.progress = advanced(slot.progress, rules, index=index, loss=loss, seconds=seconds)
    reason = stop_reason(slot.progress, rules, slot.last_index)
    if reason is StopReason.PLATEAU and slot.expects_detail:
        slot.begins_at = index + 1  # w brings nothing more: detail has its turn
        return None
    return reason


def _frames(slots: Sequence[Slot], reasons: Iterable[StopReason | None], image_BCHW: Tensor) -> dict[int, Tensor]:
    """Row -> frame, for those who want one now: made on the device, and copied together."""
    wanted = [
        row
        for row, (slot, reason) in enumerate(zip(slots, reasons, strict=True))
        if slot.request.wants_frame(slot.progress.index, is_last=reason is not None)
    ]
    if not wanted:
        return {}
    chosen_BCHW = image_BCHW if len(wanted) == len(slots) else image_BCHW[wanted]
    return dict(zip(wanted, to_bytes(chosen_BCHW).unbind(), strict=True))


def to_bytes(image_BCHW: Tensor) -> Tensor:
    """Pictures in [-1, 1] as uint8 (B, H, W, 3), in memory of the host; as `pictures.to_image`."""
    scaled_BCHW = (image_BCHW.nan_to_num(nan=0.0).clamp(-1, 1) + 1) * 127.5
    return scaled_BCHW.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()

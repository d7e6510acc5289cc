"""From requests to slots: everything that is computed once, for all that come in together.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width; 1 a batch of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inversion_core.course import Course, course_of
from inversion_core.detail import check_goes_on
from inversion_core.engine.precision import Precision, arithmetic
from inversion_core.engine.request import Request
from inversion_core.engine.slots import Slot
from inversion_core.engine.stages import begin, by_detail
from inversion_core.engine.stop import Progress, marked_anew, progress_of
from inversion_core.engine.ticket import Ticket
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import make_optimizer, pixel_weights, restored, start_codes, start_kind
from inversion_core.latents import Latent
from inversion_core.models.serving import serving
from inversion_core.optimizers import AnyOptimizer
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.optimizers.schedule import Scheduled


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A request on its way in, with what could be settled without the device."""

    request: Request
    ticket: Ticket
    course: Course
    optimizer: AnyOptimizer
    """Of what moves first."""
    cohort_key: Hashable


def check_in(request: Request, ticket: Ticket) -> Entry:
    """Settle the optimizer and refuse what cannot work, before anybody waits for it.

    Raises:
        OptionInvalid: the pack cannot do what is asked for, or `resume` belongs to another optimizer.
    """
    pack, config = request.pack, request.config
    start = request.start
    optimizer, course = make_optimizer(pack, config, start=start), course_of(pack, config, start)
    if isinstance(optimizer, Scheduled):
        optimizer = _reduced(optimizer)
    kind = start_kind(pack, config)
    if start is None and kind == "encoder" and not pack.has_encoder:
        raise OptionInvalid(f"pack {pack.name} has no encoder; start from 'mean' or 'random'")
    if request.resume is not None:
        check_goes_on(request.resume.latent, course.detail_px)
        if request.resume.detail_from is not None:
            optimizer = pack.detail.adam()
        restored(optimizer, pack.mean_codes(), request.resume)
    return Entry(
        request=request, ticket=ticket, optimizer=optimizer, course=course, cohort_key=_cohort_key(request, optimizer)
    )


def _reduced(optimizer: Any) -> AnyOptimizer:
    """Equal for runs of different length, where they need not differ: they share a cohort then."""
    reduced: AnyOptimizer = dataclasses.replace(optimizer, schedule=optimizer.schedule.reduced())
    return reduced


def _cohort_key(request: Request, optimizer: AnyOptimizer) -> Hashable:
    """Equal for requests whose rows one optimizer can step together."""
    if isinstance(optimizer, Scheduled):
        return optimizer  # a frozen dataclass: equal settings are equal
    name = request.config.optimizer or request.pack.default_optimizer
    assert name in DESIGNS, name
    kind = "encoder" if request.start_LD is not None else start_kind(request.pack, request.config)
    return name, kind


def admit(entries: Sequence[Entry], now_s: float) -> list[Slot]:
    """Slots for entries of one pack: target features, encoder starts and what detail needs of all in one go each."""
    targets = [_target(entry.request) for entry in entries]
    masks = [_mask(entry.request) for entry in entries]
    masked = [target if mask is None else target * mask for target, mask in zip(targets, masks, strict=True)]
    pack = entries[0].request.pack
    with torch.no_grad(), serving(), arithmetic(Precision.FLOAT32, pack.device):
        features_BCHW = pack.features(torch.cat(masked))
        starts = _starts(entries, targets)
    slots = []
    for row, entry in enumerate(entries):
        request, resume, latent = entry.request, entry.request.resume, Latent(w_BLD=starts[row])
        state = entry.optimizer.init(latent)
        if resume is not None:
            state, latent = restored(entry.optimizer, starts[row], resume)
        slots.append(
            Slot(request=request, ticket=entry.ticket, optimizer=entry.optimizer, cohort_key=entry.cohort_key,
                 target_1CHW=targets[row], features_1CHW=features_BCHW[row : row + 1], mask_11HW=masks[row],
                 weight_11HW=pixel_weights(pack, request.config), admitted_s=now_s, progress=_progress(request),
                 course=entry.course, begins_at=entry.course.num_steps,
                 detail_from=None if resume is None else resume.detail_from, latent=latent, state=state)
        )  # fmt: skip
    for due in by_detail(slots):
        begin(due)
    return slots


def _progress(request: Request) -> Progress:
    resume = request.resume
    if resume is None:
        return progress_of(request.rules, request.losses_before)
    progress = progress_of(request.rules, request.losses_before, resume.detail_from)
    if resume.index == resume.detail_from:  # its own Step is the first of detail, and comes again
        progress = marked_anew(progress)
    return dataclasses.replace(progress, index=resume.index)


def _target(request: Request) -> Tensor:
    return request.pack.check_pictures(request.target_CHW[None])


def _mask(request: Request) -> Tensor | None:
    if request.mask_HW is None:
        return None
    return request.mask_HW[None, None].to(device=request.pack.device, dtype=torch.float32)


def _starts(entries: Sequence[Entry], targets: Sequence[Tensor]) -> list[Tensor]:
    """Start codes (1, L, D); those that need the encoder are encoded together."""
    pack = entries[0].request.pack
    starts: list[Tensor | None] = [
        _start_alone(entry.request, target) for entry, target in zip(entries, targets, strict=True)
    ]
    encoded = [row for row, start in enumerate(starts) if start is None]
    if encoded:
        w_BLD = pack.encode(torch.cat([targets[row] for row in encoded]))
        for row, w_1LD in zip(encoded, w_BLD.split(1), strict=True):
            starts[row] = w_1LD
    return [start for start in starts if start is not None]


def _start_alone(request: Request, target_1CHW: Tensor) -> Tensor | None:
    """The start code, or None where the encoder has to make it."""
    if request.resume is not None:
        return request.pack.mean_codes()  # only its shape counts
    if request.start_LD is not None:
        assert request.start is not None
        return request.start.w_BLD
    if start_kind(request.pack, request.config) == "encoder":
        return None
    return start_codes(request.pack, target_1CHW, request.config)

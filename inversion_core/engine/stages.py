"""The second stage of a request: from w to detail (`inversion_core.detail`), for all that come to it together.

Suffixes: B image, C channel, H W height and width; 1 a batch of one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor

from inversion_core.detail import begin_detail
from inversion_core.engine.precision import Precision, arithmetic
from inversion_core.engine.slots import Slot, maps
from inversion_core.engine.stop import marked_anew
from inversion_core.latents import Latent
from inversion_core.models.serving import serving


def by_detail(slots: Iterable[Slot]) -> list[list[Slot]]:
    """Those that are due, in groups that `begin` takes together."""
    groups: dict[Hashable, list[Slot]] = {}
    for slot in slots:
        if slot.is_due:
            groups.setdefault((id(slot.request.pack), slot.course.detail_px), []).append(slot)
    return list(groups.values())


def begin(slots: Sequence[Slot]) -> None:
    """Give slots of one pack and one size of detail what its steps need; those that have no detail yet begin it.

    Raises: what the networks raise; then no slot has changed.
    """
    pack, px = slots[0].request.pack, slots[0].course.detail_px
    assert px is not None
    w_BLD = torch.cat([slot.latent.w_BLD for slot in slots])
    with torch.no_grad(), serving(), arithmetic(Precision.FLOAT32, pack.device):
        base_BCHW = pack.base_features(w_BLD, px)
        details = _first_details(slots, base_BCHW)
    for row, (slot, detail_1CHW) in enumerate(zip(slots, details, strict=True)):
        slot.base_1CHW = base_BCHW[row : row + 1].clone()  # not a view: its neighbours may leave long before it
        if slot.detail_from is None:
            _enter(slot, Latent(w_BLD=slot.latent.w_BLD, detail_BCHW=detail_1CHW))


def _first_details(slots: Sequence[Slot], base_BCHW: Tensor) -> list[Tensor | None]:
    """What each has already or starts from; `begin_detail` makes the others'."""
    starts = [slot.request.start if slot.course.keeps_start else None for slot in slots]
    details = [
        slot.latent.detail_BCHW if start is None or slot.latent.detail_BCHW is not None else start.detail_BCHW
        for slot, start in zip(slots, starts, strict=True)
    ]
    fresh = [row for row, detail in enumerate(details) if detail is None]
    if fresh:
        target_BCHW = torch.cat([slots[row].target_1CHW for row in fresh])
        w_BLD = torch.cat([slots[row].latent.w_BLD for row in fresh])
        masks = maps(target_BCHW, [slots[row].mask_11HW for row in fresh])
        begun_BCHW = begin_detail(slots[0].request.pack, target_BCHW, w_BLD, base_BCHW[fresh], masks)
        for row, detail_1CHW in zip(fresh, begun_BCHW.split(1), strict=True):
            details[row] = detail_1CHW.clone()
    return details


def _enter(slot: Slot, latent: Latent) -> None:
    slot.optimizer = slot.request.pack.detail.adam()
    slot.cohort_key = slot.optimizer
    slot.latent, slot.state = latent, slot.optimizer.init(latent)
    slot.detail_from = slot.progress.index
    slot.progress = marked_anew(slot.progress)

"""A training step as a CUDA graph: recorded once, then replayed with one launch in place of some thousands.

With networks as small as a 64 px pack's, a GPU waits for the host: a step takes as long with 64 pictures as with 8
(docs/experiments/2026-11-28-generator-on-gpu.md). A recording does the same work on the same tensors: weights,
moments and random numbers go on as they would without it, so a run may be recorded on one machine and not on another.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger(__name__)

PLAIN_STEPS = 3
"""Steps of a kind before it is recorded: in them libraries choose their kernels, and Adam makes its moments."""

Update = Callable[[Tensor], Mapping[str, Tensor]]
"""From real pictures to losses by name; changes weights in place. It must not look at any value on the host."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Recording:
    """A graph, the pictures that it reads, and the losses that it writes."""

    graph: torch.cuda.CUDAGraph
    real_BCHW: Tensor
    names: tuple[str, ...]
    losses_N: Tensor


class Recorder:
    """Does updates, on CUDA by graphs. What differs between kinds of a step (a term that comes every so often) has to
    be in `kind`; what differs between steps of a kind has to be in tensors."""

    def __init__(self, device: torch.device, *, is_on: bool = True) -> None:
        self._device = device
        self._plain_steps: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, _Recording | None] = {}
        records = is_on and device.type == "cuda"
        self._beside = torch.cuda.Stream(device) if records else None
        self._pool = torch.cuda.graph_pool_handle() if records else None  # one after another: they share memory

    def __call__(self, kind: Hashable, update: Update, real_BCHW: Tensor) -> Mapping[str, Tensor]:
        """Do the update once; `kind` with the pictures' shape says which recording does it."""
        if self._beside is None:
            return update(real_BCHW)
        key = kind, real_BCHW.shape
        done = self._plain_steps.get(key, 0)
        if done < PLAIN_STEPS:
            self._plain_steps[key] = done + 1
            return self._beside_the_rest(update, real_BCHW)
        if key not in self._recordings:
            self._recordings[key] = self._recorded(kind, update, real_BCHW)
        recording = self._recordings[key]
        if recording is None:
            return update(real_BCHW)
        recording.real_BCHW.copy_(real_BCHW)
        recording.graph.replay()
        return dict(zip(recording.names, recording.losses_N.clone().unbind(), strict=True))

    def _beside_the_rest(self, update: Update, real_BCHW: Tensor) -> Mapping[str, Tensor]:
        """On a stream of its own: what a recording goes on with must not belong to the default one."""
        assert self._beside is not None
        self._beside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._beside):
            losses = update(real_BCHW)
        torch.cuda.current_stream(self._device).wait_stream(self._beside)
        return losses

    def _recorded(self, kind: Hashable, update: Update, real_BCHW: Tensor) -> _Recording | None:
        """None where the update cannot be recorded; recording does nothing yet."""
        real_BCHW = real_BCHW.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                losses = update(real_BCHW)
                losses_N = torch.stack([loss.detach().float() for loss in losses.values()])
        except RuntimeError as error:
            log.warning("a training step is not recorded kind=%s error=%s", kind, error)
            return None
        return _Recording(graph=graph, real_BCHW=real_BCHW, names=tuple(losses), losses_N=losses_N)


def recordable_adam(device: torch.device) -> dict[str, bool]:
    """Arguments of an Adam whose steps can be recorded: nothing of it lies on the host."""
    return {"fused": True, "capturable": device.type == "cuda"}

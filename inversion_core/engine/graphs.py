"""CUDA graphs: a bucket's step is recorded once and then replayed, which costs one launch, not a thousand.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from inversion_core.engine.precision import Precision
from inversion_core.engine.step import Evaluate, Evaluation, Inputs, PackStep, Want, is_out_of_memory, joined_seen
from inversion_core.packs import Pack

log = logging.getLogger(__name__)

WARM_UP_CALLS = 3
"""Calls before a recording: libraries choose their kernels and take their memory in them (torch.cuda.graph)."""


def make_step(pack: Pack, regulariser_weight: float, precision: Precision) -> Evaluate:
    """The step of a pack as its device does it best."""
    step = PackStep(pack, regulariser_weight, precision)
    return GraphedStep(step) if pack.device.type == "cuda" else step


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """A graph, the tensors that it reads, and those that it writes at each replay."""

    graph: torch.cuda.CUDAGraph
    w_BLD: Tensor
    inputs: Inputs
    outputs: Evaluation


class GraphedStep:
    """A step whose shapes are recorded when they first come; one that cannot be recorded is computed as usual."""

    def __init__(self, step: Evaluate) -> None:
        self._step = step
        self._recordings: dict[Hashable, Recording | None] = {}
        self._pool = torch.cuda.graph_pool_handle()  # recordings are replayed one after another: they share memory

    def __call__(self, w_BLD: Tensor, inputs: Inputs, want: Want) -> Evaluation:
        if want is Want.LOSS:
            return self._step(w_BLD, inputs, want)  # the last Step of a lonely request: once each
        key = len(w_BLD), inputs.mask_B1HW is None, inputs.weight_B1HW is None, want
        if key not in self._recordings:
            self._recordings[key] = self._recorded(w_BLD, inputs, want)
        recording = self._recordings[key]
        if recording is None:
            return self._step(w_BLD, inputs, want)
        return replayed(recording, w_BLD, inputs)

    def _recorded(self, w_BLD: Tensor, inputs: Inputs, want: Want) -> Recording | None:
        """None where the step cannot be recorded. Raises: what the step raises, and of memory."""
        w_BLD, inputs = w_BLD.clone(), inputs.mapped(torch.clone)
        beside = torch.cuda.Stream(w_BLD.device)
        beside.wait_stream(torch.cuda.current_stream(w_BLD.device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP_CALLS):
                self._step(w_BLD, inputs, want)
        torch.cuda.current_stream(w_BLD.device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                outputs = self._step(w_BLD, inputs, want)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            log.warning("not recorded rows=%d error=%s", len(w_BLD), error)
            return None
        return Recording(graph=graph, w_BLD=w_BLD, inputs=inputs, outputs=outputs)


def replayed(recording: Recording, w_BLD: Tensor, inputs: Inputs) -> Evaluation:
    """The step on these tensors; the result is copied, since the next replay writes to the same place."""
    recording.w_BLD.copy_(w_BLD)
    for read, given in zip(recording.inputs.tensors().values(), inputs.tensors().values(), strict=True):
        read.copy_(given)
    recording.graph.replay()
    return kept(recording.outputs)


def kept(outputs: Evaluation) -> Evaluation:
    """A copy that the next replay does not touch."""
    seen = outputs.seen
    return Evaluation(
        image_BCHW=outputs.image_BCHW.clone(),
        loss_B=outputs.loss_B.clone(),
        pixel_B=outputs.pixel_B.clone(),
        perceptual_B=outputs.perceptual_B.clone(),
        grad_BLD=None if outputs.grad_BLD is None else outputs.grad_BLD.clone(),
        seen=None if seen is None else joined_seen([seen]),
    )

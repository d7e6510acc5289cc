"""CUDA graphs: a bucket's step is recorded once and then replayed, which costs one launch, not a thousand.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass

import torch

from inversion_core.engine.precision import Precision
from inversion_core.engine.step import Evaluate, Inputs, Outcome, PackStep, Want, is_out_of_memory
from inversion_core.latents import Latent
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
    latent: Latent
    inputs: Inputs
    outputs: Outcome


class GraphedStep:
    """A step whose shapes are recorded when they first come; one that cannot be recorded is computed as usual."""

    def __init__(self, step: Evaluate) -> None:
        self._step = step
        self._recordings: dict[Hashable, Recording | None] = {}
        self._pool = torch.cuda.graph_pool_handle()  # recordings are replayed one after another: they share memory

    def __call__(self, latent: Latent, inputs: Inputs, want: Want) -> Outcome:
        if want is Want.LOSS:
            return self._step(latent, inputs, want)  # the last Step of a lonely request: once each
        key = len(latent), inputs.base_BCHW is None, inputs.mask_B1HW is None, inputs.weight_B1HW is None, want
        if key not in self._recordings:
            self._recordings[key] = self._recorded(latent, inputs, want)
        recording = self._recordings[key]
        if recording is None:
            return self._step(latent, inputs, want)
        return replayed(recording, latent, inputs)

    def _recorded(self, latent: Latent, inputs: Inputs, want: Want) -> Recording | None:
        """None where the step cannot be recorded. Raises: what the step raises, and of memory."""
        latent, inputs = latent.mapped(torch.clone), inputs.mapped(torch.clone)
        device = latent.w_BLD.device
        beside = torch.cuda.Stream(device)
        beside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP_CALLS):
                self._step(latent, inputs, want)
        torch.cuda.current_stream(device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                outputs = self._step(latent, inputs, want)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            log.warning("not recorded rows=%d error=%s", len(latent), error)
            return None
        return Recording(graph=graph, latent=latent, inputs=inputs, outputs=outputs)


def replayed(recording: Recording, latent: Latent, inputs: Inputs) -> Outcome:
    """The step on these tensors; the result is copied, since the next replay writes to the same place."""
    read = [*recording.latent.tensors().values(), *recording.inputs.tensors().values()]
    given = [*latent.tensors().values(), *inputs.tensors().values()]
    for read_B, given_B in zip(read, given, strict=True):
        read_B.copy_(given_B)
    recording.graph.replay()
    return recording.outputs.mapped(torch.clone)

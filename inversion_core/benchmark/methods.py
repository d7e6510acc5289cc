"""The methods that are compared: the start alone, and each optimizer for so many steps, with so many of detail after.

Suffixes: B image, C channel, H W height and width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inversion_core.benchmark.clock import now
from inversion_core.errors import OptionInvalid
from inversion_core.inverter import BestSteps, InvertConfig, invert, make_optimizer, start_codes
from inversion_core.packs import Pack

ADAM = "adam"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one method made of one batch."""

    method: str
    """Name in the tables."""
    image_BCHW: Tensor
    """What the service would keep: of an optimizer's steps the best so far (`BestSteps`)."""
    step_B: Tensor
    """Which step that was."""
    optimizer: str | None
    """None for the start alone."""
    seconds: float
    """Wall seconds of the batch divided by its images; one image alone takes longer than that."""
    frames: dict[int, Tensor] = field(repr=False, default_factory=dict)
    """Step -> the best picture up to it, for the steps that were asked for."""


def start_name(pack: Pack) -> str:
    """The start that `invert` takes by itself, which is also the name of the method that stops there."""
    return "encoder" if pack.has_encoder else "mean"


def method_names(
    pack: Pack, steps: Sequence[int], optimizers: Sequence[str] = (ADAM,), detail_steps: Sequence[int] = (0,)
) -> list[str]:
    """Names in the order in which `run_methods` yields: NAME-N, and NAME-N-detail-M with M steps of detail.

    Raises:
        OptionInvalid: the pack has no such optimizer, or `steps` or `detail_steps` are no numbers of updates.
    """
    if not steps or min(steps) < 1 or len(set(steps)) < len(steps):
        raise OptionInvalid(f"steps are {list(steps)}; they must be different numbers of at least 1, as in: 100 500")
    if not optimizers or len(set(optimizers)) < len(optimizers):
        raise OptionInvalid(f"optimizers are {list(optimizers)}; they must be different names, as in: adam learned")
    for optimizer in optimizers:
        make_optimizer(pack, InvertConfig(optimizer=optimizer))
    if not detail_steps or min(detail_steps) < 0 or len(set(detail_steps)) < len(detail_steps):
        raise OptionInvalid(f"detail steps are {list(detail_steps)}; they must be different numbers, as in: 0 5 10")
    runs = itertools.product(optimizers, steps, detail_steps)
    return [
        start_name(pack),
        *(f"{name}-{count}" + (f"-detail-{detail}" if detail else "") for name, count, detail in runs),
    ]


def run_methods(
    pack: Pack,
    target_BCHW: Tensor,
    steps: Sequence[int],
    *,
    optimizers: Sequence[str] = (ADAM,),
    keep: Sequence[int] = (),
    tick: Callable[[], object] = lambda: None,
    focus: float | None = None,
    detail_steps: Sequence[int] = (0,),
) -> Iterator[Result]:
    """Invert a batch by each method in turn, each from the start: a schedule may depend on the number of steps.

    Args:
        target_BCHW: pictures in [-1, 1], at the pack's resolution.
        steps: numbers of updates.
        optimizers: names; each runs for each number.
        keep: steps whose pictures are wanted in `frames`.
        tick: called after each Step of an optimizer, for a progress bar.
        focus: see InvertConfig.
        detail_steps: numbers of updates of detail after those; each number of updates runs with each of them.
    """
    _, *names = method_names(pack, steps, optimizers, detail_steps)
    target_BCHW = target_BCHW.to(pack.device)
    yield _start(pack, target_BCHW)
    runs = itertools.product(optimizers, steps, detail_steps)
    for name, (optimizer, count, detail) in zip(names, runs, strict=True):
        config = InvertConfig(num_steps=count, detail_steps=detail, optimizer=optimizer, focus=focus)
        own = (count + detail,) if detail else keep  # on the way to detail a run is that without it
        yield _inverted(pack, target_BCHW, name, config, keep=own, tick=tick)


def _start(pack: Pack, target_BCHW: Tensor) -> Result:
    """The start code and its picture; no loss is computed."""
    started = now(pack.device)
    with torch.no_grad():
        image_BCHW = pack.synthesize(start_codes(pack, target_BCHW, InvertConfig()))
    seconds = (now(pack.device) - started) / len(target_BCHW)
    step_B = torch.zeros(len(target_BCHW), dtype=torch.long)
    return Result(
        method=start_name(pack), optimizer=None, image_BCHW=image_BCHW, step_B=step_B, seconds=seconds,
        frames={0: image_BCHW},
    )  # fmt: skip


def _inverted(
    pack: Pack, target_BCHW: Tensor, name: str, config: InvertConfig, *, keep: Sequence[int], tick: Callable[[], object]
) -> Result:
    best, frames = BestSteps(), {}
    started = now(pack.device)
    for step in invert(pack, target_BCHW, config):
        best.update(step)
        if step.index in keep:
            frames[step.index] = best.image_BCHW
        tick()
    seconds = (now(pack.device) - started) / len(target_BCHW)
    assert best.index_B is not None, "invert yields the start at least"
    return Result(
        method=name, optimizer=config.optimizer, image_BCHW=best.image_BCHW, step_B=best.index_B, seconds=seconds,
        frames=frames,
    )  # fmt: skip

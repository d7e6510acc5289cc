"""Many images at once: what an iteration, an image, and its memory and energy cost, and how much of the device is used.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inversion_core.benchmark.clock import now, seconds
from inversion_core.benchmark.consumption import tells_energy, watched
from inversion_core.benchmark.engine_loop import MANY_STEPS, EngineLoop, own_pictures
from inversion_core.benchmark.peak_memory import peak_bytes_alone
from inversion_core.benchmark.reference import ReferenceLoop
from inversion_core.benchmark.roofline import Work, least_seconds, measured_rates, works_of
from inversion_core.engine.precision import Precision, arithmetic, networks_in
from inversion_core.inverter import InvertConfig
from inversion_core.loss import InversionLoss
from inversion_core.packs import Pack

STEPS = 20
"""Updates of one image, for images per second."""
TOP = 6
"""Operations that a profile names."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """One number of images at once on one pack."""

    pack: str
    images: int
    iteration_s: float
    """Mean seconds of one iteration of all of them, over an inversion: its first ones may cost more than its last."""
    images_per_s: float
    """Inversions of STEPS updates, encoder and target features included."""
    plain_images_per_s: float
    """The same of the plain frozen loop, one image after another, without encoder and features."""
    reference_images_per_s: float
    """The same of the loop as the public reference writes it."""
    peak_bytes: int | None
    """Memory: on a CPU of a process that does nothing else, of torch on CUDA. None where the system does not tell."""
    joules_per_image: float | None
    """None where the device does not tell."""
    flops_per_image: int
    """Floating point operations of one image's iteration: matrix products and convolutions as they are defined,
    forward and backward to the code, two for each product. Winograd's algorithm does fewer."""
    flops_per_s: float
    """Such operations that one large matrix product does on this device, in the precision of the step."""
    matrix_part: float
    """Operations of the step done in a second, as a part of that."""
    bytes_per_image: int
    """Read and written by an image's iteration: each operation as it is written, none fused."""
    bytes_per_s: float
    """Such bytes that one large copy reads and writes."""
    roofline_part: float
    """What the iteration takes at the least, by roofline.py, as a part of what it took."""
    profile: Mapping[str, float]
    """Operation -> part of the engine's time, the largest first."""
    plain_profile: Mapping[str, float]
    """The same of the plain loop: where the time went before."""


def sizes_for(device: str) -> tuple[int, ...]:
    """Numbers of images at once that are measured."""
    return (1, 8, 32, 64, 128) if device.startswith("cuda") else (1, 2, 4, 8)


def measure_crowds(
    pack: Pack, sizes: Sequence[int], iterations: int, precision: Precision = Precision.FLOAT32, *, name: str
) -> Iterator[Crowd]:
    """One row for each size; the loops that take one image at a time are measured beside each, in torch's float32.

    Args:
        name: by which another process finds the pack, to measure its memory alone.
    """
    if not sizes:
        return
    target_BCHW = own_pictures(pack, max(sizes))
    plain, reference = (_single(pack, target_BCHW[:1], is_frozen=frozen) for frozen in (True, False))
    on_cuda = pack.device.type == "cuda"
    rates = measured_rates(pack.device, precision)
    plain_profile = profiled(plain, pack.device)
    for images in sizes:
        loop = _warm_loop(pack, target_BCHW[:images], precision)
        with watched(pack.device) as used:
            start_s = seconds(loop.step, pack.device)
            engine, plains, references = _in_turns(loop.step, (plain, reference), iterations, pack.device)
        iteration_s = statistics.mean(engine)
        works = works_of_step(pack, target_BCHW[:images], precision)
        flops = sum(work.flops for work in works)
        yield Crowd(
            pack=f"{pack.name} ({pack.resolution} px)",
            images=images,
            iteration_s=iteration_s,
            images_per_s=images / (start_s + STEPS * iteration_s),
            plain_images_per_s=1 / (STEPS * statistics.median(plains)),
            reference_images_per_s=1 / (STEPS * statistics.median(references)),
            peak_bytes=used.peak_bytes if on_cuda else peak_bytes_alone(name, images, precision),
            joules_per_image=_joules(loop.step, images, pack.device),
            flops_per_image=flops // images,
            flops_per_s=rates.flops_per_s,
            matrix_part=flops / iteration_s / rates.flops_per_s,
            bytes_per_image=sum(work.bytes for work in works) // images,
            bytes_per_s=rates.bytes_per_s,
            roofline_part=least_seconds(works, rates) / iteration_s,
            profile=profiled(loop.step, pack.device),
            plain_profile=plain_profile,
        )


def works_of_step(pack: Pack, target_BCHW: Tensor, precision: Precision = Precision.FLOAT32) -> list[Work]:
    """One iteration's operations, forward and backward to the code; convolutions as they are defined."""
    networks = networks_in(pack, precision)
    loss = InversionLoss(target_BCHW, features=networks.features, perceptual_weight=networks.perceptual_weight)
    codes_BLD = pack.mean_codes(len(target_BCHW)).contiguous()

    def step() -> None:
        w_BLD = codes_BLD.detach().requires_grad_()
        torch.autograd.grad(loss(networks.synthesize(w_BLD)).sum(), w_BLD)

    with torch.enable_grad(), arithmetic(precision, pack.device):
        return works_of(step)


def profiled(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Part of one call's time that each of the TOP operations takes itself; on CUDA of the time of its kernels."""
    times = _kernel_times(step, device) if device.type == "cuda" else _operation_times(step)
    total = sum(times.values()) or 1.0
    largest = sorted(times, key=lambda key: -times[key])[:TOP]
    return {key: round(times[key] / total, 4) for key in largest}


def _operation_times(step: Callable[[], object]) -> dict[str, float]:
    with torch.autograd.profiler.profile(use_kineto=False, use_device=None) as profile:
        step()
    return {event.key: event.self_cpu_time_total for event in profile.key_averages()}


def _kernel_times(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """A replayed graph is no operation of the host's: only the device knows what took how long."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        now(device)
    return {event.key: event.self_device_time_total for event in profile.key_averages()}


def crowd_table(crowds: Sequence[Crowd]) -> str:
    """The rows as markdown, and what they mean; empty where there are none."""
    if not crowds:
        return ""
    head = (
        "| pack | images at once | ms per iteration | images/s, 20 steps | times the plain loop "
        "| times the reference's | peak memory, GB | J per image | part of the matrix rate | part of the roofline |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    lines = [
        f"| {crowd.pack} | {crowd.images} | {1e3 * crowd.iteration_s:.1f} | {crowd.images_per_s:.3f} "
        f"| {crowd.images_per_s / crowd.plain_images_per_s:.2f} "
        f"| {crowd.images_per_s / crowd.reference_images_per_s:.2f} "
        f"| {_or_dash(crowd.peak_bytes, 1e-9)} | {_or_dash(crowd.joules_per_image, 1.0)} | {crowd.matrix_part:.2f} "
        f"| {crowd.roofline_part:.2f} |"
        for crowd in crowds
    ]
    last = {crowd.pack: crowd for crowd in crowds if crowd.images == 1}
    profiles = [
        f"- {name}, plain loop: {_said(crowd.plain_profile)}\n- {name}, engine: {_said(crowd.profile)}"
        for name, crowd in last.items()
    ]
    return (
        f"## Many at once\n\n{head}" + "\n".join(lines) + "\n\nThe other loops take one image after another. The part "
        "of the matrix rate compares the operations with the speed of one large matrix product. Convolutions count as "
        "defined, so Winograd's algorithm can pass 1. The part of the roofline compares the time with the least that "
        "the operations could take at the measured speed of products and of memory.\n\n"
        "Where the time of one image goes:\n\n" + "\n".join(profiles) + "\n\n"
    )


def _single(pack: Pack, target_1CHW: Tensor, *, is_frozen: bool) -> Callable[[], float]:
    loop = ReferenceLoop(pack, target_1CHW, pack.mean_codes(), learning_rate=0.01, is_frozen=is_frozen)
    loop.step()
    return loop.step


def _warm_loop(pack: Pack, target_BCHW: Tensor, precision: Precision) -> EngineLoop:
    """One that has not begun, in a process that has done the like before, as a worker's has."""
    config = InvertConfig(num_steps=MANY_STEPS, detail_steps=0, focus=0.0)
    first, second = (EngineLoop(pack, target_BCHW, config, precision=precision) for _ in range(2))
    first.step()
    return second


def _in_turns(
    step: Callable[[], object], others: Sequence[Callable[[], object]], times: int, device: torch.device
) -> list[list[float]]:
    """Seconds of each of STEPS calls of `step`, and of as many as `times` of each other, spread among those."""
    taken: list[list[float]] = [[] for _ in (step, *others)]
    for index in range(STEPS):
        taken[0].append(seconds(step, device))
        if index % max(1, STEPS // times) == 0:
            for other, times_s in zip(others, taken[1:], strict=True):
                times_s.append(seconds(other, device))
    return taken


def _joules(step: Callable[[], object], images: int, device: torch.device) -> float | None:
    """Of the STEPS updates of one image."""
    if not tells_energy(device):
        return None
    with watched(device) as used:
        for _ in range(3):
            step()
    return None if used.joules is None else used.joules / 3 * STEPS / images


def _or_dash(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.2f}"


def _said(profile: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * part:.0f} %" for name, part in profile.items())

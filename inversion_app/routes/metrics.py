"""Figures for Prometheus. Where keys are asked for, this takes one with the scope `admin`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from inversion_app.deps import Client
from inversion_app.errors import responses
from inversion_app.http_meters import HttpMeters
from inversion_worker.client import Figures
from inversion_worker.contract import STEP_BUCKETS_S, WorkerFigures

router = APIRouter(tags=["health"])
_EXAMPLE = """# HELP inversion_jobs Jobs in this state now.
# TYPE inversion_jobs gauge
inversion_jobs{state="queued"} 2.0
inversion_jobs{state="running"} 4.0
"""


async def get_http_meters(request: Request) -> HttpMeters:
    """What this process has counted."""
    meters: HttpMeters = request.app.state.http_meters
    return meters


@router.get(
    "/metrics",
    summary="Get Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **responses(),
    },
)
async def metrics(client: Client, meters: Annotated[HttpMeters, Depends(get_http_meters)]) -> Response:
    """Jobs, queue and workers of the whole service; HTTP requests of this process only."""
    registry = CollectorRegistry()
    registry.register(_Shown(await client.figures()))
    text = generate_latest(registry) + generate_latest(meters.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


class _Shown(Collector):
    """Figures of one moment."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield from _jobs(self._figures)
        yield from _workers(self._figures.workers)


def _jobs(figures: Figures) -> Iterator[Metric]:
    now = {"queued": figures.queued, "running": figures.running}
    ends = {name: figures.totals.get(name, 0) for name in ("succeeded", "failed", "canceled")}
    errors = {
        name.removeprefix("failed:/problems/"): count
        for name, count in figures.totals.items()
        if name.startswith("failed:")
    }
    yield _labelled(GaugeMetricFamily, "inversion_jobs", "Jobs in this state now.", "state", now)
    submitted = figures.totals.get("submitted", 0)
    yield CounterMetricFamily("inversion_jobs_submitted", "Jobs that were accepted.", submitted)
    yield _labelled(CounterMetricFamily, "inversion_jobs_ended", "Jobs that came to this.", "outcome", ends)
    yield _labelled(CounterMetricFamily, "inversion_job_errors", "Failed jobs by problem.", "type", errors)
    yield GaugeMetricFamily("inversion_queue_depth", "Jobs that wait.", figures.queued)
    yield GaugeMetricFamily(
        "inversion_queue_oldest_seconds", "How long the longest waiting job has waited.", figures.oldest_queued_s
    )
    yield GaugeMetricFamily("inversion_webhooks_waiting", "Jobs with a message for their webhook.", figures.webhooks)


def _labelled(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, about: str, label: str, by: dict[str, int]
) -> Metric:
    metric: Any = family(name, about, labels=[label])
    for value, count in by.items():
        metric.add_metric([value], count)
    return metric  # type: ignore[no-any-return]


def _workers(workers: Iterable[WorkerFigures]) -> Iterator[Metric]:
    labels = ["worker", "device"]
    slots = GaugeMetricFamily("inversion_worker_slots", "Jobs that a worker runs at once.", labels=labels)
    fill = GaugeMetricFamily("inversion_worker_batch_fill", "Share of its slots in use, 0 to 1.", labels=labels)
    memory = GaugeMetricFamily("inversion_worker_memory_bytes", "Memory in use.", labels=[*labels, "of"])
    frames = CounterMetricFamily("inversion_frames", "Frames written.", labels=labels)
    steps = HistogramMetricFamily("inversion_step_seconds", "Time of one step of one job.", labels=labels)
    answers = SummaryMetricFamily(
        "inversion_answer_seconds", "Time of a short question, answered beside the jobs.", labels=[*labels, "kind"]
    )
    for worker in workers:
        own = [worker.worker, worker.device]
        slots.add_metric(own, worker.slots)
        fill.add_metric(own, worker.running / worker.slots)
        frames.add_metric(own, worker.frames)
        steps.add_metric(own, _cumulative(worker.steps_by_bucket), worker.step_seconds)
        for kind, (count, seconds) in worker.answers.items():
            answers.add_metric([*own, kind], count, seconds)
        for kind, used in (("process", worker.process_memory_bytes), ("device", worker.device_memory_bytes)):
            if used is not None:
                memory.add_metric([*own, kind], used)
    yield from (slots, fill, frames, steps, answers, memory)


def _cumulative(counts: Iterable[int]) -> list[tuple[str, float]]:
    """Prometheus counts in each bucket what is in the ones before."""
    bounds = [*(str(float(bound)) for bound in STEP_BUCKETS_S), "+Inf"]
    total, found = 0, []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found

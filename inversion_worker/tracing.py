"""OpenTelemetry traces, from the upload to the result; nothing at all where no endpoint is configured.

OTEL_EXPORTER_OTLP_ENDPOINT says where spans go (OTLP over HTTP), OTEL_SERVICE_NAME and the SDK's other variables hold.
A job's record keeps the `traceparent` of the request that made it, so that the worker's spans join the same trace.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def set_up(service: str) -> bool:
    """Send this process's spans where the environment says; whether there is such a place."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning('an OTLP endpoint is set, but nothing to reach it: pip install "stylegan-inversion[otel]"')
        return False
    name = os.environ.get("OTEL_SERVICE_NAME", service)
    provider = SdkProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)
    return True


def use(provider: TracerProvider | None) -> None:
    """Make spans with this provider from now on; None makes none."""
    global _provider, _tracer
    _provider = provider
    _tracer = provider.get_tracer("stylegan-inversion") if provider is not None else None


def provider_in_use() -> TracerProvider | None:
    """The provider that `set_up` made, for the web framework's own spans."""
    return _provider


@contextmanager
def span(name: str, parent: str = "", **attributes: str | int | float) -> Iterator[None]:
    """A span around the block; under `parent`, a traceparent, where there is one. Errors are noted on it."""
    if _tracer is None:
        yield
        return
    context = _propagator().extract({"traceparent": parent}) if parent else None
    with _tracer.start_as_current_span(name, context=context, attributes=attributes):
        yield


def traceparent() -> str:
    """The span at hand, as W3C Trace Context writes it; empty where there is none."""
    if _tracer is None:
        return ""
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get("traceparent", "")


def _propagator() -> TraceContextTextMapPropagator:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()

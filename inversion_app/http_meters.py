"""Requests by route and status, counted in this process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import Scope

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMeters:
    """Labels have few values: routes, not addresses; and of methods those that exist."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "inversion_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "inversion_http_request_seconds",
            "Time to the end of the answer, event streams aside.",
            ("method", "route"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )

    def count(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Count one request; `status` is None where the connection was cut before an answer."""
        route = getattr(scope.get("route"), "path", None) or "none"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status or 0)).inc()
        if not route.endswith("/events"):
            self._seconds.labels(method, route).observe(seconds)

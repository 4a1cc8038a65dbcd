"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Monitor:
    """Counters of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "mno_requests",
            "Requests to /invocations, by status",
            ["status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "mno_request_seconds",
            "Time from a request's arrival to its answer",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_samples = Histogram(
            "mno_batch_samples",
            "Samples that were predicted together",
            buckets=_SAMPLES,
            registry=registry,
        )
        self.waiting = Gauge(
            "mno_waiting_requests", "Requests that wait for the model", registry=registry
        )
        self.changes = Counter(
            "mno_model_changes", "Times another version was taken", registry=registry
        )
        self.failures = Counter(
            "mno_model_failures", "Versions that were named and not served", registry=registry
        )
        self.model = Gauge(
            "mno_model_since_seconds",
            "When the model was taken into service",
            ["model"],
            registry=registry,
        )

    def serves(self, name: str, since: float) -> None:
        """Note which model is in service."""
        self.model.clear()
        self.model.labels(model=name).set(since)

    def text(self) -> bytes:
        """Return all counters as Prometheus reads them."""
        return generate_latest(self._registry)

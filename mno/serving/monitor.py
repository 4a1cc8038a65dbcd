"""What the service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mno.serving.estimate import FLAG, relative_bound

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # the rest has none
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

        self.samples = Counter(
            "mno_samples", "Samples that were answered", ["model"], registry=registry
        )
        self.flagged = Counter(
            "mno_flagged_samples",
            "Samples that are unlike the training data",
            ["model"],
            registry=registry,
        )
        self.bounds = Histogram(
            "mno_relative_l2_bound",
            "Bounds on the relative L2 errors of what was answered",
            ["model"],
            buckets=_BOUNDS,
            registry=registry,
        )

    def answered(self, name: str, samples: int, found: Mapping[str, np.ndarray] | str) -> None:
        """Count an answer.

        Args:
            name: The model that gave it.
            samples: Of it.
            found: What is known of it, as `mno.serving.estimate.estimate` returns it.
        """
        self.samples.labels(model=name).inc(samples)
        if isinstance(found, str):
            return
        self.flagged.labels(model=name).inc(int(found[FLAG].sum()))
        observe = self.bounds.labels(model=name).observe
        for bound in relative_bound(found).tolist():
            observe(bound)

    def serves(self, name: str, since: float) -> None:
        """Note which model is in service."""
        self.model.clear()
        self.model.labels(model=name).set(since)

    def text(self) -> bytes:
        """Return all counters as Prometheus reads them."""
        return generate_latest(self._registry)

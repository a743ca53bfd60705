"""What Prometheus is told: this process counts requests, the database is asked about all else, at most every few
seconds."""

import threading
import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from shared import census
from shared.census import Census, WorkerNow
from shared.db import Sessions

EVERY = 5.0
"""Seconds between two looks at the database."""
_SHARE = 20
"""A look that takes long is followed by a pause so many times as long."""
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All figures of this process and of the installation. `registry` gives them."""

    def __init__(self, sessions: Sessions, every: float = EVERY) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "regrow_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "regrow_http_request_seconds",
            "Time until an answer began.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(Installation(sessions, every))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; its answer began after so many seconds."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class Installation(Collector):
    """What the database tells. However many ask, there is one look at a time."""

    def __init__(self, sessions: Sessions, every: float) -> None:
        self._sessions, self._every = sessions, every
        self._lock = threading.Lock()
        self._last: Census | None = None
        self._took, self._next = 0.0, 0.0

    def describe(self) -> Iterable[Metric]:
        # Else the registry would look to learn the names.
        return ()

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() >= self._next:
                self._look()
            last, took = self._last, self._took
        yield GaugeMetricFamily(
            "regrow_database_up", "Whether the database answered when last asked.", last is not None
        )
        if last is None:
            return
        yield GaugeMetricFamily("regrow_census_seconds", "What counting took, in the database.", took)
        yield from _of_the_work(last)
        yield from _of_workers(last.workers)

    def _look(self) -> None:
        began = time.monotonic()
        try:
            with self._sessions.read() as session:
                self._last = census.take(session)
        except SQLAlchemyError:
            self._last = None
        ended = time.monotonic()
        self._took = ended - began
        self._next = ended + max(self._every, _SHARE * self._took)


def _of_the_work(counted: Census) -> Iterator[Metric]:
    items = GaugeMetricFamily("regrow_items", "Items of all jobs.", labels=["state"])
    for state, number in counted.items.items():
        items.add_metric([state], number)
    yield items
    waiting = GaugeMetricFamily("regrow_queue_depth", "What a worker could take now.", labels=["kind"])
    for kind, number in counted.waiting.items():
        waiting.add_metric([kind], number)
    yield waiting
    yield GaugeMetricFamily("regrow_open_jobs", "Jobs that are not over, paused ones too.", counted.open_jobs)
    yield GaugeMetricFamily(
        "regrow_oldest_waiting_job_seconds",
        "Since the job that has waited longest was made, or last given to a worker; 0: none waits.",
        counted.oldest_waiting,
    )


def _of_workers(workers: Iterable[WorkerNow]) -> Iterator[Metric]:
    alive = GaugeMetricFamily(
        "regrow_worker_up",
        "Processes that gave a sign of life; trouble says why one takes no work.",
        labels=["worker", "queues", "device", "trouble"],
    )
    made = HistogramMetricFamily("regrow_item_seconds", "Sampling of an image.", labels=["worker"])
    steps = CounterMetricFamily("regrow_sampler_steps", "Sampler steps, for each image of a batch.", labels=["worker"])
    pace = GaugeMetricFamily("regrow_sampler_steps_per_second", "The same, lately.", labels=["worker"])
    failures = CounterMetricFamily("regrow_item_failures", "Attempts at an item that failed.", labels=["worker"])
    used = GaugeMetricFamily(
        "regrow_device_memory_used_bytes", "In use on a GPU by anybody, on a CPU by the sampler.", labels=["worker"]
    )
    size = GaugeMetricFamily("regrow_device_memory_bytes", "Memory of the GPU, or of the machine.", labels=["worker"])
    lapses = CounterMetricFamily("regrow_lapses", "Leases whose workers vanished.", labels=["worker", "kind"])
    for worker in workers:
        figures, name = worker.figures, [worker.name]
        alive.add_metric([worker.name, ",".join(worker.queues) or "sweep", worker.device, worker.trouble or ""], 1)
        for kind, number in figures.lapses.items():
            lapses.add_metric([worker.name, kind], number)
        if "gpu" not in worker.queues or not figures.within:
            continue
        made.add_metric(name, list(figures.within.items()), figures.seconds)
        steps.add_metric(name, figures.steps)
        pace.add_metric(name, figures.steps_a_second)
        failures.add_metric(name, figures.failures)
        if figures.memory is not None and figures.memory_used is not None:
            used.add_metric(name, figures.memory_used)
            size.add_metric(name, figures.memory)
    yield from (alive, made, steps, pace, failures, used, size, lapses)

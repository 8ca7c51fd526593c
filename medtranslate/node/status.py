"""What the node shows of itself: figures for Prometheus and a status page.

Neither shows who a patient is: series are named by their UIDs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from medtranslate.errors import NodeFailed
from medtranslate.html import render
from medtranslate.node.jobs import WAITING, Job, State
from medtranslate.node.rules import Status
from medtranslate.node.spool import Spool

_SHOWN = 200
"""Jobs on the page."""


class Figures:
    """The figures of a node, for Prometheus.

    Parameters
    ----------
    spool : Spool
        Its jobs are counted when the figures are read.
    """

    def __init__(self, spool: Spool) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(_SpoolFigures(spool))
        self._instances = Counter(
            "medtranslate_node_instances",
            "Instances received, by outcome",
            ["outcome"],
            registry=registry,
        )
        self._rejected = Counter(
            "medtranslate_node_associations_rejected", "Associations rejected", registry=registry
        )
        self._conversions = Counter(
            "medtranslate_node_conversions",
            "Conversions, by outcome",
            ["outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "medtranslate_node_conversion_seconds",
            "Duration of conversions",
            buckets=(1, 2, 5, 10, 20, 60, 120, 300, 600),
            registry=registry,
        )
        self._delivered = Counter(
            "medtranslate_node_instances_delivered",
            "Instances that a receiver took",
            ["receiver"],
            registry=registry,
        )
        self._failed = Counter(
            "medtranslate_node_delivery_failures",
            "Attempts at a delivery that failed",
            ["receiver"],
            registry=registry,
        )
        self._sent = Counter(
            "medtranslate_node_series_sent", "Series that every receiver has", registry=registry
        )
        self._quarantined = Counter(
            "medtranslate_node_series_quarantined", "Series put aside", registry=registry
        )

    def instance(self, outcome: str) -> None:
        """Count a C-STORE."""
        self._instances.labels(outcome).inc()

    def rejected(self) -> None:
        """Count a rejected association."""
        self._rejected.inc()

    def converted(self, outcome: str, seconds: float | None) -> None:
        """Count a conversion and its duration, if it came so far."""
        self._conversions.labels(outcome).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def delivered(self, receiver: str, instances: int) -> None:
        """Count instances that a receiver took."""
        self._delivered.labels(receiver).inc(instances)

    def failed(self, receiver: str) -> None:
        """Count a delivery that failed."""
        self._failed.labels(receiver).inc()

    def sent(self) -> None:
        """Count a series that every receiver has."""
        self._sent.inc()

    def quarantined(self) -> None:
        """Count a series put aside."""
        self._quarantined.inc()


class _SpoolFigures(Collector):
    """What the spool holds, counted when it is asked for."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def describe(self) -> Iterable[Any]:
        """Name no metrics beforehand: the spool may not be open yet."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        series = GaugeMetricFamily(
            "medtranslate_node_series", "Series in the spool, by state", labels=["state"]
        )
        for state, count in self._spool.counts().items():
            series.add_metric([state], count)
        yield series
        yield GaugeMetricFamily(
            "medtranslate_node_spool_bytes", "Size of the spool", value=self._spool.size
        )
        waiting = self._spool.jobs(*WAITING)
        oldest = time.time() - waiting[0].record.received if waiting else 0.0
        yield GaugeMetricFamily(
            "medtranslate_node_oldest_waiting_seconds",
            "Age of the oldest series that is neither sent nor in quarantine",
            value=oldest,
        )


def page(spool: Spool) -> str:
    """Return the status page: jobs by state, then each with what is wrong."""
    counts = [(state.value, count) for state, count in spool.counts().items()]
    jobs = spool.jobs(*WAITING, State.QUARANTINE)
    sent = spool.jobs(State.SENT)[-_SHOWN // 4 :]
    rows = [_row(spool, job) for job in [*jobs[:_SHOWN], *reversed(sent)]]
    return render(
        "node_status",
        title="medtranslate node",
        counts=[*counts, ("size of the spool", f"{spool.size / 1e6:.1f} MB")],
        jobs=rows,
        left_out=max(0, len(jobs) - _SHOWN),
        now=_time(time.time()),
    )


def _row(spool: Spool, job: Job) -> tuple[str, ...]:
    record = job.record
    told = [record.reason] if record.reason else []
    for receiver in record.send_to:
        attempts = spool.attempts(job, receiver)
        if attempts.error:
            told.append(f"{receiver}: {attempts.error} ({attempts.failures} attempts)")
    count = len(record.instances) or ""
    return (
        _time(record.changed),
        job.folder.parent.name,
        job.name,
        record.modality,
        str(count),
        record.rule,
        "; ".join(told),
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    address_family = WSGIServer.address_family


class _Quiet(WSGIRequestHandler):
    """Write no line for each request."""

    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


class StatusServer:
    """Serves the status page at ``/`` and the figures at ``/metrics``, in a thread.

    Raises
    ------
    NodeFailed
        The port is taken.
    """

    def __init__(self, status: Status, spool: Spool, figures: Figures) -> None:
        metrics: Any = make_wsgi_app(figures.registry)

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "/")
            if path == "/metrics":
                served: Iterable[bytes] = metrics(environ, start_response)
                return served
            found = path == "/"
            body = page(spool).encode() if found else b"no such page: / or /metrics\n"
            kind = "text/html" if found else "text/plain"
            headers = [
                ("Content-Type", f"{kind}; charset=utf-8"),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
            ]
            start_response("200 OK" if found else "404 Not Found", headers)
            return [body]

        try:
            self._server = make_server(
                status.host,
                status.port,
                app,
                server_class=_ThreadingServer,
                handler_class=_Quiet,
            )
        except OSError as error:
            where = f"{status.host}:{status.port}"
            fault = f"cannot serve the status page on {where}: {error.strerror or error}"
            raise NodeFailed(fault) from error
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

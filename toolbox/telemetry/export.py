"""OpenTelemetry's SDK, set up. Imported only where an endpoint is configured: it is large."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from aiohttp import web
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from toolbox import __version__
from toolbox.children.process import Exit
from toolbox.telemetry.settings import Settings
from toolbox.web.metrics import LATENCY_BOUNDS, Metrics
from toolbox.web.relay import TRACE_HEADERS

NAME = "sandbox-toolbox"
_NOISY = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.sdk._shared_internal",
)
_TELLS_HEADERS = "opentelemetry.util.re"
"""Its warnings repeat headers, which hold the key of the collector."""
_SELDOM_SECONDS = 3600.0
_USAGE_FRESH_SECONDS = 0.5
_SERVER_ERROR = 500

Usage = Callable[[], Mapping[str, float]]
"""Returns what the sandbox uses, by the name of a metric; may read files."""


class RequestSpan:
    """A request that is being answered. What is started meanwhile belongs to it."""

    def __init__(self, tracer: trace.Tracer, request: web.Request) -> None:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        self._span = tracer.start_span(
            f"{request.method} {route}".strip(),
            propagate.extract(request.headers),
            SpanKind.SERVER,
            # No path and no query: either may hold a secret.
            {"http.request.method": request.method, "http.route": route, "url.scheme": request.scheme},
        )
        self._token = context.attach(trace.set_span_in_context(self._span))
        headers: dict[str, str] = {}
        propagate.inject(headers)
        request[TRACE_HEADERS] = headers

    def finish(self, operation: str, status: int, request_id: str) -> None:
        """It has been answered, or given up."""
        context.detach(self._token)
        self._span.set_attributes(
            {"http.response.status_code": status, "toolbox.operation": operation, "toolbox.request_id": request_id}
        )
        if status >= _SERVER_ERROR:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Export:
    """Sends spans and metrics in threads of its own, from bounded queues. Made in a thread, since it reads files."""

    def __init__(
        self, settings: Settings, service: str, attributes: Mapping[str, str], headers: Mapping[str, str]
    ) -> None:
        named = {} if settings.named else {"service.name": service}
        resource = Resource.create({**named, "service.version": __version__, **attributes, **settings.attributes})
        self._filters: list[tuple[logging.Logger, Callable[[logging.LogRecord], bool]]]
        self._filters = [(logging.getLogger(_TELLS_HEADERS), _without_values)]
        self._filters += [(logging.getLogger(name), _Seldom().filter) for name in _NOISY]
        for logger, each in self._filters:
            logger.addFilter(each)
        base = settings.endpoint.rstrip("/") if settings.endpoint else None
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.tracer = self._traces.get_tracer(NAME, __version__) if settings.traces else None
        if self.tracer is not None:
            exporter = OTLPSpanExporter(base and f"{base}/v1/traces", headers=headers or None)
            self._traces.add_span_processor(BatchSpanProcessor(exporter))
        readers = []
        if settings.metrics:
            to = OTLPMetricExporter(base and f"{base}/v1/metrics", headers=headers or None)
            readers.append(PeriodicExportingMetricReader(to))
        self._metrics = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._meter = self._metrics.get_meter(NAME, __version__) if settings.metrics else None

    def observe(self, metrics: Metrics, usage: Usage | None) -> None:
        """Export what `/metrics` shows, under the same names, and what `usage` tells."""
        if self._meter is None:
            return
        _export_counters(self._meter, metrics)
        latency = self._meter.create_histogram(
            "toolbox_request_seconds", "s", "Time to answer", explicit_bucket_boundaries_advisory=list(LATENCY_BOUNDS)
        )
        metrics.record_latency = lambda operation, seconds: latency.record(seconds, {"operation": operation})
        if usage is not None:
            _export_usage(self._meter, usage)

    def begin(self, request: web.Request) -> RequestSpan | None:
        """Begin the span of a request; None where spans are not exported."""
        return RequestSpan(self.tracer, request) if self.tracer is not None else None

    def start_command(self, name: str, attributes: Mapping[str, str | int]) -> Callable[[Exit], None]:
        """Begin the span of a command and return what ends it."""
        assert self.tracer is not None  # noqa: S101 -- only then it is called
        span = self.tracer.start_span(name, attributes=dict(attributes))

        def finish(end: Exit) -> None:
            if end.code is not None or end.signal is not None:
                span.set_attribute("process.exit.code", end.shell_code)
            if end.cause is not None:
                span.set_status(StatusCode.ERROR, end.cause)
            span.end()

        return finish

    def close(self) -> None:
        """Send what is left, and stop. Blocks as long as the collector does not answer."""
        self._traces.shutdown()
        self._metrics.shutdown()
        for logger, each in self._filters:
            logger.removeFilter(each)


def _without_values(record: logging.LogRecord) -> bool:
    record.msg, record.args = "a header for the collector is malformed: name=value, URL-encoded", ()
    return True


class _Seldom:
    """Lets one record through in an hour: a collector that is away is no news."""

    def __init__(self) -> None:
        self._last = -_SELDOM_SECONDS

    def filter(self, _: logging.LogRecord) -> bool:
        """Tell whether a record is let through."""
        now = time.monotonic()
        if now - self._last < _SELDOM_SECONDS:
            return False
        self._last = now
        return True


def _export_counters(meter: Meter, metrics: Metrics) -> None:
    def requests(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {"operation": operation, "status": str(status)})
            for (operation, status), count in list(metrics.requests.items())
        ]

    def events(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, {"event": event}) for event, count in list(metrics.events.items())]

    meter.create_observable_counter("toolbox_requests", [requests], description="Requests answered")
    meter.create_observable_counter("toolbox_events", [events], description="Things that happened")
    for name, (text, read) in metrics.gauges().items():
        meter.create_observable_gauge(name, [_observed(read)], description=text)


def _observed(read: Callable[[], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(read())]


def _export_usage(meter: Meter, usage: Usage) -> None:
    seen: Mapping[str, float] = usage()
    at = time.monotonic()

    def latest(name: str) -> float:
        # One look for all of them: that at the processors tells what was used since the last one.
        nonlocal seen, at
        if time.monotonic() - at > _USAGE_FRESH_SECONDS:
            seen, at = usage(), time.monotonic()
        return seen[name]

    for name in seen:
        meter.create_observable_gauge(name, [_observed(partial(latest, name))])

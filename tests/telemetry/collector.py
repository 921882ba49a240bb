"""An OpenTelemetry collector: takes OTLP over HTTP, and keeps what came."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A received span; ids in hex."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """What has come."""

    endpoint: str
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Name -> the latest metric of that name, as the protocol has it."""
    resources: list[dict[str, Any]] = field(default_factory=list)
    """Whose metrics came."""
    headers: list[dict[str, str]] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    """Everything that came."""

    async def wait(self, wanted: Callable[["Collector"], Any]) -> Any:
        """Return what `wanted` finds, once it finds something."""
        async with asyncio.timeout(60):
            while not (found := wanted(self)):
                await asyncio.sleep(0.02)
        return found

    async def named(self, start: str, **attributes: Any) -> Span:
        """Return the span whose name begins so and that has these attributes (`_` stands for `.`), once it is here."""

        def fits(span: Span) -> bool:
            known = {name.replace(".", "_"): value for name, value in span.attributes.items()}
            return span.name.startswith(start) and attributes.items() <= known.items()

        found: Span = await self.wait(lambda it: next(filter(fits, it.spans), None))
        return found


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Run a collector."""

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        content = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
        collector.raw += content
        collector.headers.append(dict(request.headers))
        _TAKE[request.path](collector, content)
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/{signal}", take)
    async with TestServer(app) as server:
        collector = Collector(f"http://{server.host}:{server.port}")
        yield collector


def _take_spans(collector: Collector, content: bytes) -> None:
    for each in ExportTraceServiceRequest.FromString(content).resource_spans:
        resource = _attributes(each.resource)
        for scope in each.scope_spans:
            collector.spans += [
                Span(
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    kind=span.kind,
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    attributes=_attributes(span),
                    resource=resource,
                )
                for span in scope.spans
            ]


def _take_metrics(collector: Collector, content: bytes) -> None:
    for each in ExportMetricsServiceRequest.FromString(content).resource_metrics:
        collector.resources.append(_attributes(each.resource))
        for scope in each.scope_metrics:
            collector.metrics |= {metric.name: metric for metric in scope.metrics}


_TAKE = {"/v1/traces": _take_spans, "/v1/metrics": _take_metrics}


def _attributes(holder: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}


def points(metric: Any) -> dict[tuple[Any, ...], Any]:
    """Return the points of a metric by the values of their attributes: a number, or the count of a histogram."""
    found = getattr(metric, metric.WhichOneof("data")).data_points
    return {
        tuple(_attributes(point).values()): point.count
        if hasattr(point, "bucket_counts")
        else getattr(point, point.WhichOneof("value"))
        for point in found
    }

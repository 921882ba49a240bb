"""The sandboxes API: warm pools, metrics of sandboxes, logs of their daemons."""

from datetime import UTC, datetime

from aiohttp import web

from controlplane.listing import parse_time
from controlplane.models_accounts import (
    CreateWarmPool,
    MetricDataPoint,
    MetricSeries,
    MetricsResponse,
    UpdateWarmPool,
    WarmPool,
)
from controlplane.pools import Pool, Pools
from controlplane.sandboxes import Sandboxes
from controlplane.telemetry import Telemetry
from toolbox.web.endpoint import Routes

routes = Routes("pools")


def _seen(pools: Pools, pool: Pool) -> WarmPool:
    return WarmPool.of(pool, *pools.status(pool))


@routes.post("/api/warm-pools", "createWarmPool", status=201)
async def create_warm_pool(pools: Pools, body: CreateWarmPool) -> WarmPool:
    """Keep sandboxes of a snapshot ready."""
    return _seen(pools, await pools.create(body.snapshot, body.pool, body.target))


@routes.get("/api/warm-pools", "listWarmPools")
async def list_warm_pools(pools: Pools) -> list[WarmPool]:
    """List the warm pools of the organisation."""
    return [_seen(pools, pool) for pool in await pools.all()]


@routes.add("PATCH", "/api/warm-pools/{pool}", "updateWarmPool")
async def update_warm_pool(pools: Pools, pool: str, body: UpdateWarmPool) -> WarmPool:
    """Change how many sandboxes are kept ready."""
    return _seen(pools, await pools.resize(pool, body.pool))


@routes.delete("/api/warm-pools/{pool}", "deleteWarmPool", status=204)
async def delete_warm_pool(pools: Pools, pool: str) -> None:
    """Remove a warm pool and the sandboxes that wait in it."""
    await pools.delete(pool)


@routes.get("/api/sandbox/{sandbox}/telemetry/metrics", "getSandboxMetrics")
async def sandbox_metrics(telemetry: Telemetry, sandbox: str, request: web.Request) -> MetricsResponse:
    """Return what a sandbox used between two times."""
    given = request.query
    since, until = parse_time(given.get("from"), "from"), parse_time(given.get("to"), "to")
    names = {name for value in given.getall("metricNames", []) for name in value.split(",") if name}
    series = await telemetry.series(
        sandbox,
        datetime.fromisoformat(since) if since else datetime.min.replace(tzinfo=UTC),
        datetime.fromisoformat(until) if until else datetime.now(UTC),
        names,
    )
    return MetricsResponse(
        series=[
            MetricSeries(
                metric_name=name, data_points=[MetricDataPoint(timestamp=at, value=value) for at, value in points]
            )
            for name, points in series.items()
        ]
    )


@routes.get("/api/sandbox/{sandbox}/daemon-logs", "getDaemonLogs", produces="text/plain")
async def daemon_logs(sandboxes: Sandboxes, sandbox: str) -> web.Response:
    """Return the end of what the sandbox's daemon wrote."""
    record = await sandboxes.seen(sandbox)
    return web.Response(text=await sandboxes.driver.logs(record.id))

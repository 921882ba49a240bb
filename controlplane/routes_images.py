"""The sandboxes API: snapshots, what builds print, and where build contexts are pushed to."""

import math
from collections.abc import AsyncIterator

from aiohttp import web

from controlplane.declared import DeclaredSandboxes
from controlplane.links import Links
from controlplane.models import (
    CreateSnapshot,
    LogQuery,
    SnapshotDto,
    SnapshotPage,
    SnapshotQuery,
    StorageAccess,
    Url,
    organization,
)
from controlplane.objectstore.credentials import Issuer
from controlplane.objectstore.routes import BUCKET, REGION
from controlplane.sandboxes import Sandboxes
from controlplane.snapshots import Snapshots
from toolbox.web.endpoint import Routes

routes = Routes("snapshots")


@routes.post("/api/snapshots", "createSnapshot")
async def create_snapshot(snapshots: Snapshots, body: CreateSnapshot) -> SnapshotDto:
    """Begin to make a snapshot of an image, by its name or of a declarative one."""
    return snapshots.seen(await snapshots.create(body))


@routes.get("/api/snapshots", "getAllSnapshots")
async def list_snapshots(snapshots: Snapshots, query: SnapshotQuery) -> SnapshotPage:
    """List snapshots, a page at a time."""
    found, total = await snapshots.page(query)
    return SnapshotPage(
        items=[snapshots.seen(each) for each in found],
        total=total,
        page=query.page,
        total_pages=math.ceil(total / query.limit),
    )


@routes.get("/api/snapshots/{snapshot}", "getSnapshot")
async def get_snapshot(snapshots: Snapshots, snapshot: str) -> SnapshotDto:
    """Return a snapshot by id or name."""
    return snapshots.seen(await snapshots.get(snapshot))


@routes.delete("/api/snapshots/{snapshot}", "removeSnapshot")
async def remove_snapshot(snapshots: Snapshots, snapshot: str) -> None:
    """Remove a snapshot; sandboxes made from it stay."""
    await snapshots.remove(snapshot)


@routes.post("/api/snapshots/{snapshot}/activate", "activateSnapshot")
async def activate_snapshot(snapshots: Snapshots, snapshot: str) -> SnapshotDto:
    """Let sandboxes be made from a snapshot again."""
    return snapshots.seen(await snapshots.activate(snapshot))


@routes.post("/api/snapshots/{snapshot}/deactivate", "deactivateSnapshot", status=204)
async def deactivate_snapshot(snapshots: Snapshots, snapshot: str) -> None:
    """Let no sandbox be made from a snapshot until it is activated."""
    await snapshots.deactivate(snapshot)


@routes.get("/api/snapshots/{snapshot}/build-logs-url", "getSnapshotBuildLogsUrl")
async def snapshot_build_logs_url(snapshots: Snapshots, urls: Links, snapshot: str, request: web.Request) -> Url:
    """Return where the log of a snapshot's build is."""
    found = await snapshots.get(snapshot)
    return Url(url=f"{urls.base(request)}/api/snapshots/{found.id}/build-logs")


@routes.get("/api/snapshots/{snapshot}/build-logs", "getSnapshotBuildLogs", produces="text/plain")
async def snapshot_build_logs(
    snapshots: Snapshots, snapshot: str, query: LogQuery, request: web.Request
) -> web.StreamResponse:
    """Send the log of a snapshot's build; with `follow`, as it grows, until the build has ended."""
    return await _stream(request, await snapshots.read_log(snapshot, follow=query.follow))


@routes.get("/api/sandbox/{sandbox}/build-logs-url", "getBuildLogsUrl")
async def build_logs_url(sandboxes: Sandboxes, urls: Links, sandbox: str, request: web.Request) -> Url:
    """Return where the log of the build of a sandbox's image is."""
    found = await sandboxes.seen(sandbox)
    return Url(url=f"{urls.base(request)}/api/sandbox/{found.id}/build-logs")


@routes.get("/api/sandbox/{sandbox}/build-logs", "getBuildLogs", produces="text/plain")
async def build_logs(
    declared: DeclaredSandboxes, sandbox: str, query: LogQuery, request: web.Request
) -> web.StreamResponse:
    """Send the log of the build of a sandbox's image; with `follow`, as it grows, until the build has ended."""
    return await _stream(request, await declared.read_log(sandbox, follow=query.follow))


@routes.get("/api/object-storage/push-access", "getPushAccess")
async def push_access(sandboxes: Sandboxes, issuer: Issuer, urls: Links, request: web.Request) -> StorageAccess:
    """Return credentials of S3 for a while, to push build contexts with."""
    if sandboxes.driver.replicated:
        # They would be files of one replica, and there is no builder to read them.
        raise sandboxes.driver.cannot("keep build contexts: it builds no images")
    credentials = issuer.issue(organization())
    return StorageAccess(
        access_key=credentials.access_key,
        secret=credentials.secret,
        session_token=credentials.session_token,
        storage_url=urls.storage(request),
        organization_id=organization(),
        bucket=BUCKET,
        region=REGION,
    )


async def _stream(request: web.Request, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await response.prepare(request)
    async for data in pieces:
        await response.write(data)
    await response.write_eof()
    return response

"""The sandboxes API: the routes the SDKs call, each a few lines."""

import asyncio
import math

from aiohttp import web

from controlplane.callers import current_caller
from controlplane.declared import DeclaredSandboxes
from controlplane.draining import Draining
from controlplane.links import Links
from controlplane.listing import MAX_LIMIT, Filter, Listing, parse_labels
from controlplane.models import (
    ORGANIZATION,
    CreateSandbox,
    Health,
    Labels,
    ListQuery,
    NumberedPage,
    NumberedQuery,
    Sandbox,
    SandboxListItem,
    SandboxPage,
    StopQuery,
    Url,
)
from controlplane.proxy import Proxy
from controlplane.sandboxes import Sandboxes
from toolbox.errors import BadRequest, Forbidden
from toolbox.web.endpoint import Routes
from toolbox.web.metrics import Metrics

routes = Routes("sandbox")
_REPEATED = ("states", "snapshots", "regionIds", "sandboxClasses")


@routes.post("/api/sandbox", "createSandbox")
async def create_sandbox(
    sandboxes: Sandboxes, declared: DeclaredSandboxes, urls: Links, body: CreateSandbox, request: web.Request
) -> Sandbox:
    """Create a sandbox and start it; of a declarative image that is still to be built, later."""
    record = await (declared.create(body) if body.build_info is not None else sandboxes.create(body))
    return Sandbox.of(record, urls.toolbox(request))


@routes.get("/api/sandbox", "listSandboxes")
async def list_sandboxes(sandboxes: Sandboxes, urls: Links, query: ListQuery, request: web.Request) -> SandboxPage:
    """List sandboxes, a page at a time."""
    listing = Listing.parse(query, {name: request.query.getall(name, []) for name in _REPEATED})
    records, cursor = await sandboxes.page(listing)
    url = urls.toolbox(request)
    return SandboxPage(items=[SandboxListItem.of(record, url) for record in records], next_cursor=cursor)


@routes.get("/api/sandbox/paginated", "listSandboxesPaginated")
async def list_numbered(sandboxes: Sandboxes, urls: Links, query: NumberedQuery, request: web.Request) -> NumberedPage:
    """List sandboxes by page number, for older clients."""
    if query.page < 1 or not 1 <= query.limit <= MAX_LIMIT:
        raise BadRequest(f"page: must be at least 1; limit: must be from 1 to {MAX_LIMIT}")
    wanted = Filter(labels=parse_labels(query.labels))
    records, total = await sandboxes.numbered_page(wanted, page=query.page, limit=query.limit)
    url = urls.toolbox(request)
    return NumberedPage(
        items=[Sandbox.of(record, url) for record in records],
        total=total,
        page=query.page,
        total_pages=math.ceil(total / query.limit),
    )


@routes.get("/api/sandbox/{sandbox}", "getSandbox")
async def get_sandbox(sandboxes: Sandboxes, urls: Links, sandbox: str, request: web.Request) -> Sandbox:
    """Return a sandbox by id or name."""
    return Sandbox.of(await sandboxes.get(sandbox), urls.toolbox(request))


@routes.delete("/api/sandbox/{sandbox}", "deleteSandbox")
async def delete_sandbox(sandboxes: Sandboxes, urls: Links, sandbox: str, request: web.Request) -> Sandbox:
    """Delete a sandbox with all that is in it."""
    return Sandbox.of(await sandboxes.delete(sandbox), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/start", "startSandbox")
async def start_sandbox(sandboxes: Sandboxes, urls: Links, sandbox: str, request: web.Request) -> Sandbox:
    """Start a sandbox, with the files it had."""
    return Sandbox.of(await sandboxes.start(sandbox), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/recover", "recoverSandbox")
async def recover_sandbox(sandboxes: Sandboxes, urls: Links, sandbox: str, request: web.Request) -> Sandbox:
    """Start a sandbox that is in error."""
    return Sandbox.of(await sandboxes.recover(sandbox), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/stop", "stopSandbox")
async def stop_sandbox(
    sandboxes: Sandboxes, urls: Links, sandbox: str, query: StopQuery, request: web.Request
) -> Sandbox:
    """End everything that runs in a sandbox; its files stay."""
    return Sandbox.of(await sandboxes.stop(sandbox, force=query.force), urls.toolbox(request))


@routes.put("/api/sandbox/{sandbox}/labels", "replaceLabels")
async def replace_labels(sandboxes: Sandboxes, sandbox: str, body: Labels) -> Labels:
    """Replace all labels."""
    return Labels(labels=(await sandboxes.set_labels(sandbox, body.labels)).labels)


@routes.post("/api/sandbox/{sandbox}/{kind:autostop|autoarchive|autodelete|autopause}/{minutes}", "setInterval")
async def set_interval(
    sandboxes: Sandboxes, urls: Links, *, sandbox: str, kind: str, minutes: int, request: web.Request
) -> Sandbox:
    """Set after how many minutes a sandbox is stopped, archived, deleted or paused by itself."""
    return Sandbox.of(await sandboxes.set_interval(sandbox, kind, minutes), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/ttl/{minutes}", "setTtl")
async def set_ttl(sandboxes: Sandboxes, urls: Links, sandbox: str, minutes: int, request: web.Request) -> Sandbox:
    """Set how many minutes after its creation a sandbox is destroyed; 0 for never."""
    return Sandbox.of(await sandboxes.set_ttl(sandbox, minutes), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/public/{public}", "updatePublicStatus")
async def set_public(sandboxes: Sandboxes, urls: Links, sandbox: str, public: bool, request: web.Request) -> Sandbox:
    """Set whether previews of a sandbox need no token."""
    return Sandbox.of(await sandboxes.set_public(sandbox, public=public), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/last-activity", "updateLastActivity", status=201)
async def refresh_activity(sandboxes: Sandboxes, sandbox: str) -> None:
    """Note that a sandbox is in use."""
    sandboxes.touch((await sandboxes.get(sandbox)).id)


@routes.get("/api/sandbox/{sandbox}/toolbox-proxy-url", "getToolboxProxyUrl")
async def toolbox_proxy_url(sandboxes: Sandboxes, urls: Links, sandbox: str, request: web.Request) -> Url:
    """Return where the sandbox's daemon is reached; the sandbox's id comes after it."""
    await sandboxes.get(sandbox)
    return Url(url=urls.toolbox(request))


@routes.get("/healthz", "health", aliases=("/api/health",))
async def health() -> Health:
    """Tell that the server answers."""
    return Health(status="ok")


@routes.get("/readyz", "readiness")
async def readyz(draining: Draining) -> Health:
    """Answer 200 when requests are welcome, 503 while the server is about to stop."""
    draining.check()
    return Health(status="ready")


@routes.get("/metrics", "metrics", produces="text/plain")
async def prometheus(metrics: Metrics) -> web.Response:
    """Return the server's own metrics as Prometheus text, to whoever calls for the organization that runs it."""
    caller = current_caller()
    if caller is None or not (caller.operator or caller.organization_id == ORGANIZATION):
        raise Forbidden("metrics are for the organization that runs this server")
    text, content_type = await asyncio.to_thread(metrics.render)
    return web.Response(body=text, headers={"Content-Type": content_type})


@routes.add("*", "/toolbox/{sandbox}", "proxy", aliases=("/toolbox/{sandbox}/{tail:(?s:.*)}",), hidden=True)
async def forward(proxy: Proxy, sandbox: str, request: web.Request) -> web.StreamResponse:
    """Pass a request to the daemon of a sandbox."""
    return await proxy.forward(sandbox, request)

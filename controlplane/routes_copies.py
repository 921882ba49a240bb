"""The sandboxes API: pausing, copying and resizing."""

from aiohttp import web

from controlplane.copies import Copies
from controlplane.links import Links
from controlplane.models import ForkRequest, ResizeRequest, Sandbox, SnapshotRequest
from controlplane.sandboxes import Sandboxes
from toolbox.web.endpoint import Routes

routes = Routes("sandbox")


@routes.post("/api/sandbox/{sandbox}/pause", "pauseSandbox")
async def pause(sandboxes: Sandboxes, urls: Links, sandbox: str, request: web.Request) -> Sandbox:
    """Freeze a sandbox with all that runs in it; starting it lets it go on."""
    return Sandbox.of(await sandboxes.pause(sandbox), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/archive", "archiveSandbox")
async def archive(copies: Copies, urls: Links, sandbox: str, request: web.Request) -> Sandbox:
    """Move the files of a stopped sandbox off the machine that runs it; starting it brings them back."""
    return Sandbox.of(await copies.archive(sandbox), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/resize", "resizeSandbox")
async def resize(copies: Copies, urls: Links, sandbox: str, body: ResizeRequest, request: web.Request) -> Sandbox:
    """Give a sandbox more cores, memory or disk."""
    return Sandbox.of(
        await copies.resize(sandbox, cpu=body.cpu, memory=body.memory, disk=body.disk), urls.toolbox(request)
    )


@routes.post("/api/sandbox/{sandbox}/fork", "forkSandbox")
async def fork(copies: Copies, urls: Links, sandbox: str, body: ForkRequest, request: web.Request) -> Sandbox:
    """Make a sandbox with the files of another."""
    return Sandbox.of(await copies.fork(sandbox, body.name), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/snapshot", "createSandboxSnapshot")
async def snapshot(copies: Copies, urls: Links, sandbox: str, body: SnapshotRequest, request: web.Request) -> Sandbox:
    """Make a snapshot of a sandbox's files, from which others can be made."""
    return Sandbox.of(await copies.snapshot(sandbox, body.name), urls.toolbox(request))

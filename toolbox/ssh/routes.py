"""The route of SSH: a connection that the API's own auth has let in becomes one to the SSH server."""

from aiohttp import hdrs, web

from toolbox.errors import BadRequest
from toolbox.ssh.server import Ssh
from toolbox.web.endpoint import Routes

routes = Routes("ssh")
PROTOCOL = "ssh"


@routes.get("/ssh", "OpenSsh", hidden=True)
async def open_ssh(ssh: Ssh, request: web.Request) -> web.StreamResponse:
    """Upgrade the connection to SSH; no further authentication is asked for."""
    transport = request.transport
    if request.headers.get(hdrs.UPGRADE, "").lower() != PROTOCOL or transport is None:
        raise BadRequest(f"this route needs an upgrade to {PROTOCOL}")
    await ssh.load()
    response = web.StreamResponse(status=101, headers={hdrs.CONNECTION: "Upgrade", hdrs.UPGRADE: PROTOCOL})
    response.force_close()
    # The client speaks after our answer: from here on nothing of it is read but by the SSH server.
    transport.pause_reading()
    connected = transport.get_extra_info("socket").dup()
    await response.prepare(request)
    await ssh.serve(connected)
    return response

"""Routes of `/proxy`."""

from aiohttp import web

from toolbox.web.endpoint import Routes
from toolbox.web.loopback import Loopback
from toolbox.web.wire import PortNumber

routes = Routes("proxy")


@routes.add("*", "/proxy/{port}", "ProxyToPort", aliases=("/proxy/{port}/{tail:(?s:.*)}",), hidden=True)
async def proxy_to_port(loopback: Loopback, port: PortNumber, request: web.Request) -> web.StreamResponse:
    """Pass a request of any method, websockets included, to the server that listens on a port of the sandbox."""
    return await loopback.forward(port, request)

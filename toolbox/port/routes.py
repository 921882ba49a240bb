"""Routes of `/port`."""

from aiohttp import web

from toolbox.port.models import IsPortInUseResponse, PortList, WaitQuery
from toolbox.port.ports import Ports
from toolbox.web.endpoint import Routes
from toolbox.web.loopback import own_port
from toolbox.web.wire import PortNumber

routes = Routes("port")


@routes.get("/port", "GetPorts")
async def get_ports(ports: Ports, request: web.Request) -> PortList:
    """Return the TCP ports that are listened on, the daemon's own left out."""
    return PortList(ports=sorted(await ports.listening() - {own_port(request)}))


@routes.get("/port/{port}/in-use", "IsPortInUse")
async def is_port_in_use(ports: Ports, port: PortNumber) -> IsPortInUseResponse:
    """Tell whether somebody listens on a port, on any address of the sandbox."""
    return IsPortInUseResponse(is_in_use=port in await ports.listening())


@routes.get("/port/{port}/wait", "WaitForPort")
async def wait_for_port(ports: Ports, port: PortNumber, query: WaitQuery) -> IsPortInUseResponse:
    """Answer as soon as somebody listens on a port; 408 when the timeout (60 s by default) is over."""
    await ports.wait_until_listening(port, query.timeout)
    return IsPortInUseResponse(is_in_use=True)

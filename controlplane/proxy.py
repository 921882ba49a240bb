"""The way to the daemons: `/toolbox/{id}/…`, streamed both ways, nothing buffered, nothing kept."""

from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from controlplane.sandboxes import Sandboxes
from controlplane.upstreams import Upstream
from toolbox.errors import Unavailable
from toolbox.web.auth import PREVIEW_HEADER
from toolbox.web.middleware import REQUEST_ID
from toolbox.web.relay import Relay, Unreachable, request_headers, target_of, url_of

PREFIX = "/toolbox/"
_REPLACED = ("authorization", PREVIEW_HEADER, "x-request-id")


class Proxy:
    """Carries requests to the daemons of running sandboxes."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._relay = Relay()

    async def close_tunnels(self, _: web.Application) -> None:
        """End every websocket with a close frame that says why (an `on_shutdown` signal)."""
        self._relay.tunnels.close_all()

    async def forward(self, sandbox_id: str, request: web.Request) -> web.StreamResponse:
        """Answer `request` with what the sandbox's daemon says.

        Raises `NotFound`, `Conflict` (not running), `Unavailable` (does not answer), `BadGateway` (breaks off).
        """
        upstream = await self._sandboxes.upstream(sandbox_id)
        self._sandboxes.touch(sandbox_id)
        path, mark, query = target_of(request).partition("?")
        path = "/" + path.removeprefix(PREFIX).partition("/")[2]
        try:
            return await self._relay.forward(
                request,
                upstream.session,
                url_of(URL(upstream.origin), path + mark + query),
                _request_headers(request, upstream),
                name=f"sandbox {sandbox_id}",
                prefix=f"{PREFIX}{sandbox_id}",
            )
        except Unreachable as error:
            raise Unavailable(error.message) from None


def _request_headers(request: web.Request, upstream: Upstream) -> CIMultiDict[str]:
    headers = request_headers(request, without=_REPLACED)
    headers[hdrs.AUTHORIZATION] = upstream.authorization
    headers["X-Request-Id"] = request[REQUEST_ID]
    return headers

"""The HTTP servers of the sandbox's own loopback interface, by port."""

import socket
from typing import Self

import aiohttp
from aiohttp import hdrs, web
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from toolbox.errors import BadRequest
from toolbox.web.auth import PREVIEW_HEADER, Auth
from toolbox.web.relay import Relay, open_session, request_headers, target_of, url_of

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 4.0
"""Less than the 5 s of Node and uvicorn, so that they do not close a connection under a request."""
_ADDRESSES = (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))
_HOST = "localhost"
_OWN_WORDS = 3


def own_port(request: web.BaseRequest) -> int | None:
    """Return the TCP port that a request came in on, None for a unix socket."""
    address = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return int(address[1]) if isinstance(address, tuple) else None


class _BothFamilies(AbstractResolver):
    """Knows one name, and that IPv4 comes first; whatever is asked for, the answer is loopback."""

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 -- aiohttp's signature
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address, family in _ADDRESSES
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Loopback:
    """Carries requests to servers of the sandbox."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._relay = Relay()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=_BothFamilies(),
            use_dns_cache=False,  # it would take the families in turn
            limit=0,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        )
        self._session = open_session(connector, connect_seconds=CONNECT_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def close_tunnels(self, _: web.Application) -> None:
        """End every websocket with a close frame that says why (an `on_shutdown` signal)."""
        self._relay.tunnels.close_all()

    async def forward(self, port: int, request: web.Request) -> web.StreamResponse:
        """Answer `request` with what the server on `port` says to it; two words (`/proxy/{port}`) go off the path.

        Raises `BadRequest` (the daemon's own port), `Unreachable` (nobody listens), `BadGateway` (breaks off).
        """
        if port == own_port(request):
            raise BadRequest(f"port {port} is the daemon's own")
        path, mark, query = target_of(request).partition("?")
        target = "/" + "".join(path.split("/", _OWN_WORDS)[_OWN_WORDS:]) + mark + query
        url = url_of(URL.build(scheme="http", host=_HOST, port=port), target)
        return await self._relay.forward(request, self._session, url, self._headers(port, request), name=f"port {port}")

    def _headers(self, port: int, request: web.Request) -> CIMultiDict[str]:
        headers = request_headers(request, without=(PREVIEW_HEADER,))
        for value in headers.popall(hdrs.AUTHORIZATION, ()):
            scheme, _, token = value.partition(" ")
            if scheme.lower() != "bearer" or not self._auth.accepts(token.strip()):
                headers.add(hdrs.AUTHORIZATION, value)
        headers[hdrs.HOST] = f"{_HOST}:{port}"
        if request.remote:
            chain = [*headers.getall(hdrs.X_FORWARDED_FOR, ()), request.remote]
            headers[hdrs.X_FORWARDED_FOR] = ", ".join(chain)
        # What the first proxy saw is what the user's browser sees.
        headers.setdefault(hdrs.X_FORWARDED_HOST, request.host)
        headers.setdefault(hdrs.X_FORWARDED_PROTO, request.scheme)
        return headers

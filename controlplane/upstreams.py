"""Connections to the daemons of running sandboxes."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self

import aiohttp
from aiohttp import hdrs

from controlplane.drivers.base import Access, DriverError
from toolbox.web.relay import open_session
from toolbox.web.signing import Signatures

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 15.0
"""Idle connections are closed well before the daemon would close them under a request."""
_SETUP_SECONDS = 10.0


class Upstream:
    """The daemon of one sandbox: a pool of connections and the token it wants."""

    def __init__(self, access: Access) -> None:
        address = access.address
        connector: aiohttp.BaseConnector
        if address.unix is not None:
            connector = aiohttp.UnixConnector(address.unix, limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        else:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        self.origin = f"http://{address.host}:{address.port}"
        self.address = address
        self.token = access.token
        self.authorization = f"Bearer {access.token}"
        self.signatures: Signatures | None = None
        """What verifies signed file URLs of the sandbox."""
        self.session = open_session(connector, connect_seconds=CONNECT_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def is_ready(self) -> bool:
        """Tell whether the daemon answers and is ready."""
        try:
            async with asyncio.timeout(_SETUP_SECONDS), self.session.get(f"{self.origin}/readyz") as response:
                return response.ok
        except (OSError, aiohttp.ClientError, TimeoutError):
            return False

    async def set_environment(self, variables: Mapping[str, str], *, unset: Sequence[str] = ()) -> None:
        """Give the sandbox's children these variables, and take others away. Raises `DriverError`."""
        try:
            async with (
                asyncio.timeout(_SETUP_SECONDS),
                self.session.post(
                    f"{self.origin}/env",
                    json={"set": dict(variables), "unset": list(unset)},
                    headers={hdrs.AUTHORIZATION: self.authorization},
                ) as response,
            ):
                if not response.ok:
                    raise DriverError(f"the sandbox refused its environment: {await response.text()}")
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise DriverError(f"the sandbox does not answer: {error}") from None


class Upstreams:
    """The daemons that the proxy can reach now."""

    def __init__(self) -> None:
        self._open: dict[str, Upstream] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for sandbox_id in list(self._open):
            await self.close(sandbox_id)

    def get(self, sandbox_id: str) -> Upstream | None:
        """Return the sandbox's daemon if it runs."""
        return self._open.get(sandbox_id)

    async def open(self, sandbox_id: str, access: Access, *, signing_key: str | None = None) -> None:
        """Let requests through to a daemon, and requests for files that are signed with `signing_key`."""
        await self.close(sandbox_id)
        self._open[sandbox_id] = Upstream(access)
        if signing_key is not None:
            self.accept_signatures(sandbox_id, signing_key)

    def accept_signatures(self, sandbox_id: str, signing_key: str) -> None:
        """From now on let signed requests for files through by this key, and no other."""
        upstream = self._open.get(sandbox_id)
        if upstream is not None:
            upstream.signatures = Signatures(signing_key)

    async def close(self, sandbox_id: str) -> None:
        """Let no more requests through; connections that carry one are cut."""
        upstream = self._open.pop(sandbox_id, None)
        if upstream is not None:
            await upstream.session.close()

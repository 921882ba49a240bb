"""Connections to the daemons of running sandboxes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple, Self

import aiohttp
from aiohttp import hdrs

from controlplane.callers import visible_organization
from controlplane.drivers.base import Access, DriverError
from toolbox.errors import Conflict
from toolbox.web.relay import open_session
from toolbox.web.signing import Signatures

CONNECT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 15.0
"""Idle connections are closed well before the daemon would close them under a request."""
_SETUP_SECONDS = 10.0


class Upstream:
    """The daemon of one sandbox: a pool of connections and the token it wants."""

    def __init__(self, access: Access, organization: str = "") -> None:
        self.organization = organization
        address = access.address
        self.origin = f"http://{address.host}:{address.port}"
        self.address = address
        self.instance = access.instance
        self.token = access.token
        self.authorization = f"Bearer {access.token}"
        self.signatures: Signatures | None = None
        """What verifies signed file URLs of the sandbox."""
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The pool of connections, made when it is first used: of thousands of sandboxes most are quiet.

        Raises `Conflict` once it is closed.
        """
        if self._session is None:
            if self._closed:
                raise Conflict("the sandbox was stopped meanwhile")
            connector: aiohttp.BaseConnector
            if self.address.unix is not None:
                connector = aiohttp.UnixConnector(self.address.unix, limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
            else:
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
            self._session = open_session(connector, connect_seconds=CONNECT_SECONDS)
        return self._session

    async def close(self) -> None:
        """Cut all connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def is_ready(self) -> bool:
        """Tell whether the daemon answers and is ready."""
        try:
            async with asyncio.timeout(_SETUP_SECONDS), self.session.get(f"{self.origin}/readyz") as response:
                return response.ok
        except (OSError, aiohttp.ClientError, TimeoutError):
            return False

    async def version(self) -> str | None:
        """Return the daemon's version, None when it does not tell."""
        try:
            async with (
                asyncio.timeout(_SETUP_SECONDS),
                self.session.get(
                    f"{self.origin}/version", headers={hdrs.AUTHORIZATION: self.authorization}
                ) as response,
            ):
                return str((await response.json())["version"]).removeprefix("v") if response.ok else None
        except (OSError, aiohttp.ClientError, TimeoutError, KeyError, ValueError):
            return None

    async def system_metrics(self) -> bytes:
        """Return what the sandbox uses, as JSON. Raises `DriverError`."""
        try:
            async with (
                asyncio.timeout(_SETUP_SECONDS),
                self.session.get(
                    f"{self.origin}/system/metrics", headers={hdrs.AUTHORIZATION: self.authorization}
                ) as response,
            ):
                if not response.ok:
                    raise DriverError(f"the sandbox gives no metrics: {response.status}")
                return await response.read()
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise DriverError(f"the sandbox does not answer: {error}") from None

    async def initialize(self, variables: Mapping[str, str]) -> str | None:
        """Give the daemon its token and the variables of all it starts; again is fine. Return its version.

        Raises `DriverError`.
        """
        said = await self._initialize(variables)
        if said.get("env") is True:
            return str(said["version"]).removeprefix("v")
        # An image may have an older daemon, which takes no variables there.
        await self.set_environment(variables)
        return await self.version()

    async def _initialize(self, variables: Mapping[str, str]) -> dict[str, object]:
        wanted = {"token": self.token, "env": dict(variables)}
        try:
            async with (
                asyncio.timeout(_SETUP_SECONDS),
                self.session.post(f"{self.origin}/init", json=wanted) as response,
            ):
                if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT):
                    raise DriverError("the sandbox's daemon was taken into use by somebody else")
                if not response.ok:
                    raise DriverError(f"the sandbox's daemon cannot be taken into use: {await response.text()}")
                said = await response.json()
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise DriverError(f"the sandbox does not answer: {error}") from None
        return said if isinstance(said, dict) else {}

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


class Found(NamedTuple):
    """A daemon that runs, though nobody here started it."""

    access: Access
    organization: str
    signing_key: str


Finder = Callable[[str], Found | None]


class Upstreams:
    """The daemons that the proxy can reach now."""

    def __init__(self) -> None:
        self._open: dict[str, Upstream] = {}
        self._finder: Finder = lambda _: None

    def find_by(self, finder: Finder) -> None:
        """From now on ask `finder` for the daemons of sandboxes that other replicas started."""
        self._finder = finder

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for sandbox_id in list(self._open):
            await self.close(sandbox_id)

    def get(self, sandbox_id: str) -> Upstream | None:
        """Return the sandbox's daemon if it runs, and the caller's organisation has it."""
        found, organization = self._open.get(sandbox_id), visible_organization()
        if found is None and (elsewhere := self._finder(sandbox_id)) is not None:
            found = self._open[sandbox_id] = Upstream(elsewhere.access, elsewhere.organization)
            found.signatures = Signatures(elsewhere.signing_key)
        return found if found is None or organization in (None, found.organization) else None

    def holds(self, sandbox_id: str) -> bool:
        """Tell whether connections to a sandbox's daemon may be open."""
        return sandbox_id in self._open

    def instance_of(self, sandbox_id: str) -> str | None:
        """Return what tells one start of a sandbox from another, of the daemon that requests go to; None for none."""
        found = self._open.get(sandbox_id)
        return found.instance if found is not None else None

    def ids(self) -> list[str]:
        """Return which sandboxes have a daemon that runs, of all organisations."""
        return list(self._open)

    async def open(self, sandbox_id: str, access: Access, *, organization: str, signing_key: str | None = None) -> None:
        """Let an organisation's requests through to a daemon, and requests for files signed with `signing_key`."""
        await self.close(sandbox_id)
        self._open[sandbox_id] = Upstream(access, organization)
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
            await upstream.close()

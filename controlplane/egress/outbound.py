"""Connections from the proxy to the world."""

import asyncio
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus

import h11

from controlplane.egress.parent import Parent, Parents
from controlplane.egress.peer import Peer

_CONNECT_SECONDS = 15.0
_MAX_PORT = 65535
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""No other proxy leads to these."""
_HOST = re.compile(r"[a-z0-9_.-]{1,253}\Z")
_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?\Z")


class Refusal(Exception):
    """A request that the proxy answers itself. The text holds nothing of the request but its host."""

    def __init__(self, status: HTTPStatus, text: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


@dataclass(frozen=True, slots=True)
class Target:
    """A server: where to connect, and whose certificate to expect if `secure`."""

    host: str
    """In lower case, without a trailing dot: what is compared, looked up and verified is one and the same."""
    port: int
    secure: bool

    @classmethod
    def parse(cls, authority: str, *, default_port: int | None, secure: bool) -> "Target":
        """Read `host[:port]`. Raises `Refusal`."""
        found = _AUTHORITY.match(authority)
        port = int(found["port"] or default_port or 0) if found else 0
        host = (found["six"] or found["host"] or "").lower().removesuffix(".") if found else ""
        if not found or not 0 < port <= _MAX_PORT or not (found["six"] or _HOST.match(host)):
            raise Refusal(HTTPStatus.BAD_REQUEST, "not a host and port")
        return cls(host, port, secure)

    @property
    def address(self) -> str:
        """Host and port, always both."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """What a `Host` header says."""
        return self.address.rpartition(":")[0] if self.port == (443 if self.secure else 80) else self.address


class Outbound:
    """Opens connections. `this_machine`: sandboxes may reach what listens on this machine, as programs of it can."""

    def __init__(self, context: ssl.SSLContext, *, this_machine: bool) -> None:
        """Read the environment for proxies. Raises `ValueError`."""
        self._context = context
        self._parents = Parents()
        self._this_machine = this_machine

    async def connect(self, target: Target, *, tunnel: bool = False) -> Peer:
        """Return a connection to `target`, its certificate verified; a `tunnel` carries bytes. Raises `Refusal`."""
        parent = self._parents.of(target.host, secure=target.secure or tunnel)
        if parent is not None and target.host not in _LOOPBACK:
            if not self._this_machine:
                await self._check_number(target)
            return await self._through(parent, target, tunnel=tunnel or target.secure)
        failure: Exception | None = None
        for address in await self._addresses(target):
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(
                        address,
                        target.port,
                        ssl=self._context if target.secure else None,
                        server_hostname=target.host if target.secure else None,
                    )
            except (OSError, TimeoutError) as error:
                failure = error
                continue
            peer = Peer(reader, writer, h11.CLIENT)
            if not self._this_machine and _is_this_machine(writer):
                peer.abort()
                raise _forbidden(target)
            return peer
        raise Refusal(HTTPStatus.BAD_GATEWAY, f"cannot connect to {target.authority}: {_reason(failure)}")

    async def _through(self, parent: Parent, target: Target, *, tunnel: bool) -> Peer:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                peer = Peer(*await asyncio.open_connection(parent.host, parent.port), h11.CLIENT)
                try:
                    if tunnel:
                        peer = await parent.tunnel(peer, target.address)
                    else:
                        peer.base, peer.login = b"http://" + target.authority.encode(), parent.login
                    if target.secure:
                        peer = await peer.start_tls(self._context, server_name=target.host)
                except BaseException:
                    peer.abort()
                    raise
                return peer
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            text = f"cannot connect to {target.authority}: {_reason(error)}"
            raise Refusal(HTTPStatus.BAD_GATEWAY, text) from None

    async def _check_number(self, target: Target) -> None:
        """Raise `Refusal` for an address of this machine, in whatever way it is written; names are not looked up."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, None, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            return
        if any(_is_local(str(each[4][0])) for each in found):
            raise _forbidden(target)

    async def _addresses(self, target: Target) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Refusal(HTTPStatus.BAD_GATEWAY, f"cannot find {target.host}") from None
        addresses = [str(each[4][0]) for each in found]
        reachable = [each for each in addresses if self._this_machine or not _is_local(each)]
        if not reachable:
            raise _forbidden(target)
        return reachable


def _forbidden(target: Target) -> Refusal:
    return Refusal(HTTPStatus.FORBIDDEN, f"{target.host} is the machine that runs the proxy")


def _is_local(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_loopback or found.is_unspecified


def _is_this_machine(writer: asyncio.StreamWriter) -> bool:
    """Tell whether the connection goes to an address of our own: then it comes from that address too."""
    return bool(writer.get_extra_info("sockname")[0] == writer.get_extra_info("peername")[0])


def _reason(error: Exception | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS as expected"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    text = error.strerror if isinstance(error, OSError) else None
    return text.lower() if text else "the connection ended early"

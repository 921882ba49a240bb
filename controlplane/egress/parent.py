"""The proxy that this machine itself must use to reach the world (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`)."""

import base64
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import h11

from controlplane.egress.peer import Headers, Peer


@dataclass(frozen=True, slots=True)
class Parent:
    """A proxy above this one, reached without TLS."""

    host: str
    port: int
    login: Headers
    """Empty, or the header with its credentials."""

    @classmethod
    def parse(cls, name: str, url: str) -> "Parent":
        """Read a URL as it stands in the environment. Raises `ValueError` naming the variable, not the URL."""
        found = urlsplit(url if "://" in url else f"http://{url}")
        if found.scheme != "http" or not found.hostname:
            raise ValueError(f"{name.upper()}_PROXY: only proxies at http:// can be used")
        login: Headers = []
        if found.username is not None:
            pair = f"{unquote(found.username)}:{unquote(found.password or '')}"
            login = [(b"Proxy-Authorization", b"Basic " + base64.b64encode(pair.encode()))]
        return cls(found.hostname, found.port or 80, login)

    async def tunnel(self, peer: Peer, authority: str) -> Peer:
        """Have a connection to this proxy lead to a server. Raises `OSError`, `h11.ProtocolError`."""
        head: Headers = [(b"Host", authority.encode()), *self.login]
        await peer.send(h11.Request(method="CONNECT", target=authority, headers=head))
        await peer.send(h11.EndOfMessage())
        event = await peer.receive()
        if not isinstance(event, h11.Response) or event.status_code != HTTPStatus.OK:
            status = event.status_code if isinstance(event, h11.Response) else "nothing"
            raise ConnectionError(0, f"the proxy of this machine answers {status}")
        return Peer(peer.reader, peer.writer, h11.CLIENT)


class Parents:
    """Which proxy leads where, by the environment of this process."""

    def __init__(self) -> None:
        """Read the environment. Raises `ValueError`."""
        urls = getproxies_environment()
        self._by_scheme = {name: Parent.parse(name, urls[name]) for name in ("http", "https") if urls.get(name)}

    def of(self, host: str, *, secure: bool) -> Parent | None:
        """Return the proxy for requests to a host, None for going there directly."""
        parent = self._by_scheme.get("https" if secure else "http")
        return None if parent is None or proxy_bypass(host) else parent

"""The egress proxy: tells sandboxes apart, knows what they may have, listens when the first one needs it."""

import asyncio
import base64
import binascii
import hmac
import logging
import socket
import ssl
from collections import Counter
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self

from controlplane.drivers.base import Driver, EgressPlace
from controlplane.egress.authority import Authority
from controlplane.keys import SandboxKeys, store_secret
from controlplane.models import Record
from controlplane.secrets import Secret, Secrets
from controlplane.store import Repository
from toolbox.errors import BadRequest, Unavailable
from toolbox.lifetime import TaskSet

if TYPE_CHECKING:
    from controlplane.egress.outbound import Outbound, Target
    from controlplane.egress.peer import Peer
    from controlplane.egress.substitution import Substitution

log = logging.getLogger(__name__)

_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_DIRECT = ("NO_PROXY", "no_proxy")
_CERTIFICATES = (
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"),
    *("AWS_CA_BUNDLE", "PIP_CERT", "CARGO_HTTP_CAINFO", "DENO_CERT"),
)
_NODE = "NODE_USE_ENV_PROXY"
"""Node's own `fetch` heeds the others only with this one."""
_RESERVED = frozenset((*_PROXY, *_DIRECT, *_CERTIFICATES, _NODE))
_LOOPBACK = "localhost,127.0.0.1,::1"
_MAX_CONNECTIONS = 512
"""Of one sandbox at a time."""
_IP_FREEBIND = 15
"""An option of Linux that `socket` does not name: an address can be listened at that is not there yet."""
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 3}
"""A client that vanished without a word is noticed after two minutes."""


class Egress:
    """The egress proxy of a control plane, and what sandboxes need to use it."""

    def __init__(self, directory: Path, driver: Driver, store: Repository, secrets: Secrets, keys: SandboxKeys) -> None:
        self._directory = directory
        self._bundle = directory / "public/certificates.pem"
        self._driver = driver
        self._store = store
        self._secrets = secrets
        self._keys = keys
        self._tasks = TaskSet()
        self._opening = asyncio.Lock()
        self._making = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._authority: Authority | None = None
        self._outbound: Outbound | None = None
        self._connections = Counter[str]()

    async def __aenter__(self) -> Self:
        public = self._bundle.parent
        await asyncio.to_thread(public.mkdir, parents=True, exist_ok=True)
        # Every user of a container has to read it, whatever the umask; nobody else of this machine gets that far.
        await asyncio.to_thread(public.chmod, 0o755)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._tasks.close()

    async def check(
        self, secrets: list[dict[str, str]], env: dict[str, str], *, proxy: str | None
    ) -> list[dict[str, str]]:
        """Return the secrets if a sandbox with these variables and this proxy can have them. Raises `BadRequest`."""
        if not any(secrets):
            return []
        if self._driver.egress is None:
            raise self._driver.cannot("use secrets: it has no egress proxy")
        if proxy:
            raise BadRequest("outboundProxyUrl: a sandbox that has secrets uses the egress proxy, and no other")
        for name in env:
            if name in _RESERVED:
                raise BadRequest(f"env: {name} leads to the egress proxy in a sandbox that has secrets")
        await self._secrets.check_wanted(secrets, {**env, **dict.fromkeys(_RESERVED)})
        return secrets

    async def variables(self, record: Record) -> dict[str, str]:
        """Return the variables of a sandbox that has secrets, and see that the proxy is there. Raises `Unavailable`."""
        place = self._driver.egress
        if not record.secrets or place is None:
            return {}
        await self._open(place)
        proxy = f"http://{record.id}:{self._keys.egress_token(record.id)}@{place.host}:{self._port}"
        bundle = place.certificates or str(self._bundle)
        return {
            **dict.fromkeys(_PROXY, proxy),
            **dict.fromkeys(_DIRECT, _LOOPBACK),
            **dict.fromkeys(_CERTIFICATES, bundle),
            _NODE: "1",
            **await self._secrets.variables(record.secrets),
        }

    async def _open(self, place: EgressPlace) -> None:
        async with self._opening:
            if self._server is not None:
                return
            try:
                self._authority, context = await asyncio.to_thread(self._prepare)
                self._outbound = _outbound(context, place)
                self._server = await self._listen(place)
                self._port = self._server.sockets[0].getsockname()[1]
                await asyncio.to_thread(store_secret, self._directory / "port", str(self._port))
            except (OSError, ValueError) as error:
                raise Unavailable(f"the egress proxy cannot start: {error}") from None

    def _prepare(self) -> tuple[Authority, ssl.SSLContext]:
        authority = Authority.open(self._directory / "authority.pem")
        authority.write_bundle(self._bundle)
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return authority, context

    async def _listen(self, place: EgressPlace) -> asyncio.Server:
        # Sandboxes that run on after a crash of ours know the port of before.
        for port in (await asyncio.to_thread(_port, self._directory / "port"), 0):
            listening = socket.socket()
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if place.early:
                    listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
                listening.bind((place.listen, port))
                return await asyncio.start_server(self._accepted, sock=listening)
            except OSError:
                listening.close()
                if not port:
                    raise
        raise AssertionError  # port 0 is the last

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._serve(reader, writer), "egress connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import h11  # noqa: PLC0415 -- only where secrets are used

        from controlplane.egress.connection import Connection  # noqa: PLC0415
        from controlplane.egress.peer import Peer  # noqa: PLC0415

        _keep_alive(writer)
        rules = _Rules(self)
        try:
            await Connection(Peer(reader, writer, h11.SERVER), rules).serve()
        finally:
            rules.release()

    def enter(self, sandbox_id: str) -> bool:
        """Count a connection of a sandbox; false when it has too many."""
        if self._connections[sandbox_id] >= _MAX_CONNECTIONS:
            return False
        self._connections[sandbox_id] += 1
        return True

    def leave(self, sandbox_id: str) -> None:
        """Count a connection no more."""
        self._connections[sandbox_id] -= 1
        if not self._connections[sandbox_id]:
            del self._connections[sandbox_id]

    def opens(self, sandbox_id: str, token: str) -> bool:
        """Tell, in constant time, whether a token is that of a sandbox."""
        return hmac.compare_digest(self._keys.egress_token(sandbox_id).encode(), token.encode())

    async def usable(self, sandbox_id: str, host: str) -> list[Secret] | None:
        """Return the secrets of a sandbox that may go to `host`, None if there is no such sandbox."""
        record = await self._store.find(sandbox_id)
        if record is None or record.id != sandbox_id:
            return None
        return [each for each in await self._secrets.attached(record.secrets) if each.allows(host)]

    def reveal(self, secret: Secret) -> str:
        """Return a value. Raises `Unavailable`."""
        return self._secrets.reveal(secret)

    async def certificate(self, host: str) -> ssl.SSLContext:
        """Return the TLS settings of a server that stands for `host`. Raises `OSError`."""
        assert self._authority is not None  # noqa: S101 -- it listens
        async with self._making:
            return await asyncio.to_thread(self._authority.context, host)

    async def connect(self, target: "Target", *, tunnel: bool = False) -> "Peer":
        """Return a connection to the world, for HTTP or as a `tunnel` for bytes. Raises `Refusal`."""
        assert self._outbound is not None  # noqa: S101 -- it listens
        return await self._outbound.connect(target, tunnel=tunnel)


class _Rules:
    """What one connection may do: it belongs to the sandbox whose credentials came first."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._sandbox_id: str | None = None
        self.certificate = egress.certificate
        self.connect = egress.connect

    def release(self) -> None:
        """The connection is over."""
        if self._sandbox_id is not None:
            self._egress.leave(self._sandbox_id)

    def authenticate(self, credentials: bytes | None) -> str:
        """Return the id of the sandbox that calls. Raises `Refusal`."""
        from controlplane.egress.outbound import Refusal  # noqa: PLC0415

        sandbox_id, token = _credentials(credentials)
        if not self._egress.opens(sandbox_id, token) or self._sandbox_id not in (None, sandbox_id):
            raise Refusal(
                HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
                "the credentials of a sandbox are needed",
                headers=(("Proxy-Authenticate", 'Basic realm="sandbox"'),),
            )
        if self._sandbox_id is None:
            if not self._egress.enter(sandbox_id):
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the sandbox has too many connections")
            self._sandbox_id = sandbox_id
        return sandbox_id

    async def intercepts(self, sandbox_id: str, host: str) -> bool:
        """Tell whether a value may be sent to `host`. Raises `Refusal`."""
        return bool(await self._usable(sandbox_id, host))

    async def substitution(self, sandbox_id: str, host: str) -> "Substitution":
        """Return the values that may be sent to `host`. Raises `Refusal`."""
        from controlplane.egress.substitution import Substitution  # noqa: PLC0415

        found = await self._usable(sandbox_id, host)
        return Substitution({each.placeholder: partial(self._egress.reveal, each) for each in found})

    async def _usable(self, sandbox_id: str, host: str) -> list[Secret]:
        from controlplane.egress.outbound import Refusal  # noqa: PLC0415

        found = await self._egress.usable(sandbox_id, host)
        if found is None:
            raise Refusal(HTTPStatus.FORBIDDEN, "there is no such sandbox any more")
        return found


def _outbound(context: ssl.SSLContext, place: EgressPlace) -> "Outbound":
    from controlplane.egress.outbound import Outbound  # noqa: PLC0415

    return Outbound(context, this_machine=place.this_machine)


def _credentials(value: bytes | None) -> tuple[str, str]:
    """Return name and password of `Basic` credentials, both empty for none."""
    scheme, _, encoded = (value or b"").partition(b" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    name, _, password = text.partition(":")
    return (name, password) if scheme.lower() == b"basic" else ("", "")


def _port(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connected: socket.socket | None = writer.get_extra_info("socket")
    if connected is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

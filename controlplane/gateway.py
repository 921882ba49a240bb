"""One SSH port for all sandboxes: the user name is a token that says which, and opens it, for a while."""

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from controlplane.channels import carried
from controlplane.grants import Grant, Grants, Kind, digest_of
from controlplane.keys import store_secret
from controlplane.sandboxes import Sandboxes
from controlplane.upgrade import upgraded
from controlplane.upstreams import Upstreams
from toolbox.config import ConfigError
from toolbox.errors import ToolboxError
from toolbox.lifetime import TaskSet

if TYPE_CHECKING:
    from asyncssh import SSHAcceptor, SSHClientConnection, SSHListener, SSHServerConnection

log = logging.getLogger(__name__)

LOGIN_SECONDS = 60
KEEP_ALIVE_SECONDS = 30
ACTIVITY_SECONDS = 30.0
"""How often a sandbox with an open connection is noted as in use."""


class HostKey(NamedTuple):
    """What clients know this port by: an OpenSSH public key line and its SHA256 fingerprint."""

    public: str
    fingerprint: str


class Gateway:
    """Lets in who brings a token, and hands each connection to the daemon of its sandbox."""

    def __init__(self, sandboxes: Sandboxes, upstreams: Upstreams, grants: Grants) -> None:
        self.port = 0
        """Where it listens; 0 for a control plane without SSH."""
        self.host_keys: list[HostKey] = []
        self._sandboxes = sandboxes
        self._upstreams = upstreams
        self._grants = grants
        self._acceptor: SSHAcceptor | None = None
        self._entrances: set[_Entrance] = set()
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        await self._close(list(self._entrances))
        await self._tasks.close()

    async def listen(self, host: str, port: int, host_key: Path) -> None:
        """Listen for clients. Raises `ConfigError`, `OSError`."""
        try:
            await asyncio.to_thread(importlib.import_module, "asyncssh")
        except ModuleNotFoundError:
            raise ConfigError("ssh-port needs the extra sandbox-toolbox[ssh]") from None
        import asyncssh  # noqa: PLC0415 -- heavy

        logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it logs user names, which are tokens here
        key = await asyncio.to_thread(_host_key, host_key)
        public = " ".join(key.export_public_key().decode().split()[:2])
        self.host_keys = [HostKey(public, key.get_fingerprint())]
        self._acceptor = await asyncssh.listen(
            host,
            port,
            server_factory=lambda: _entrance_class()(self),
            server_host_keys=[key],
            encoding=None,
            line_editor=False,
            kbdint_auth=False,
            login_timeout=LOGIN_SECONDS,
            keepalive_interval=KEEP_ALIVE_SECONDS,
            agent_forwarding=False,
        )
        self.port = self._acceptor.get_port()
        self._tasks.start(self._note_activity(), "ssh activity")

    async def revoke(self, sandbox_id: str, token: str | None = None) -> None:
        """End the access by a token, or all access to a sandbox; connections that use it are cut."""
        await self._grants.revoke(Kind.SSH, sandbox_id, token)
        digest = digest_of(token) if token else None
        await self._close([each for each in self._entrances if each.is_by(sandbox_id, digest)])

    async def admit(self, token: str, entrance: "_Entrance") -> bool:
        """Connect an entrance with the sandbox that `token` opens; tell whether it opens one that runs."""
        grant = await self._grants.find(Kind.SSH, token)
        upstream = self._upstreams.get(grant.sandbox_id) if grant is not None else None
        if grant is None or upstream is None:
            return False
        import asyncssh  # noqa: PLC0415 -- heavy

        try:
            connected = await upgraded(upstream, "/ssh", "ssh")
            back = await asyncssh.connect(
                sock=connected,
                username="sandbox",
                known_hosts=None,  # the way there is the daemon's own, opened with its token
                config=None,
                client_keys=None,
                agent_path=None,
                keepalive_interval=KEEP_ALIVE_SECONDS,
            )
        except (ToolboxError, OSError, asyncssh.Error) as error:
            log.warning(
                "ssh: no way into the sandbox", extra={"fields": {"sandbox": grant.sandbox_id, "why": str(error)}}
            )
            return False
        self._entrances.add(entrance)
        entrance.lead_to(grant, back)
        self._tasks.start(self._until_either_ends(entrance, back), "ssh connection")
        self._sandboxes.touch(grant.sandbox_id)
        # It may have been revoked while the connection was made.
        return await self._grants.find(Kind.SSH, token) is not None

    async def _until_either_ends(self, entrance: "_Entrance", back: "SSHClientConnection") -> None:
        try:
            assert entrance.grant is not None  # noqa: S101 -- it leads somewhere
            gone = self._tasks.start(back.wait_closed(), "ssh sandbox side")
            left = self._tasks.start(entrance.front.wait_closed(), "ssh client side")
            await asyncio.wait(
                (gone, left), timeout=max(0, entrance.grant.seconds_left), return_when=asyncio.FIRST_COMPLETED
            )
            if gone.done() and not left.done():
                entrance.front.close()  # after what was said last, such as how a command ended
                await asyncio.wait((left,), timeout=1)
        finally:
            self._entrances.discard(entrance)
            entrance.front.abort()
            back.abort()

    async def _close(self, entrances: "list[_Entrance]") -> None:
        for entrance in entrances:
            entrance.front.abort()
        await asyncio.gather(*(each.front.wait_closed() for each in entrances), return_exceptions=True)

    async def _note_activity(self) -> None:
        while True:
            await asyncio.sleep(ACTIVITY_SECONDS)
            for entrance in self._entrances:
                if entrance.grant is not None:
                    self._sandboxes.touch(entrance.grant.sandbox_id)


class _Entrance:
    """One client's connection, as the library asks about it."""

    def __init__(self, gateway: Gateway) -> None:
        self.grant: Grant | None = None
        self.front: SSHServerConnection
        self._gateway = gateway
        self._back: SSHClientConnection

    def lead_to(self, grant: Grant, back: "SSHClientConnection") -> None:
        """From now on everything that the client asks for is asked of the sandbox."""
        self.grant, self._back = grant, back

    def is_by(self, sandbox_id: str, digest: str | None) -> bool:
        """Tell whether it was opened for a sandbox, and with the token of this digest (None: any)."""
        grant = self.grant
        return grant is not None and grant.sandbox_id == sandbox_id and digest in (None, grant.digest)

    def connection_made(self, conn: "SSHServerConnection") -> None:
        self.front = conn

    async def begin_auth(self, username: str) -> bool:
        # No other way to authenticate is offered: who is not let in here never is.
        return not await self._gateway.admit(username, self)

    def session_requested(self) -> Any:
        return carried(self._back)

    def connection_requested(self, *_: object) -> Any:
        return self._back

    def unix_connection_requested(self, _: str) -> Any:
        return self._back

    async def server_requested(self, host: str, port: int) -> "SSHListener":
        ports = [port]  # a free one is known once it listens

        def connected(orig_host: str, orig_port: int) -> Awaitable[Any]:
            return _forward(lambda kind: self.front.create_connection(kind, host, ports[0], orig_host, orig_port))

        listener = await self._back.create_server(connected, host, port)
        ports[0] = listener.get_port()
        return listener

    async def unix_server_requested(self, path: str) -> "SSHListener":
        return await self._back.create_unix_server(
            lambda: _forward(lambda kind: self.front.create_unix_connection(kind, path)), path
        )


async def _forward(connect: Callable[[Any], Awaitable[tuple[Any, Any]]]) -> Any:
    """Return what passes the bytes of a channel on to the one that `connect` opens."""
    from asyncssh.forward import SSHForwarder  # noqa: PLC0415 -- heavy

    _, peer = await connect(SSHForwarder)
    return SSHForwarder(peer)


@cache
def _entrance_class() -> Any:
    from asyncssh import SSHServer  # noqa: PLC0415 -- heavy

    return type("Entrance", (_Entrance, SSHServer), {})


def _host_key(path: Path) -> Any:
    """Return the host key kept in `path`, made and stored (0600) if there is none. Raises `ConfigError`."""
    import asyncssh  # noqa: PLC0415 -- heavy

    try:
        if not path.exists():
            store_secret(path, asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode())
        return asyncssh.read_private_key(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot keep the SSH host key: {error}") from None

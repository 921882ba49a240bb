"""The SSH server of the sandbox: on a port of its own with keys or the token, and behind the API's auth at `/ssh`."""

import asyncio
import contextlib
import importlib
import logging
import os
import socket
import stat
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from toolbox.children.environment import Environment
from toolbox.children.process import Children
from toolbox.config import ConfigError, ServeConfig
from toolbox.errors import Unavailable
from toolbox.lifetime import TaskSet
from toolbox.ssh.jobs import Host, Job
from toolbox.ssh.keys import host_key
from toolbox.ssh.sftp import Threads, sftp_factory
from toolbox.web.auth import Auth, Mode

if TYPE_CHECKING:
    from asyncssh import SSHAcceptor, SSHServerConnection

LOGIN_SECONDS = 60
KEEP_ALIVE_SECONDS = 30
_MISSING = "SSH needs the extra sandbox-toolbox[ssh]"


class Ssh:
    """Lets clients in by SSH. The library is only loaded when it is needed."""

    def __init__(
        self,
        config: ServeConfig,
        children: Children,
        environment: Environment,
        threads: Threads,
        auth: Auth,
        state: Path,
    ) -> None:
        self.port = 0
        self._config = config
        self._host = Host(children, environment)
        self._threads = threads
        self._auth = auth
        self._state = state
        self._acceptor: SSHAcceptor | None = None
        self._connections: set[SSHServerConnection] = set()
        self._loading = asyncio.Lock()
        self._tasks = TaskSet()
        self._removals: set[asyncio.Task[None]] = set()
        self._options: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        """Listen, if a port is configured. Raises `ConfigError`, `OSError` from listening."""
        if self._config.ssh_port is None:
            return self
        keys = self._config.ssh_authorized_keys
        if keys is None and self._auth.mode is not Mode.TOKEN:
            raise ConfigError("ssh-port needs ssh-authorized-keys or a token: SSH is never open")
        try:
            options = await self.load()
        except Unavailable as error:
            raise ConfigError(error.message) from None
        if keys is not None:
            options = {**options, "authorized_client_keys": await asyncio.to_thread(_authorized_keys, keys)}
        import asyncssh  # noqa: PLC0415 -- heavy

        self._acceptor = await asyncssh.listen(
            self._config.host, self._config.ssh_port, server_factory=partial(self._front, trusted=False), **options
        )
        self.port = self._acceptor.get_port()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        await self.close_connections()
        await asyncio.gather(*self._removals)

    async def close_connections(self, *_: object) -> None:
        """End every connection (an `on_shutdown` signal)."""
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in connections), return_exceptions=True)

    async def serve(self, connected: socket.socket) -> None:
        """Serve one client that has been let in already, until it leaves. Raises `Unavailable`."""
        options = await self.load()
        import asyncssh  # noqa: PLC0415 -- heavy

        connection = await asyncssh.run_server(connected, server_factory=partial(self._front, trusted=True), **options)
        try:
            await connection.wait_closed()
        finally:
            connection.abort()

    async def load(self) -> dict[str, Any]:
        """Return the options of every connection; the first call loads the library. Raises `Unavailable`."""
        async with self._loading:
            if not self._options:
                try:
                    await asyncio.to_thread(importlib.import_module, "asyncssh")
                except ModuleNotFoundError:
                    raise Unavailable(_MISSING) from None
                # It logs user names, which are tokens where a control plane leads here.
                logging.getLogger("asyncssh").setLevel(logging.WARNING)
                self._options = {
                    "server_host_keys": [await asyncio.to_thread(host_key, self._state / "host_key")],
                    "encoding": None,
                    "line_editor": False,
                    "kbdint_auth": False,
                    "login_timeout": LOGIN_SECONDS,
                    "keepalive_interval": KEEP_ALIVE_SECONDS,
                    # The agent's socket would be the daemon's, not the workload user's.
                    "agent_forwarding": self._host.children.user is None,
                }
        return self._options

    def _front(self, *, trusted: bool) -> Any:
        return _front_class()(self, trusted=trusted)

    def session(self) -> Any:
        """Return what serves a new channel."""
        files = sftp_factory(self._threads, self._host.environment.directory(None))
        return _session_class()(Job(self._host), files)

    @property
    def acts_for_another(self) -> bool:
        """Whether clients are another user than the daemon."""
        return self._host.children.user is not None

    def accepts_password(self, password: str) -> bool:
        """Tell whether `password` is the daemon's token."""
        return self._auth.mode is Mode.TOKEN and self._auth.accepts(password)

    @property
    def takes_passwords(self) -> bool:
        """Whether there is a token that could be a password."""
        return self._auth.mode is Mode.TOKEN

    def joined(self, connection: "SSHServerConnection") -> None:
        """Count a connection among the open ones."""
        self._connections.add(connection)

    def left(self, connection: "SSHServerConnection", sockets: Sequence[str]) -> None:
        """It has closed; the sockets that it had forwarded are removed."""
        self._connections.discard(connection)
        if sockets:
            removal = self._tasks.start(asyncio.to_thread(_remove_sockets, sockets), "ssh sockets")
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)


class _Front:
    """One connection, as the library asks about it. User names mean nothing: a sandbox has one user."""

    def __init__(self, ssh: Ssh, *, trusted: bool) -> None:
        self._ssh = ssh
        self._trusted = trusted
        self._sockets: list[str] = []
        self._connection: SSHServerConnection

    def connection_made(self, conn: "SSHServerConnection") -> None:
        self._connection = conn
        self._ssh.joined(conn)

    def connection_lost(self, _: Exception | None) -> None:
        self._ssh.left(self._connection, self._sockets)

    def begin_auth(self, _: str) -> bool:
        return not self._trusted

    def password_auth_supported(self) -> bool:
        return self._ssh.takes_passwords

    def validate_password(self, _: str, password: str) -> bool:
        return self._ssh.accepts_password(password)

    def session_requested(self) -> Any:
        return self._ssh.session()

    def connection_requested(self, *_: object) -> bool:
        return True

    def server_requested(self, _: str, port: int) -> bool:
        # The daemon may be root: what its client could not do, it does not do for it.
        return not (self._ssh.acts_for_another and 0 < port < socket.IPPORT_RESERVED)

    def unix_connection_requested(self, _: str) -> bool:
        return not self._ssh.acts_for_another

    async def unix_server_requested(self, path: str) -> bool:
        if self._ssh.acts_for_another or await asyncio.to_thread(os.path.lexists, path):
            return False
        self._sockets.append(path)
        return True


@cache
def _front_class() -> Any:
    from asyncssh import SSHServer  # noqa: PLC0415 -- heavy

    return type("Front", (_Front, SSHServer), {})


@cache
def _session_class() -> Any:
    from asyncssh.stream import SSHServerStreamSession  # noqa: PLC0415 -- heavy

    class Session(SSHServerStreamSession[bytes]):
        """A channel whose signals and sizes do not wait behind unread input."""

        def __init__(self, job: Job, files: Any) -> None:
            super().__init__(job.run, files, 3, allow_scp=True)
            self._job = job

        def signal_received(self, signal: str) -> None:
            self._job.signal(signal)

        def break_received(self, _: int) -> bool:
            self._job.signal("INT")
            return True

        def terminal_size_changed(self, width: int, height: int, *_: int) -> None:
            self._job.resize(width, height)

    return Session


def _authorized_keys(path: Path) -> Any:
    from asyncssh import read_authorized_keys  # noqa: PLC0415 -- heavy

    try:
        return read_authorized_keys(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use the authorized keys {path}: {error}") from None


def _remove_sockets(paths: Sequence[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                Path(path).unlink()

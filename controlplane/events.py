"""Events over Socket.IO: every new sandbox and change of state, told to the clients of its organisation."""

import asyncio
import contextlib
import importlib
import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
from aiohttp import web

from controlplane.accounts import Accounts
from controlplane.links import Links
from controlplane.models import Record, Sandbox
from controlplane.states import State
from controlplane.steps import Steps
from toolbox.errors import ToolboxError
from toolbox.lifetime import TaskSet
from toolbox.web.drain import STARTED

if TYPE_CHECKING:
    from socketio import AsyncServer

log = logging.getLogger(__name__)

LOGIN_SECONDS = 10.0
"""How long a connection may be open without a token."""
RECHECK_SECONDS = 30.0
"""How often the tokens of open connections are looked at again: they expire and are revoked."""
CLOSE_SECONDS = 1.0
MAX_WAITING = 1000
"""Events that wait for a slow client; one more and it is cut off. It finds out by asking, as it does anyway."""
MAX_MESSAGE = 64 * 1024
"""Bytes of what a client may send: there is nothing to say but its token."""
_MAX_QUEUE = 100_000

_TOLD_BY_POLLING = (State.ERROR, State.BUILD_FAILED)
"""The published SDKs take only the state from an event, and would raise without a reason: they ask again within 1 s."""


class _Client(NamedTuple):
    """An open connection whose token was good."""

    request: web.Request
    token: str
    wanted_organization: str | None
    organization: str
    toolbox_url: str
    """Where this client reaches daemons: events must not send it elsewhere."""

    @property
    def room(self) -> tuple[str, str]:
        """Clients that are sent the same."""
        return self.organization, self.toolbox_url


class Events:
    """The Socket.IO server, made when the first client comes."""

    def __init__(self, steps: Steps, accounts: Accounts, links: Links, origins: frozenset[str]) -> None:
        self._accounts = accounts
        self._links = links
        self._origins = origins
        self._server: AsyncServer | None = None
        self._making = asyncio.Lock()
        self._clients: dict[str, _Client] = {}
        self._queue: asyncio.Queue[tuple[Record, State | None]] = asyncio.Queue(_MAX_QUEUE)
        self._tasks = TaskSet()
        steps.spectate(self._changed)

    async def __aenter__(self) -> Self:
        self._tasks.start(self._tell_forever(), "events")
        self._tasks.start(self._recheck_forever(), "tokens of events")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    async def close(self, _: web.Application) -> None:
        """End every connection (an `on_shutdown` signal)."""
        if self._server is None:
            return
        await asyncio.gather(*(self._end(sid, client) for sid, client in list(self._clients.items())))
        await self._server.shutdown()

    async def _end(self, sid: str, client: _Client) -> None:
        """Close a connection; the library would wait for ever for a client that reads nothing."""
        assert self._server is not None  # noqa: S101 -- there are clients only then
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._server.disconnect(sid)
        _cut(client.request)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until its end."""
        server = await self._made()
        login = self._tasks.start(_cut_later(request), "login of events")
        request[_LOGIN] = login
        try:
            response: web.StreamResponse = await server.handle_request(request)
        except (ValueError, TypeError, LookupError):
            if STARTED not in request:
                raise
            # The library's way to say that what came is no packet: the client's affair, and no news for our log.
            raise ConnectionAbortedError("a client of events sent what is no packet") from None
        else:
            return response
        finally:
            login.cancel()

    async def _made(self) -> "AsyncServer":
        async with self._making:
            if self._server is None:
                await asyncio.to_thread(importlib.import_module, "socketio")
                import socketio  # noqa: PLC0415 -- heavy

                origins = "*" if "*" in self._origins else sorted(self._origins) or None
                self._server = socketio.AsyncServer(
                    async_mode="aiohttp",
                    transports=["websocket"],
                    cors_allowed_origins=origins,
                    max_http_buffer_size=MAX_MESSAGE,
                    async_handlers=False,
                    # It logs as errors, with a traceback each, what strangers send.
                    engineio_logger=_silent(),
                )
                self._server.on("connect", self._connect)
                self._server.on("disconnect", self._disconnect)
        return self._server

    async def _connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        from socketio.exceptions import ConnectionRefusedError  # noqa: A004, PLC0415 -- heavy

        request: web.Request = environ["aiohttp.request"]
        token = auth.get("token") if isinstance(auth, dict) else None
        wanted = request.query.get("organizationId") or None
        try:
            caller = await self._accounts.identify([token] if isinstance(token, str) else [], wanted)
        except ToolboxError as error:
            raise ConnectionRefusedError(error.message) from None
        except Exception:
            log.exception("a login for events failed")
            raise ConnectionRefusedError("internal error") from None
        request[_LOGIN].cancel()
        client = _Client(request, str(token), wanted, caller.organization_id, self._links.toolbox(request))
        self._clients[sid] = client
        assert self._server is not None  # noqa: S101 -- it calls
        await self._server.enter_room(sid, "\n".join(client.room))

    async def _disconnect(self, sid: str, _: object = None) -> None:
        self._clients.pop(sid, None)

    def _changed(self, record: Record, before: State | None) -> None:
        if not self._clients or record.warm_pool_id is not None:
            return
        try:
            self._queue.put_nowait((record, before))
        except asyncio.QueueFull:
            log.warning("an event was dropped: too many at once")

    async def _tell_forever(self) -> None:
        while True:
            record, before = await self._queue.get()
            try:
                await self._tell(record, before)
            except Exception:  # the next event may be sendable
                log.exception("an event could not be sent")

    async def _tell(self, record: Record, before: State | None) -> None:
        assert self._server is not None  # noqa: S101 -- there are clients only then
        rooms = {client.room for client in self._clients.values() if client.organization == record.organization_id}
        for room in rooms:
            sandbox = msgspec.to_builtins(Sandbox.of(record, room[1]))
            if before is None:
                await self._server.emit("sandbox.created", sandbox, room="\n".join(room))
            elif record.state not in _TOLD_BY_POLLING:
                change = {"sandbox": sandbox, "oldState": str(before), "newState": str(record.state)}
                await self._server.emit("sandbox.state.updated", change, room="\n".join(room))
        self._cut_slow()

    def _cut_slow(self) -> None:
        assert self._server is not None  # noqa: S101 -- there are clients only then
        for sid, client in list(self._clients.items()):
            socket = self._server.eio.sockets.get(self._server.manager.eio_sid_from_sid(sid, "/"))
            if socket is not None and socket.queue.qsize() > MAX_WAITING:
                log.warning("a client of events is too slow")
                _cut(client.request)

    async def _recheck_forever(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            await self.recheck()

    async def recheck(self) -> None:
        """End the connections whose tokens are good no more."""
        for sid, client in list(self._clients.items()):
            try:
                await self._accounts.identify([client.token], client.wanted_organization)
            except ToolboxError:
                await self._end(sid, client)


_LOGIN: web.RequestKey["asyncio.Task[None]"] = web.RequestKey("login", asyncio.Task)


def _silent() -> logging.Logger:
    logger = logging.getLogger("engineio.server")
    logger.setLevel(logging.CRITICAL)
    return logger


async def _cut_later(request: web.Request) -> None:
    await asyncio.sleep(LOGIN_SECONDS)
    _cut(request)


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()

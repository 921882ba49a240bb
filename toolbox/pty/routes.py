"""Routes of `/process/pty`: terminals over HTTP, their bytes over websockets."""

import asyncio
import base64
import binascii

import msgspec
from aiohttp import WSCloseCode, web

from toolbox.children.terminal import Size
from toolbox.errors import BadRequest, NotFound, Unavailable
from toolbox.lifetime import TaskSet
from toolbox.pty.models import (
    PtyCloseReason,
    PtyConnectQuery,
    PtyControl,
    PtyCreateConnectQuery,
    PtyCreateRequest,
    PtyCreateResponse,
    PtyDeleteResponse,
    PtyListResponse,
    PtyResizeRequest,
    PtySessionInfo,
)
from toolbox.pty.sessions import Terminals, Viewer, exit_reason
from toolbox.web import wire
from toolbox.web.endpoint import Routes
from toolbox.web.websocket import EXIT_CONTROL_PROTOCOL, Socket, Sockets, offered_protocols, require_upgrade

routes = Routes("process")

ENVS_PROTOCOL = "X-Daytona-Pty-Envs~"
MAX_INPUT = 1024 * 1024
"""Largest message of a client, in bytes."""
MAX_WAITING = 16
"""Messages of a client that wait for a shell which does not read."""
STALL_SECONDS = 30.0
"""How long a client may take nothing at all before it is cut off: it holds the shell and every other client."""


@routes.post("/process/pty", "CreatePtySession", status=201)
async def create_session(body: PtyCreateRequest, terminals: Terminals) -> PtyCreateResponse:
    """Start a shell on a new terminal, or with `lazyStart` when the first client connects."""
    size = Size(body.cols, body.rows)
    session = terminals.create(body.id, cwd=body.cwd, variables=body.envs, size=size, lazy=body.lazy_start)
    return PtyCreateResponse(session_id=session.id)


@routes.get("/process/pty", "ListPtySessions")
async def list_sessions(terminals: Terminals) -> PtyListResponse:
    """List the terminals."""
    return PtyListResponse(sessions=[session.info() for session in terminals])


@routes.get("/process/pty/create-connect", "CreateConnectPtySession", status=101)
async def create_connect(
    request: web.Request, query: PtyCreateConnectQuery, terminals: Terminals, sockets: Sockets
) -> web.WebSocketResponse:
    """Start a shell on a new terminal and connect to it by websocket.

    Variables come in the subprotocol `X-Daytona-Pty-Envs~` followed by a JSON object in unpadded base64url. What goes
    wrong is answered before the upgrade.
    """
    require_upgrade(request)
    variables = _variables(offered_protocols(request))
    terminals.create(query.id, cwd=query.cwd, variables=variables, size=Size(query.cols, query.rows))
    # No await since the start: the viewer is there before the shell's first byte.
    return await _serve(request, sockets, terminals.view(query.id))


@routes.get("/process/pty/{session_id}", "GetPtySession")
async def get_session(session_id: str, terminals: Terminals) -> PtySessionInfo:
    """Describe a terminal."""
    return terminals.get(session_id).info()


@routes.delete("/process/pty/{session_id}", "DeletePtySession")
async def delete_session(session_id: str, terminals: Terminals) -> PtyDeleteResponse:
    """End a terminal with every process in it."""
    await terminals.delete(session_id)
    return PtyDeleteResponse(message="PTY session deleted")


@routes.post("/process/pty/{session_id}/resize", "ResizePtySession")
async def resize_session(session_id: str, body: PtyResizeRequest, terminals: Terminals) -> PtySessionInfo:
    """Change the size of a terminal."""
    return terminals.resize(session_id, Size(body.cols, body.rows)).info()


@routes.get("/process/pty/{session_id}/connect", "ConnectPtySession", status=101)
async def connect(
    session_id: str, request: web.Request, query: PtyConnectQuery, terminals: Terminals, sockets: Sockets
) -> web.WebSocketResponse:
    """Connect to a terminal by websocket: its latest output, or all from `offset` on, then what follows.

    Binary messages are terminal bytes both ways; text messages of the form `{"type":"control"}` tell the state.
    """
    require_upgrade(request)
    try:
        viewer = terminals.view(session_id, query.offset)
    except NotFound:
        return await _refuse(request, sockets, f"PTY session {session_id} not found")
    except Unavailable as error:
        return await _refuse(request, sockets, error.message)
    return await _serve(request, sockets, viewer)


def _variables(offered: list[str]) -> dict[str, str]:
    """Return the environment variables among the subprotocols. Raises `BadRequest`."""
    for token in offered:
        if token.startswith(ENVS_PROTOCOL):
            text = token.removeprefix(ENVS_PROTOCOL)
            try:
                padded = text + "=" * (-len(text) % 4)
                return msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=dict[str, str])
            except (binascii.Error, ValueError) as error:
                raise BadRequest(f"invalid environment in the subprotocol: {error}") from None
    return {}


async def _refuse(request: web.Request, sockets: Sockets, why: str) -> web.WebSocketResponse:
    """Say after the upgrade why there is nothing to connect to: clients await it there."""
    async with Socket(request, sockets) as socket:
        await _deliver(socket, PtyControl(status="error", error=f"Failed to connect to PTY session: {why}"))
        await socket.close(WSCloseCode.POLICY_VIOLATION, "failed to connect to PTY session")
    return socket.response


async def _serve(request: web.Request, sockets: Sockets, viewer: Viewer) -> web.WebSocketResponse:
    """Carry bytes between a client and a terminal until one of them ends."""
    tells_exit = EXIT_CONTROL_PROTOCOL in offered_protocols(request)
    with viewer:
        async with (
            Socket(request, sockets, max_message=MAX_INPUT, max_waiting=MAX_WAITING) as socket,
            TaskSet() as tasks,
        ):
            tasks.start(_take_input(socket, viewer), "terminal input")
            try:
                await socket.while_open(_converse(socket, viewer, tells_exit=tells_exit))
            except TimeoutError:
                await socket.close(WSCloseCode.POLICY_VIOLATION, "slow consumer")
    return socket.response


async def _take_input(socket: Socket, viewer: Viewer) -> None:
    async for message in socket:
        data = message.data
        await viewer.write(data.encode() if isinstance(data, str) else data)


async def _converse(socket: Socket, viewer: Viewer, *, tells_exit: bool) -> None:
    """Send all output at the speed of the client, and how it ended. Raises `TimeoutError` for a stuck client."""
    await _deliver(socket, PtyControl(status="connected", offset=viewer.offset))
    while data := await viewer.read():
        await _deliver(socket, data)
    end = viewer.session.exit
    if end is None:
        return
    known = end.code is not None or end.signal is not None
    reason = PtyCloseReason(exit_code=end.shell_code if known else None, exit_reason=exit_reason(end))
    if tells_exit:
        told = PtyControl(status="exited", exit_code=reason.exit_code, exit_reason=reason.exit_reason)
        await _deliver(socket, told)
    code = WSCloseCode.OK if reason.exit_code == 0 else WSCloseCode.INTERNAL_ERROR
    await socket.close(code, wire.encode(reason).decode())


async def _deliver(socket: Socket, message: bytes | PtyControl) -> None:
    async with asyncio.timeout(STALL_SECONDS):
        await socket.deliver(message if isinstance(message, bytes) else wire.encode(message).decode())

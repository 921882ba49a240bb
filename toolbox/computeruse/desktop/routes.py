"""Routes of the desktop's life."""

import asyncio
import contextlib
from typing import Any

from aiohttp import WSCloseCode, hdrs, web

from toolbox.computeruse.desktop import vnc
from toolbox.computeruse.desktop.desktop import Desktop
from toolbox.computeruse.desktop.models import (
    OpenRequest,
    OpenResponse,
    ProcessErrorsResponse,
    ProcessLogsResponse,
    ProcessRestartResponse,
    ProcessStatus,
    ProcessStatusResponse,
    ResizeRequest,
    ResizeResponse,
    StartStopResponse,
    StatusResponse,
)
from toolbox.computeruse.desktop.program import Program
from toolbox.computeruse.desktop.programs import SessionBus
from toolbox.computeruse.desktop.size import Size
from toolbox.computeruse.errors import DesktopUnavailable, UnknownProcess
from toolbox.lifetime import TaskSet
from toolbox.web.endpoint import Routes
from toolbox.web.websocket import MAX_FRAME, Socket, Sockets, require_upgrade

routes = Routes("computer-use")

MAX_WAITING = 16
"""Messages of a VNC client that wait for x11vnc."""


@routes.post("/computeruse/start", "StartComputerUse")
async def start(desktop: Desktop) -> StartStopResponse:
    """Start the desktop and wait until it can be used; what runs already goes on."""
    await desktop.start()
    return _answer(desktop, "Computer use processes started successfully")


@routes.post("/computeruse/stop", "StopComputerUse")
async def stop(desktop: Desktop) -> StartStopResponse:
    """Stop the desktop with all that it has started."""
    await desktop.stop()
    return _answer(desktop, "Computer use processes stopped successfully")


@routes.get("/computeruse/status", "GetComputerUseSystemStatus")
async def system_status(desktop: Desktop) -> StatusResponse:
    """Tell whether the desktop is active, partial or inactive, and where it is."""
    return _status(desktop)


@routes.get("/computeruse/process-status", "GetComputerUseStatus")
async def status(desktop: Desktop) -> StatusResponse:
    """Tell whether the desktop is active, partial or inactive, and where it is."""
    return _status(desktop)


def _status(desktop: Desktop) -> StatusResponse:
    return StatusResponse(status=desktop.status, **_place(desktop))


def _answer(desktop: Desktop, message: str) -> StartStopResponse:
    # The session bus is no process of the contract; it has the routes of each process, though.
    status = {
        kind.name: _process(kind, program) for kind, program in desktop.processes().items() if kind is not SessionBus
    }
    return StartStopResponse(message=message, status=status, **_place(desktop))


def _place(desktop: Desktop) -> dict[str, Any]:
    if not desktop.started:
        return {}
    run = desktop.run
    size = run.xvfb.size
    return {
        "display": run.xvfb.display or None,
        "resolution": f"{size.width}x{size.height}",
        "vnc_port": run.x11vnc.port if run.x11vnc is not None else None,
        "novnc_port": run.novnc.port if run.novnc is not None else None,
    }


def _process(kind: type[Program], program: Program | None) -> ProcessStatus:
    pid = program.pid if program is not None else None
    return ProcessStatus(
        running=pid is not None,
        priority=kind.priority,
        auto_restart=True,
        pid=pid,
        restarts=program.restarts if program is not None else 0,
        problem=program.problem if program is not None else "",
        pascal_running=pid is not None,
        pascal_priority=kind.priority,
        pascal_auto_restart=True,
        pascal_pid=pid,
    )


@routes.get("/computeruse/process/{process_name}/status", "GetProcessStatus")
async def process_status(process_name: str, desktop: Desktop) -> ProcessStatusResponse:
    """Tell whether a process of the desktop runs: xvfb, dbus, xfce4 (whatever session it is), atspi, x11vnc, novnc."""
    try:
        program = desktop.process(process_name)
    except UnknownProcess as error:
        # The contract's status here, and 400 for the routes below.
        raise DesktopUnavailable(f"Failed to get process status: {error.message}", details=error.message) from None
    if program is None:
        return ProcessStatusResponse(process_name=process_name, running=False)
    return ProcessStatusResponse(
        process_name=process_name,
        running=program.pid is not None,
        pid=program.pid,
        restarts=program.restarts,
        problem=program.problem,
    )


@routes.post("/computeruse/process/{process_name}/restart", "RestartProcess")
async def restart_process(process_name: str, desktop: Desktop) -> ProcessRestartResponse:
    """Restart a process of the desktop and what cannot be without it, and wait until they can be used."""
    await desktop.restart(process_name)
    return ProcessRestartResponse(message=f"Process {process_name} restarted successfully", process_name=process_name)


@routes.get("/computeruse/process/{process_name}/logs", "GetProcessLogs")
async def process_logs(process_name: str, desktop: Desktop) -> ProcessLogsResponse:
    """Return what a process printed on standard output, the last 2 MiB."""
    return ProcessLogsResponse(process_name=process_name, logs=await desktop.logs(process_name, "log"))


@routes.get("/computeruse/process/{process_name}/errors", "GetProcessErrors")
async def process_errors(process_name: str, desktop: Desktop) -> ProcessErrorsResponse:
    """Return what a process printed on standard error, the last 2 MiB."""
    return ProcessErrorsResponse(process_name=process_name, errors=await desktop.logs(process_name, "err"))


@routes.post("/computeruse/resize", "ResizeDesktop")
async def resize(body: ResizeRequest, desktop: Desktop) -> ResizeResponse:
    """Change the size of the screen; VNC and the session follow."""
    await desktop.resize(Size(body.width, body.height))
    return ResizeResponse(body.width, body.height)


@routes.post("/computeruse/open", "OpenOnDesktop")
async def open_target(body: OpenRequest, desktop: Desktop) -> OpenResponse:
    """Open a file, a URL or an application on the desktop."""
    return OpenResponse((await desktop.open(body.target, body.args)).pid)


@routes.get("/computeruse/vnc", "RedirectToVnc", hidden=True)
async def redirect_to_vnc(request: web.Request) -> web.Response:
    """Add the slash that relative URLs of the page need."""
    query = f"?{request.query_string}" if request.query_string else ""
    return web.Response(status=307, headers={hdrs.LOCATION: f"vnc/{query}"})


@routes.get("/computeruse/vnc/", "GetVncPage")
async def vnc_page(desktop: Desktop) -> web.Response:
    """Return a page that shows the desktop and lets it be used; a browser's key goes in the query."""
    headers = {hdrs.CACHE_CONTROL: "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(text=await vnc.page(desktop), content_type="text/html", headers=headers)


@routes.get("/computeruse/vnc/websockify", "ConnectVnc", status=101)
async def connect_vnc(request: web.Request, desktop: Desktop, sockets: Sockets) -> web.WebSocketResponse:
    """Speak the protocol of VNC (RFB) by websocket, in binary messages."""
    require_upgrade(request)
    reader, writer = await vnc.connect(desktop)
    try:
        async with Socket(request, sockets, max_waiting=MAX_WAITING) as socket, TaskSet() as tasks:
            tasks.start(_to_server(socket, writer), "vnc input")
            await socket.while_open(_to_client(socket, reader))
        return socket.response
    finally:
        writer.close()


async def _to_server(socket: Socket, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # the other direction says it
        async for message in socket:
            writer.write(message.data.encode() if isinstance(message.data, str) else message.data)
            await writer.drain()


async def _to_client(socket: Socket, reader: asyncio.StreamReader) -> None:
    try:
        while data := await reader.read(MAX_FRAME):
            await socket.deliver(data)
    except ConnectionResetError:
        pass  # of either end
    await socket.close(WSCloseCode.GOING_AWAY, "the VNC server has ended the connection")


@routes.get("/computeruse/vnc/{name:.+}", "GetVncFile", hidden=True)
async def vnc_file(name: str) -> web.FileResponse:
    """Return a file of noVNC."""
    return web.FileResponse(await asyncio.to_thread(vnc.static_file, name))

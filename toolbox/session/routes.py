"""Routes of `/process/session`."""

from aiohttp import web

from toolbox.session.clients import Shape, shape_for
from toolbox.session.command import Command
from toolbox.session.models import (
    CommandInfo,
    CreateSessionRequest,
    ExecuteSessionRequest,
    ExecuteSessionResponse,
    InputRequest,
    LogsQuery,
    LogsResponse,
    SessionInfo,
)
from toolbox.session.responses import follow_events, follow_socket, logs_response, output_texts
from toolbox.session.sessions import Sessions
from toolbox.web.endpoint import Routes, respond
from toolbox.web.streams import stream_json
from toolbox.web.websocket import Sockets, offered_protocols

routes = Routes("process")


@routes.post("/process/session", "CreateSession", status=201, idempotent=True)
async def create_session(body: CreateSessionRequest, sessions: Sessions) -> None:
    """Start a session: a shell that keeps directory, variables and functions between commands."""
    await sessions.create(body.session_id)


@routes.get("/process/session", "ListSessions")
async def list_sessions(sessions: Sessions) -> list[SessionInfo]:
    """List the sessions with their commands."""
    return sessions.all()


@routes.get("/process/session/entrypoint", "GetEntrypointSession")
async def entrypoint_session(sessions: Sessions) -> SessionInfo:
    """Return the session of the sandbox's entrypoint."""
    return sessions.info("entrypoint")


@routes.get("/process/session/entrypoint/logs", "GetEntrypointLogs")
async def entrypoint_logs(
    request: web.Request, query: LogsQuery, sessions: Sessions, sockets: Sockets
) -> LogsResponse | web.StreamResponse:
    """Return what the entrypoint printed, or follow it (websocket or server-sent events)."""
    return await _logs(request, sessions.entrypoint(), query, sockets, combined=False)


@routes.get("/process/session/{session_id}", "GetSession")
async def get_session(session_id: str, sessions: Sessions) -> SessionInfo:
    """Return a session with its commands."""
    return sessions.info(session_id)


@routes.delete("/process/session/{session_id}", "DeleteSession", status=204)
async def delete_session(session_id: str, sessions: Sessions) -> None:
    """End a session and all that runs in it, and forget its output."""
    await sessions.delete(session_id)


@routes.post("/process/session/{session_id}/exec", "SessionExecuteCommand", other_statuses=[202], idempotent=True)
async def execute(
    request: web.Request, session_id: str, body: ExecuteSessionRequest, sessions: Sessions
) -> ExecuteSessionResponse | web.StreamResponse:
    """Run a command in a session: wait for its end (200), or with `runAsync` return at once (202)."""
    run_async = body.run_async or body.async_
    command = sessions.submit(session_id, body.command, keeps_input=run_async, echo=not body.suppress_input_echo)
    if run_async:
        return respond(ExecuteSessionResponse(cmd_id=command.id), 202)
    await sessions.wait(session_id, command)
    shape = shape_for(request.headers)
    fields = {"cmdId": command.id, "exitCode": command.exit_code}
    texts = output_texts(command.journal, shape)
    if shape is not Shape.SPLIT:
        fields |= {"stdout": None, "stderr": None}
    return await stream_json(request, fields, texts)


@routes.get("/process/session/{session_id}/command/{command_id}", "GetSessionCommand")
async def get_command(session_id: str, command_id: str, sessions: Sessions) -> CommandInfo:
    """Return how a command stands."""
    return sessions.command(session_id, command_id).info


@routes.post("/process/session/{session_id}/command/{command_id}/input", "SendInput", status=204)
async def send_input(session_id: str, command_id: str, body: InputRequest, sessions: Sessions) -> None:
    """Write a line to the standard input of a running command."""
    sessions.send_input(session_id, command_id, body.data)


@routes.get("/process/session/{session_id}/command/{command_id}/logs", "GetSessionCommandLogs")
async def get_logs(
    request: web.Request, session_id: str, command_id: str, query: LogsQuery, sessions: Sessions, sockets: Sockets
) -> LogsResponse | web.StreamResponse:
    """Return what a command printed, or follow it (websocket or server-sent events), from an offset on."""
    return await _logs(request, sessions.command(session_id, command_id), query, sockets, combined=True)


async def _logs(
    request: web.Request, command: Command, query: LogsQuery, sockets: Sockets, *, combined: bool
) -> web.StreamResponse:
    protocols = offered_protocols(request)
    shape = shape_for(request.headers, protocols)
    if shape is Shape.COMBINED and not combined:
        shape = Shape.MARKED
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await follow_socket(request, command, query, shape, sockets)
    if query.follow and "text/event-stream" in request.headers.get("Accept", ""):
        return await follow_events(request, command, query)
    return await logs_response(request, command.journal, query, shape)

"""Routes of `/process` itself."""

import msgspec
from aiohttp import web

from toolbox.errors import RequestTimeout
from toolbox.process.execute import Commands
from toolbox.process.models import ExecuteRequest, ExecuteResponse, ProcessInfo, SignalRequest
from toolbox.process.processes import Processes
from toolbox.web.endpoint import Routes
from toolbox.web.middleware import DAEMON_SOURCE, envelope
from toolbox.web.streams import stream_json

routes = Routes("process")


@routes.post("/process/execute", "ExecuteCommand", idempotent=True)
async def execute(
    request: web.Request, body: ExecuteRequest, commands: Commands
) -> ExecuteResponse | web.StreamResponse:
    """Run a command in the sandbox's shell and return its exit code and output."""
    async with commands.run(body.command, cwd=body.cwd, env=body.envs, timeout=body.timeout) as outcome:
        output = {"result": outcome.output.texts()}
        if outcome.timed_out:
            error = RequestTimeout(f"command timed out after {body.timeout} s", code="PROCESS_EXECUTION_TIMEOUT")
            fields = envelope(error, method=request.method, path=request.path, source=DAEMON_SOURCE)
            return await stream_json(request, fields, output, status=error.status)
        answer = ExecuteResponse(
            exit_code=outcome.exit_code,
            cause=outcome.cause or msgspec.UNSET,
            cut_bytes=outcome.output.cut or msgspec.UNSET,
        )
        return await stream_json(request, msgspec.to_builtins(answer), output)


@routes.get("/process", "ListProcesses")
async def list_processes(processes: Processes) -> list[ProcessInfo]:
    """List what was started through the API: what runs, and the last that ended."""
    return await processes.all()


@routes.post("/process/{process_id}/signal", "SignalProcess", status=204)
async def signal_process(process_id: str, body: SignalRequest, processes: Processes) -> None:
    """Send a signal to a process, or to its whole group."""
    processes.send_signal(process_id, body.signal, group=body.group)

"""Routes of `/process` itself."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from aiohttp import web

from toolbox.errors import RequestTimeout
from toolbox.process.code_run import Programs
from toolbox.process.execute import Commands
from toolbox.process.models import (
    CodeRunArtifacts,
    CodeRunRequest,
    CodeRunResponse,
    ExecuteRequest,
    ExecuteResponse,
    ProcessInfo,
    SignalRequest,
)
from toolbox.process.node import NotInstalled
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
            return await _timed_out(request, f"command timed out after {body.timeout} s", output)
        answer = ExecuteResponse(
            exit_code=outcome.exit_code,
            cause=outcome.cause or msgspec.UNSET,
            cut_bytes=outcome.output.cut or msgspec.UNSET,
        )
        return await stream_json(request, msgspec.to_builtins(answer), output)


@routes.post("/process/code-run", "CodeRun", idempotent=True)
async def code_run(
    request: web.Request, body: CodeRunRequest, programs: Programs
) -> CodeRunResponse | web.StreamResponse:
    """Run a program and return its exit code, output and charts."""
    try:
        async with programs.run(
            body.language, body.code, argv=body.argv, env=body.envs, timeout=body.timeout
        ) as program:
            outcome = program.command
            output = {"result": outcome.output.texts()}
            artifacts = CodeRunArtifacts(charts=program.charts) if program.charts else msgspec.UNSET
            if outcome.timed_out:
                more = {"artifacts": artifacts} if program.charts else {}
                return await _timed_out(request, f"program timed out after {body.timeout} s", output, more)
            answer = CodeRunResponse(
                exit_code=outcome.end.shell_code if outcome.end is not None else -1,
                artifacts=artifacts,
                cause=outcome.cause or msgspec.UNSET,
                cut_bytes=outcome.output.cut or msgspec.UNSET,
            )
            return await stream_json(request, answer, output)
    except NotInstalled as error:
        return CodeRunResponse(exit_code=error.exit_code, result=str(error))


async def _timed_out(
    request: web.Request, text: str, output: Mapping[str, AsyncIterator[str]], more: Mapping[str, Any] | None = None
) -> web.StreamResponse:
    error = RequestTimeout(text, code="PROCESS_EXECUTION_TIMEOUT")
    fields = envelope(error, method=request.method, path=request.path, source=DAEMON_SOURCE)
    return await stream_json(request, {**fields, **(more or {})}, output, status=error.status)


@routes.get("/process", "ListProcesses")
async def list_processes(processes: Processes) -> list[ProcessInfo]:
    """List what was started through the API: what runs, and the last that ended."""
    return await processes.all()


@routes.post("/process/{process_id}/signal", "SignalProcess", status=204)
async def signal_process(process_id: str, body: SignalRequest, processes: Processes) -> None:
    """Send a signal to a process, or to its whole group."""
    processes.send_signal(process_id, body.signal, group=body.group)

"""Wire models of `/process`."""

from typing import Annotated

import msgspec

from charts.models import Chart
from toolbox.web.wire import Model, Text

Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
"""A timeout in whole seconds, a uint32 on the wire; 0 means none."""


class ExecuteRequest(Model):
    """A command line for the sandbox's shell."""

    command: Text
    cwd: str | None = None
    envs: dict[str, str] = {}
    timeout: Seconds = 0


class ExecuteResponse(Model):
    """How the command ended and what it printed, stdout and stderr in the order they were written."""

    exit_code: int
    result: str | msgspec.UnsetType = msgspec.UNSET
    cause: str | msgspec.UnsetType = msgspec.UNSET
    """Why the shell died, when it did not exit by itself: a signal's name, out of memory."""
    cut_bytes: int | msgspec.UnsetType = msgspec.UNSET
    """How many bytes of output were not kept; a notice stands in their place."""


class CodeRunRequest(Model):
    """A program as text. It runs in the work dir, its standard input is empty."""

    code: Text
    language: Text
    """python, javascript or typescript."""
    argv: list[str] = []
    envs: dict[str, str] = {}
    timeout: Seconds = 0


class CodeRunArtifacts(Model):
    """What a program has made beside its output."""

    charts: list[Chart]


class CodeRunResponse(Model):
    """How the program ended, what it printed (as `ExecuteResponse`), and the figures of matplotlib it has shown."""

    exit_code: int
    """128 + n after signal n; 127 when nothing runs the language, as `result` then says; -1 when it never started."""
    result: str | msgspec.UnsetType = msgspec.UNSET
    artifacts: CodeRunArtifacts | msgspec.UnsetType = msgspec.UNSET
    cause: str | msgspec.UnsetType = msgspec.UNSET
    """Why it died, when it did not exit by itself."""
    cut_bytes: int | msgspec.UnsetType = msgspec.UNSET
    """How many bytes of output were not kept."""


class ProcessInfo(Model):
    """A process that was started through the API. Use counts all that still runs in its session."""

    id: str
    """Ours: it never means another process, as a reused pid would."""
    command: str
    pid: int
    group: int
    started_at: str
    status: str
    """running or exited."""
    exit_code: int | msgspec.UnsetType = msgspec.UNSET
    cause: str | msgspec.UnsetType = msgspec.UNSET
    """Why it died, when it did not exit by itself."""
    processes: int = 0
    rss_bytes: int = 0
    cpu_seconds: float = 0.0


class SignalRequest(Model):
    """A signal by name (with or without SIG) or number."""

    signal: Annotated[str, msgspec.Meta(min_length=1)] | int
    group: bool = True
    """To all of its process group, not to the process alone."""

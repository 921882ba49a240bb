"""Wire models of the desktop's life (contract, computer-use.md section 1)."""

from msgspec import field

from toolbox.web.wire import Model


class ProcessStatus(Model):
    """One process of the desktop.

    The reference daemon writes the fields in PascalCase, the SDKs read them in camelCase: both are there.
    """

    running: bool
    priority: int
    auto_restart: bool
    pid: int | None
    restarts: int = 0
    """Launches after the first, since the desktop was started."""
    problem: str = ""
    """Why it does not run, or is not ready."""
    pascal_running: bool = field(default=False, name="Running")
    pascal_priority: int = field(default=0, name="Priority")
    pascal_auto_restart: bool = field(default=False, name="AutoRestart")
    pascal_pid: int | None = field(default=None, name="Pid")


class StatusResponse(Model):
    """active, partial or inactive; and where the desktop is, as far as it is."""

    status: str
    display: str | None = None
    resolution: str | None = None
    """WIDTHxHEIGHT."""
    vnc_port: int | None = None
    novnc_port: int | None = field(default=None, name="noVncPort")


class StartStopResponse(Model):
    """What was done, and the processes by name."""

    message: str
    status: dict[str, ProcessStatus]
    display: str | None = None
    resolution: str | None = None
    vnc_port: int | None = None
    novnc_port: int | None = field(default=None, name="noVncPort")


class ProcessStatusResponse(Model):
    """One process."""

    process_name: str
    running: bool
    pid: int | None = None
    restarts: int = 0
    problem: str = ""


class ProcessRestartResponse(Model):
    """A process was restarted."""

    message: str
    process_name: str


class ProcessLogsResponse(Model):
    """What a process printed on standard output."""

    process_name: str
    logs: str


class ProcessErrorsResponse(Model):
    """What a process printed on standard error."""

    process_name: str
    errors: str


class ResizeRequest(Model):
    """A size of the screen, in pixels."""

    width: int
    height: int


class ResizeResponse(Model):
    """The size that the screen has now, in pixels."""

    width: int
    height: int


class OpenRequest(Model):
    """What to open: a path, a URL, or an application with arguments."""

    target: str
    args: list[str] = []


class OpenResponse(Model):
    """The process that was started."""

    pid: int

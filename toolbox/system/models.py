"""Wire models of the system routes."""

from toolbox.web.wire import Model


class Version(Model):
    """The daemon's version."""

    version: str


class Interpreter(Model):
    """A Python that runs the user's code."""

    path: str
    origin: str
    """configured, sandbox (the `python3` of its PATH) or daemon (its own)."""


class SystemInfo(Model):
    """What the daemon is, and what it runs things with."""

    version: str
    work_dir: str
    shell: str
    kernel_python: Interpreter
    """Runs the contexts of the code interpreter."""
    program_python: Interpreter
    """Runs the programs of code-run."""


class Directory(Model):
    """One directory."""

    dir: str


class InitRequest(Model):
    """What a platform hands to a daemon it has just taken into use."""

    token: str | None = None
    env: dict[str, str] | None = None
    """Variables for all that is started from now on; with the token or not at all, and only once."""


class Message(Model):
    """A sentence."""

    message: str


class Initialized(Message):
    """What a daemon that is in use says of itself, so that a platform need not ask."""

    version: str
    env: bool
    """Whether the request's variables hold."""


class EnvRequest(Model):
    """Changes to the variables that later children inherit: unset, then unset by value, then set."""

    set: dict[str, str] = {}
    unset: list[str] = []
    unset_value_prefix: str = ""


class SystemMetrics(Model):
    """What the sandbox uses; sizes in bytes."""

    cpu_count: int
    cpu_used_pct: float
    mem_total: int
    mem_used: int
    mem_cache: int
    disk_total: int
    disk_used: int
    disk_free: int
    timestamp: str
    timestamp_unix: int


class Health(Model):
    """Whether the daemon lives, or is ready."""

    status: str

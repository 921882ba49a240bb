"""Wire models of the system routes."""

from toolbox.web.wire import Model


class Version(Model):
    """The daemon's version."""

    version: str


class Directory(Model):
    """One directory."""

    dir: str


class InitRequest(Model):
    """What a platform hands to a daemon it has just taken into use."""

    token: str | None = None


class Message(Model):
    """A sentence."""

    message: str


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

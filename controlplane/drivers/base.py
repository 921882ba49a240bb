"""What the control plane asks of a driver."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import msgspec

from controlplane.models import CreateSandbox
from toolbox.errors import ToolboxError


class DriverError(ToolboxError):
    """The driver could not do what it should be able to do."""

    status = 500
    code = "SANDBOX_ERROR"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a daemon listens: a unix socket, else a host and port."""

    unix: str | None = None
    host: str = "sandbox"
    port: int = 80


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the daemon of a running sandbox."""

    address: Address
    token: str
    daemon_version: str | None = None


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox gets: cores, memory and disk in GiB."""

    cpu: int
    memory: int
    disk: int


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver needs to know to start a sandbox."""

    id: str
    env: dict[str, str]


Death = Callable[[str, str], None]
"""Called with a sandbox's id and a reason when its daemon ended and nobody asked for it."""


class Driver(Protocol):
    """Starts, ends and finds daemons. The caller never has two calls for one sandbox under way at a time."""

    name: str
    user: str
    """The user that sandboxes run as."""

    def check(self, wanted: CreateSandbox) -> Resources:
        """Return what the sandbox will get. Raises `BadRequest` naming the first field that cannot be honoured."""

    def watch(self, death: Death) -> None:
        """Report unexpected ends of daemons to `death` from now on."""

    def is_running(self, sandbox_id: str) -> bool:
        """Tell whether the sandbox's daemon is running as far as the driver knows."""

    async def create(self, launch: Launch) -> None:
        """Make what lasts as long as the sandbox. Raises `DriverError`."""

    async def start(self, launch: Launch) -> Access:
        """Start the daemon and return once it answers; on failure nothing of it is left. Raises `DriverError`."""

    async def stop(self, sandbox_id: str, *, force: bool) -> None:
        """End the daemon and all that descends from it; what is on disk stays."""

    async def delete(self, sandbox_id: str) -> None:
        """Remove all of a sandbox, running or not. What is not there counts as removed."""

    async def recover(self, keep: Collection[str]) -> Mapping[str, Access]:
        """After a crash: adopt the running daemons of the sandboxes in `keep`, end all others."""

"""The `process` driver: a sandbox is a daemon with its own directories, on this machine, as this user.

It separates directories and processes, not users: code in one sandbox can reach the files of another if it tries.
"""

import asyncio
import getpass
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Self

from controlplane.drivers.base import Access, Death, Driver, DriverError, EgressPlace, Launch, Resources
from controlplane.drivers.daemon import Daemon, mark
from controlplane.drivers.orphans import end_marked
from controlplane.drivers.place import Places
from controlplane.drivers.refusals import check_supported
from controlplane.models import CreateSandbox
from toolbox.children.process import Children
from toolbox.lifetime import TaskSet

_GIB = 1024**3
_STARTS_AT_ONCE = max(2, os.cpu_count() or 1)
"""A start is mostly computing: more of them side by side only make each one later."""


class ProcessDriver(Driver):
    """Runs one `toolboxd serve` for each sandbox, on a unix socket."""

    name = "process"
    egress = EgressPlace(this_machine=True)

    def __init__(self, state_dir: Path, children: Children) -> None:
        self.user = _user()
        self._children = children
        self._places = Places(state_dir)
        self._daemons: dict[str, Daemon] = {}
        self._starting = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._tasks = TaskSet()
        self._death: Death | None = None
        self._machine = Resources(cpu=1, memory=1, disk=1)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._places.open)
        self._machine = await asyncio.to_thread(_machine, self._places.root)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(self.stop(each, force=False) for each in list(self._daemons)), return_exceptions=True)
        await self._tasks.close()
        await asyncio.to_thread(self._places.close)

    def check(self, wanted: CreateSandbox) -> Resources:
        """Return the whole machine, since limits are not this driver's. Raises `BadRequest`."""
        check_supported(wanted, driver=self.name, user=self.user)
        return self._machine

    def watch(self, death: Death) -> None:
        """Report unexpected ends of daemons to `death` from now on."""
        self._death = death

    def is_running(self, sandbox_id: str) -> bool:
        """Tell whether the daemon runs."""
        return sandbox_id in self._daemons

    async def create(self, launch: Launch) -> None:
        """Make the sandbox's directories and its token. Raises `DriverError`."""
        try:
            await asyncio.to_thread(self._places.of(launch.id).make)
        except OSError as error:
            raise DriverError(f"cannot make the sandbox's directories: {error}") from None

    async def start(self, launch: Launch) -> Access:
        """Start the daemon and return once it answers. Raises `DriverError`."""
        await self.stop(launch.id, force=True)
        try:
            async with self._starting:
                daemon = await Daemon.start(launch, self._places.of(launch.id), self._children)
            self._supervise(daemon)
            return await daemon.access()
        except OSError as error:
            raise DriverError(f"the sandbox's daemon did not start: {error}") from None

    async def stop(self, sandbox_id: str, *, force: bool) -> None:
        """End the daemon and all that descends from it; what is on disk stays."""
        daemon = self._daemons.pop(sandbox_id, None)
        if daemon is not None:
            await daemon.end(force=force)

    async def delete(self, sandbox_id: str) -> None:
        """Remove all of a sandbox. Raises `DriverError`."""
        await self.stop(sandbox_id, force=False)
        await end_marked(mark(sandbox_id))
        try:
            await asyncio.to_thread(self._places.of(sandbox_id).remove)
        except OSError as error:
            raise DriverError(f"cannot remove the sandbox's directories: {error}") from None

    async def recover(self, keep: Collection[str]) -> Mapping[str, Access]:
        """Adopt the running daemons of the sandboxes in `keep`, end all others."""
        ids = await asyncio.to_thread(self._places.ids)
        found = await asyncio.gather(*(self._recover(each, keep=each in keep) for each in ids))
        return {daemon.id: await daemon.access() for daemon in found if daemon is not None}

    async def _recover(self, sandbox_id: str, *, keep: bool) -> Daemon | None:
        place = self._places.of(sandbox_id)
        daemon = await Daemon.adopt(sandbox_id, place) if keep else None
        if daemon is None:
            await end_marked(mark(sandbox_id))
            await asyncio.to_thread(place.forget)
            return None
        self._supervise(daemon)
        return daemon

    def _supervise(self, daemon: Daemon) -> None:
        self._daemons[daemon.id] = daemon
        self._tasks.start(self._report_death(daemon), f"daemon of {daemon.id}")

    async def _report_death(self, daemon: Daemon) -> None:
        reason = await daemon.reason()
        if daemon.stopping:
            return
        self._daemons.pop(daemon.id, None)
        await daemon.end(force=True)
        if self._death is not None:
            self._death(daemon.id, reason)


def _user() -> str:
    """Return the name of the user we run as; in a container it may have none, only a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _machine(directory: Path) -> Resources:
    """Return what this machine has."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(directory).total
    return Resources(cpu=os.cpu_count() or 1, memory=max(1, memory // _GIB), disk=max(1, disk // _GIB))

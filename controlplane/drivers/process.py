"""The `process` driver: a sandbox is a daemon with its own directories, on this machine.

It separates directories and processes, not users: code in one sandbox can reach the files of another if it tries.
"""

import asyncio
import errno
import os
import pwd
import shutil
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Self, TypeVar

from controlplane.drivers import trees
from controlplane.drivers.base import Ability, Access, Death, Driver, DriverError, EgressPlace, Launch, Resources
from controlplane.drivers.cgroups import Cgroups
from controlplane.drivers.daemon import Daemon, Surroundings, mark
from controlplane.drivers.mounts import HOME, MountPoints, VolumeDirectories, check_mount_path, link_into_home
from controlplane.drivers.orphans import end_marked
from controlplane.drivers.place import Place, Places
from controlplane.drivers.refusals import check_resources, check_supported, check_user
from controlplane.models import CreateSandbox, Image
from toolbox.children.process import Children
from toolbox.config import ConfigError
from toolbox.errors import BadRequest, InsufficientStorage
from toolbox.lifetime import TaskSet
from toolbox.telemetry.settings import redirected

_GIB = 1024**3
_STARTS_AT_ONCE = max(2, os.cpu_count() or 1)
"""A start is mostly computing: more of them side by side only make each one later."""
_TEMPORARY = "/run/sandbox-{}"
"""Where another user finds the temporary directory, since the way to ours is closed to him."""
_R = TypeVar("_R")


class ProcessDriver(Driver):
    """Runs one `toolboxd serve` for each sandbox, on a unix socket; `options` are variables for all of them."""

    name = "process"
    mounts_in_home = True
    egress = EgressPlace(this_machine=True)

    def __init__(self, state_dir: Path, children: Children, options: Mapping[str, str]) -> None:
        self.user = _user()
        self._children = children
        self._options = options
        self._places = Places(state_dir)
        self._volumes = VolumeDirectories(state_dir / "volumes")
        self._points = MountPoints(state_dir / "mount-points.json")
        self._daemons: dict[str, Daemon] = {}
        self._starting = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._tasks = TaskSet()
        self._death: Death | None = None
        self._machine = Resources(cpu=1, memory=1, disk=1)
        self._cgroups = Cgroups(self._places.name, None, None, None)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        abilities = {Ability.FORK, Ability.SNAPSHOT, Ability.ARCHIVE, Ability.VOLUMES, Ability.KEEP}
        if self._cgroups.can_limit:
            abilities.add(Ability.RESIZE)
        if self._cgroups.can_freeze:
            abilities.add(Ability.PAUSE)
        self.abilities = frozenset(abilities)
        return self

    def _open(self) -> None:
        self._places.open()
        try:
            self._volumes.open()
            self._points.open()
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot keep volumes: {error}") from None
        self._machine = _machine(self._places.root)
        self._cgroups = Cgroups.find(self._places.name)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(self.stop(each, force=False) for each in list(self._daemons)), return_exceptions=True)
        await self._tasks.close()
        await asyncio.to_thread(self._places.close)

    def check(self, wanted: CreateSandbox) -> Resources:
        """Return what was asked for, and of all else what the machine has. Raises `BadRequest`."""
        check_supported(wanted, driver=self.name, user=self.user, can_pause=self._cgroups.can_freeze)
        for mount in wanted.volumes or []:
            if not mount.mount_path.startswith(HOME):
                self._check_mount_path(os.path.normpath(mount.mount_path))
        machine = self._machine
        resources = Resources(
            cpu=machine.cpu if wanted.cpu is None else wanted.cpu,
            memory=machine.memory if wanted.memory is None else wanted.memory,
            disk=machine.disk if wanted.disk is None else wanted.disk,
        )
        check_resources(resources, machine, can_limit=self._cgroups.can_limit)
        return resources

    def _check_mount_path(self, path: str) -> None:
        if os.geteuid() != 0:
            raise BadRequest(f"volumes: without root only paths in the sandbox's home (~/...) can be had, not {path}")
        check_mount_path(path, "volumes", (self._places.root, self._places.sockets))

    def watch(self, death: Death) -> None:
        """Report unexpected ends of daemons to `death` from now on."""
        self._death = death

    def is_running(self, sandbox_id: str) -> bool:
        """Tell whether the daemon runs."""
        return sandbox_id in self._daemons

    async def create(self, launch: Launch) -> None:
        """Make the sandbox's directories and its token. Raises `BadRequest`, `DriverError`, `InsufficientStorage`."""
        image = launch.image
        await self._make(launch, (lambda: self._places.image(image.ref)) if image is not None else None)

    async def restore(self, launch: Launch, source: Path) -> None:
        """Make a sandbox from what `export` wrote. Raises `BadRequest`, `DriverError`, `InsufficientStorage`."""
        await self._make(launch, lambda: source)

    async def _make(self, launch: Launch, source: Callable[[], Path] | None) -> None:
        place = self._places.of(launch.id)

        def make(stop: threading.Event) -> None:
            self._check_mounts(launch)
            place.remove()  # what an attempt that was cut short left
            place.make()
            if source is not None:
                trees.unpack_file(source(), place.home, stop)
            self._own(launch, place)

        await self._whole(launch.id, "make the sandbox's directories", make)

    async def fork(self, source_id: str, launch: Launch) -> None:
        """Make a sandbox with the files of another. Raises `BadRequest`, `DriverError`, `InsufficientStorage`."""
        place, source = self._places.of(launch.id), self._places.of(source_id)

        def make(stop: threading.Event) -> None:
            place.make()
            trees.copy(source.home, place.home, stop)
            self._own(launch, place)

        await self._whole(launch.id, "copy the sandbox's files", make)

    async def _whole(self, sandbox_id: str, what: str, make: Callable[[threading.Event], None]) -> None:
        try:
            await _file_work(what, make)
        except BaseException:
            await asyncio.to_thread(self._places.of(sandbox_id).remove)
            raise

    def _check_mounts(self, launch: Launch) -> None:
        for mount in launch.mounts:
            if mount.path.startswith(HOME):
                continue
            # A link may lead where the name did not show.
            self._check_mount_path(os.path.realpath(mount.path))
            if os.path.lexists(mount.path) and not Path(mount.path).is_dir():
                raise BadRequest(f"volumes: {mount.path} is not a directory")
        workload = self._workload(launch)
        if workload is not None:
            check_mount_path(os.path.realpath(workload.pw_dir), "user", (self._places.root, self._places.sockets))

    def _workload(self, launch: Launch) -> pwd.struct_passwd | None:
        """Return the user that work is done as, None for our own. Raises `BadRequest`."""
        return check_user(launch.user, own=self.user) if launch.user and launch.user != self.user else None

    def _own(self, launch: Launch, place: Place) -> None:
        workload = self._workload(launch)
        if workload is not None:
            place.give_to(workload.pw_uid, workload.pw_gid)

    async def start(self, launch: Launch) -> Access:
        """Start the daemon and return once it answers. Raises `BadRequest`, `DriverError`."""
        await self.stop(launch.id, force=True)
        place = self._places.of(launch.id)
        try:
            async with self._starting:
                within = await asyncio.to_thread(self._prepare, launch, place)
                daemon = await Daemon.start(launch, place, within, self._children)
            self._supervise(daemon)
            return await daemon.access()
        except OSError as error:
            await asyncio.to_thread(self._leave, launch.id)
            raise DriverError(f"the sandbox's daemon did not start: {error}") from None
        except BaseException:
            await asyncio.to_thread(self._leave, launch.id)
            raise

    def _prepare(self, launch: Launch, place: Place) -> Surroundings:
        """Make what the daemon is started in."""
        home, mounts = place.home, list[tuple[str, str]]()
        workload = self._workload(launch)
        if workload is None:
            temporary = place.temporary_path()
        else:
            home, temporary = Path(workload.pw_dir), Path(_TEMPORARY.format(launch.id))
            mounts += [(str(place.home), str(home)), (str(place.temporary), str(temporary))]
        for mount in launch.mounts:
            source = self._volumes.source(mount)
            if mount.path.startswith(HOME):
                target = str(home / mount.path.removeprefix(HOME))
                if workload is None:
                    link_into_home(place.home, mount.path, source)
                    continue
            else:
                target = mount.path
            mounts.append((str(source), target))
        # Outer ones first; what is missing within them is made once they are there.
        mounts.sort(key=lambda each: each[1])
        targets = [Path(target) for _, target in mounts]
        self._points.claim(
            launch.id, [str(each) for each in targets if not any(outer in each.parents for outer in targets)]
        )
        groups = self._cgroups.make(launch.id)
        if self._cgroups.can_limit:
            self._limit(launch)
        return Surroundings(
            home=home,
            temporary=temporary,
            user=workload.pw_name if workload else None,
            cgroups=[str(each) for each in groups],
            mounts=mounts,
            entrypoint=launch.entrypoint,
            variables=redirected(self._options, launch.otel_endpoint) if launch.otel_endpoint else self._options,
        )

    def _limit(self, launch: Launch) -> None:
        wanted, machine = launch.resources or self._machine, self._machine
        self._cgroups.limit(
            launch.id,
            cpu=wanted.cpu if wanted.cpu < machine.cpu else None,
            memory=wanted.memory if wanted.memory < machine.memory else None,
        )

    async def stop(self, sandbox_id: str, *, force: bool) -> None:
        """End the daemon and all that descends from it; what is on disk stays."""
        daemon = self._daemons.pop(sandbox_id, None)
        if daemon is not None:
            daemon.stopping = True
            await asyncio.to_thread(self._cgroups.thaw, sandbox_id)
            await daemon.end(force=force)
            await asyncio.to_thread(self._leave, sandbox_id)

    def _leave(self, sandbox_id: str) -> None:
        """Give back what a sandbox has only while it runs."""
        self._cgroups.remove(sandbox_id)
        self._points.release(sandbox_id)

    async def delete(self, sandbox_id: str) -> None:
        """Remove all of a sandbox. Raises `DriverError`."""
        await self.stop(sandbox_id, force=False)
        await end_marked(mark(sandbox_id))
        await asyncio.to_thread(self._leave, sandbox_id)
        try:
            await asyncio.to_thread(self._places.of(sandbox_id).remove)
        except OSError as error:
            raise DriverError(f"cannot remove the sandbox's directories: {error}") from None

    async def present(self) -> list[str]:
        """Return the ids of all sandboxes that have a directory."""
        return await asyncio.to_thread(self._places.ids)

    async def logs(self, sandbox_id: str) -> str:
        """Return the end of the daemon's log. Raises `DriverError`."""
        try:
            return await asyncio.to_thread(self._places.of(sandbox_id).log_tail)
        except OSError as error:
            raise DriverError(f"cannot read the log of the sandbox's daemon: {error.strerror}") from None

    async def pause(self, sandbox_id: str) -> None:
        """Freeze a running sandbox by its control group. Raises `BadRequest`, `DriverError`."""
        if not self._cgroups.can_freeze:
            raise self.cannot("pause sandboxes on this machine: it can make no control groups")
        try:
            await asyncio.to_thread(self._cgroups.freeze, sandbox_id)
        except OSError as error:
            raise DriverError(f"cannot pause the sandbox: {error}") from None

    async def resume(self, sandbox_id: str) -> Access:
        """Let a frozen sandbox go on. Raises `DriverError`."""
        daemon = self._daemons.get(sandbox_id)
        if daemon is None:
            raise DriverError("the sandbox's daemon ended while it was paused")
        try:
            await asyncio.to_thread(self._cgroups.thaw, sandbox_id)
            return await daemon.access()
        except OSError as error:
            raise DriverError(f"cannot resume the sandbox: {error}") from None

    async def resize(self, launch: Launch, *, running: bool) -> None:
        """Change the limits of cpu and memory; the disk's is only recorded. Raises `BadRequest`, `DriverError`."""
        if not self._cgroups.can_limit:
            raise self.cannot("resize sandboxes on this machine: it can make no control groups")
        check_resources(launch.resources or self._machine, self._machine, can_limit=True)
        if running:
            try:
                await asyncio.to_thread(self._limit, launch)
            except OSError as error:
                raise DriverError(f"cannot resize the sandbox: {error}") from None

    async def export(self, sandbox_id: str, target: Path) -> None:
        """Write the home directory to a tar file. Raises `DriverError`, `InsufficientStorage`."""
        home = self._places.of(sandbox_id).home
        await _file_work("archive the sandbox's files", lambda stop: trees.pack_file(home, target, stop))

    async def snapshot(self, sandbox_id: str, ref: str) -> Image:
        """Make an image of the home directory: a tar file. Raises `DriverError`, `InsufficientStorage`."""
        home, target = self._places.of(sandbox_id).home, self._places.image(ref)
        size = await _file_work("copy the sandbox's files", lambda stop: trees.pack_file(home, target, stop))
        return Image(ref=ref, size=size / _GIB)

    async def remove_image(self, ref: str) -> None:
        """Remove an image. Raises `DriverError`."""
        await _file_work("remove the image", lambda _: self._places.remove_image(ref))

    async def make_volume(self, volume_id: str) -> None:
        """Make a volume: a directory. Raises `DriverError`, `InsufficientStorage`."""
        await _file_work("make the volume", lambda _: self._volumes.make(volume_id))

    async def remove_volume(self, volume_id: str) -> None:
        """Remove a volume and what is in it. Raises `DriverError`."""
        await _file_work("remove the volume", lambda _: self._volumes.remove(volume_id))

    async def recover(self, keep: Collection[str], frozen: Collection[str] = ()) -> Mapping[str, Access]:
        """Adopt the running daemons of the sandboxes in `keep`, frozen or not, end all others."""
        ids = await asyncio.to_thread(self._places.ids)
        found = await asyncio.gather(*(self._recover(each, keep=each in keep, thaw=each not in frozen) for each in ids))
        await asyncio.to_thread(self._cgroups.remove_all_but, self._daemons.keys())
        await asyncio.to_thread(self._points.release_all_but, self._daemons.keys())
        return {each.id: await each.access() for each in found if each is not None and each.id not in frozen}

    async def _recover(self, sandbox_id: str, *, keep: bool, thaw: bool) -> Daemon | None:
        place = self._places.of(sandbox_id)
        if thaw:
            await asyncio.to_thread(self._cgroups.thaw, sandbox_id)
        frozen = await asyncio.to_thread(self._cgroups.is_frozen, sandbox_id)
        daemon = await Daemon.adopt(sandbox_id, place, frozen=frozen) if keep else None
        if daemon is None:
            await asyncio.to_thread(self._cgroups.thaw, sandbox_id)
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
        await asyncio.to_thread(self._cgroups.thaw, daemon.id)
        await daemon.end(force=True)
        await asyncio.to_thread(self._leave, daemon.id)
        if self._death is not None:
            self._death(daemon.id, reason)


async def _file_work(what: str, work: Callable[[threading.Event], _R]) -> _R:
    """Do file work in a thread, which ends when nobody waits for it. Raises `DriverError`, `InsufficientStorage`."""
    stop = threading.Event()
    working = asyncio.get_running_loop().run_in_executor(None, work, stop)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(working, return_exceptions=True)
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientStorage(f"cannot {what}: the disk is full") from None
        raise DriverError(f"cannot {what}: {error}") from None


def _user() -> str:
    """Return the name of the user we run as; in a container it may have none, only a number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _machine(directory: Path) -> Resources:
    """Return what this machine has."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(directory).total
    return Resources(cpu=os.cpu_count() or 1, memory=max(1, memory // _GIB), disk=max(1, disk // _GIB))

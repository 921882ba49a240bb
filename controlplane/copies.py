"""What is made of a sandbox's files: a fork, a snapshot, an archive; and another size for it."""

import logging
import uuid
from typing import Any

import msgspec

from controlplane.archive import Archive
from controlplane.drivers.base import Ability
from controlplane.models import Record
from controlplane.sandboxes import Sandboxes, launch_of
from controlplane.snapshots import Snapshots
from controlplane.states import State
from controlplane.wishes import checked_name
from toolbox.errors import BadRequest, Conflict, ToolboxError
from toolbox.web.middleware import timestamp

log = logging.getLogger(__name__)

_ARCHIVED = (State.ARCHIVING, State.ARCHIVED, State.RESTORING)
"""States in which a sandbox's files may be in the archive alone."""


class Copies:
    """Copies sandboxes."""

    def __init__(self, sandboxes: Sandboxes, snapshots: Snapshots, archive: Archive) -> None:
        self._sandboxes = sandboxes
        self._steps = sandboxes.steps
        self._driver = sandboxes.driver
        self._snapshots = snapshots
        self._archive = archive

    @property
    def can_archive(self) -> bool:
        """Whether the driver can."""
        return Ability.ARCHIVE in self._driver.abilities

    def _check(self, ability: Ability, what: str) -> None:
        """Raise `BadRequest` for what the driver cannot do."""
        if ability not in self._driver.abilities:
            raise self._driver.cannot(what)

    async def fork(self, id_or_name: str, name: str | None) -> Record:
        """Make a sandbox with the files of another and start it. Raises `NotFound`, `Conflict`, `DriverError`."""
        self._check(Ability.FORK, "fork sandboxes")
        forked: list[Record] = []

        async def step(record: Record) -> Record:
            child_id, now = str(uuid.uuid4()), timestamp()
            child = msgspec.structs.replace(
                record,
                id=child_id,
                name=checked_name(name) if name else child_id,
                state=State.CREATING,
                created_at=now,
                updated_at=now,
                state_since=now,
                last_activity_at=now,
                signing_generation=0,
            )

            async def copy() -> Record:
                await self._steps.add(child)
                try:
                    await self._driver.fork(record.id, launch_of(child))
                except ToolboxError as error:
                    await self._sandboxes.clear(child, error.message)
                    raise
                forked.append(child)
                return child

            # Nobody else does anything to the child meanwhile.
            work = self._steps.hold(child.id, copy, f"fork {child.id}")
            return await self._meanwhile(record, State.FORKING, work)

        await self._steps.run(id_or_name, step, "fork")
        (child,) = forked

        async def start(record: Record) -> Record:
            return await self._sandboxes.guard(record, self._sandboxes.run(record, launch_of(record)))

        return await self._steps.run(child.id, start, "start")

    async def snapshot(self, id_or_name: str, name: str) -> Record:
        """Make a snapshot of a sandbox's files. Raises `NotFound`, `Conflict`, `BadRequest`, `DriverError`."""
        self._check(Ability.SNAPSHOT, "make snapshots of sandboxes")

        async def step(record: Record) -> Record:
            wanted = await self._snapshots.reserve(name, source_sandbox_id=record.id)

            async def copy() -> None:
                try:
                    image = await self._driver.snapshot(record.id, self._snapshots.ref_of(wanted))
                except ToolboxError as error:
                    await self._snapshots.give_up(wanted, error.message)
                    raise
                await self._snapshots.settle(
                    wanted,
                    state="active",
                    image=image,
                    entrypoint=record.entrypoint,
                    cpu=record.cpu,
                    memory=record.memory,
                    # Not its disk: where none can be limited it is the machine's, and could not be asked for.
                )

            return await self._meanwhile(record, State.SNAPSHOTTING, copy())

        return await self._steps.run(id_or_name, step, "snapshot")

    async def resize(self, id_or_name: str, *, cpu: int | None, memory: int | None, disk: int | None) -> Record:
        """Give a sandbox more: cpu and memory also while it runs, disk when it is stopped.

        Raises `NotFound`, `Conflict`, `BadRequest`, `DriverError`.
        """
        if any(each is not None and each < 1 for each in (cpu, memory, disk)):
            raise BadRequest("cpu, memory and disk must be at least 1")

        async def step(record: Record) -> Record:
            running = record.state is State.STARTED
            changes = {"cpu": cpu or record.cpu, "memory": memory or record.memory, "disk": disk or record.disk}
            if running and changes["disk"] != record.disk:
                raise BadRequest("disk: stop the sandbox first")
            for field in ("cpu", "memory", "disk") if running else ("disk",):
                if changes[field] < getattr(record, field):
                    raise BadRequest(f"{field}: it can only grow{' while the sandbox runs' if running else ''}")
            resized = msgspec.structs.replace(record, **changes)

            async def work() -> None:
                await self._driver.resize(launch_of(resized), running=running)

            return await self._meanwhile(record, State.RESIZING, work(), **changes)

        return await self._steps.run(id_or_name, step, "resize")

    async def archive(self, id_or_name: str) -> Record:
        """Begin to move the files of a stopped sandbox off this machine. Raises `NotFound`, `BadRequest`."""
        self._check(Ability.ARCHIVE, "archive sandboxes")

        async def first(record: Record) -> Record:
            if record.state is not State.STOPPED:
                raise BadRequest(f"sandbox {record.name} is {record.state}: only a stopped one can be archived")
            # A file that is there while archiving is whole: that is how it is known after a crash.
            await self._archive.forget(record.id)
            return await self._steps.move(record, State.ARCHIVING, backup_state="InProgress")

        return await self._steps.begin(id_or_name, first, self._finish_archive, "archive")

    async def _finish_archive(self, record: Record) -> Record:
        try:
            if not await self._archive.has(record.id):
                await self._driver.export(record.id, self._archive.file(record.id))
        except ToolboxError as error:
            return await self._steps.move(record, State.STOPPED, reason=error.message, backup_state="Error")
        # The archive is whole, and what is on this machine may be so no more.
        await self._discard(record)
        return await self._steps.move(record, State.ARCHIVED, backup_state="Completed", backup_created_at=timestamp())

    async def _discard(self, record: Record) -> None:
        """Remove an archived sandbox from this machine; what cannot be removed now is by the next start of either."""
        try:
            await self._driver.discard(record.id)
        except ToolboxError as error:
            fields = {"sandbox": record.id, "reason": error.message}
            log.warning("something of an archived sandbox stays", extra={"fields": fields})

    async def settle(self) -> None:
        """Finish what an earlier control plane left half done."""
        records = await self._steps.store.everything()
        await self._archive.keep({record.id for record in records if record.state in _ARCHIVED})
        present = await self._driver.present() if any(each.state is State.ARCHIVED for each in records) else []
        for record in records:
            if record.state is State.ARCHIVING:
                await self._steps.begin(record.id, self._same, self._finish_archive, "archive")
            elif record.state is State.RESTORING:
                await self._discard(record)
                await self._steps.move(record, State.ARCHIVED)
            elif record.state is State.ARCHIVED and record.id in present:
                await self._discard(record)

    @staticmethod
    async def _same(record: Record) -> Record:
        return record

    async def _meanwhile(self, record: Record, state: State, work: Any, **changes: Any) -> Record:
        """Await work that leaves the sandbox in the state it was in, and tell it meanwhile."""
        if record.state not in (State.STARTED, State.STOPPED):
            work.close()
            raise Conflict(f"sandbox {record.name} is {record.state}: it must be started or stopped")
        busy = await self._steps.move(record, state)
        try:
            await work
        except ToolboxError:
            await self._steps.move(busy, record.state, reason=record.error_reason)
            raise
        return await self._steps.move(busy, record.state, **changes)

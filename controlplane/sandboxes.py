"""The sandboxes: made, started, stopped, paused, changed and deleted, one step at a time each."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

import msgspec

from controlplane.archive import Archive
from controlplane.callers import act_as
from controlplane.drivers.base import Ability, Access, Driver, Launch, Network, Resources
from controlplane.egress.proxy import Egress
from controlplane.keys import SandboxKeys
from controlplane.listing import Filter, Listing
from controlplane.models import CreateSandbox, Record
from controlplane.snapshots import Snapshot, Snapshots, with_resources
from controlplane.states import State
from controlplane.steps import Steps
from controlplane.upstreams import Found, Upstream, Upstreams
from controlplane.volumes import Volumes, mounts_of
from controlplane.wishes import check_labels, destroy_time, minutes, new_record
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError, Unavailable

T = TypeVar("T")
log = logging.getLogger(__name__)

_INTERVALS = {
    "autostop": ("auto_stop_interval", 0),
    "autoarchive": ("auto_archive_interval", 0),
    "autodelete": ("auto_delete_interval", -1),
    "autopause": ("auto_pause_interval", 0),
}
"""Word in the URL -> field, least value."""
_INSTEAD = {"autostop": "auto_pause_interval", "autopause": "auto_stop_interval"}
"""What one of the two turns off."""
DRAIN_SECONDS = 20.0
"""How long a control plane that ends, and has others beside it, finishes what it has begun."""
Claim = Callable[[Record], Awaitable[Record | None]]
"""Returns a running sandbox that has become the one specified, or None."""


def launch_of(record: Record) -> Launch:
    """Return what a driver needs to know of a sandbox."""
    return Launch(
        id=record.id,
        env=record.env,
        image=record.image,
        user=record.user,
        resources=Resources(cpu=record.cpu, memory=record.memory, disk=record.disk),
        mounts=mounts_of(record.volumes),
        network=Network(
            block_all=record.network_block_all,
            allow_list=record.network_allow_list,
            domain_allow_list=record.domain_allow_list,
            proxy=record.outbound_proxy_url,
        ),
        entrypoint=record.entrypoint,
        otel_endpoint=record.otel_endpoint_override,
    )


class Sandboxes:
    """Every sandbox of this control plane."""

    def __init__(
        self,
        steps: Steps,
        driver: Driver,
        snapshots: Snapshots,
        volumes: Volumes,
        archive: Archive,
        upstreams: Upstreams,
        keys: SandboxKeys,
        egress: Egress,
    ) -> None:
        self.steps = steps
        self.driver = driver
        self._snapshots = snapshots
        self._volumes = volumes
        self._archive = archive
        self._upstreams = upstreams
        self._keys = keys
        self._egress = egress
        self._claim: Claim | None = None

    def offer(self, claim: Claim | None) -> None:
        """From now on let `claim` serve what is created, where it has something that fits."""
        self._claim = claim

    async def __aenter__(self) -> Self:
        self.driver.watch(self._died)
        if self.driver.replicated:
            self._upstreams.find_by(self._find)
            self.steps.store.follow(self._close)
        self.steps.tasks.start(self.steps.write_activity_forever(), "activity")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what is under way, and stop every sandbox that does not run without its control plane."""
        if self.driver.replicated:
            await self.steps.finish(DRAIN_SECONDS)
        await self.steps.tasks.close()
        await self.steps.write_activity()
        if self.driver.replicated:
            return
        running = [
            record for record in await self.steps.store.everything() if record.state in (State.STARTED, State.PAUSED)
        ]
        await asyncio.gather(*map(self._put_down, running), return_exceptions=True)

    def _find(self, sandbox_id: str) -> Found | None:
        """Return the daemon of a sandbox that another replica may have started."""
        access, record = self.driver.reach(sandbox_id), self.steps.store.peek(sandbox_id)
        if access is None or record is None:
            return None
        return Found(access, record.organization_id, self._signing_key(record))

    def _close(self, before: Record | None, after: Record | None) -> None:
        """Let no more requests through to what another replica has ended, or started anew (a follower of the store)."""
        record = after or before
        if record is None or not self._upstreams.holds(record.id):
            return
        # That it was stopped and started again may come as one piece of news.
        if after is None or after.state is not State.STARTED or self._is_of_before(after):
            self.steps.tasks.start(self._upstreams.close(record.id), f"end of connections to {record.id}")

    def _is_of_before(self, record: Record) -> bool:
        return self._upstreams.instance_of(record.id) != record.instance

    async def create(self, wanted: CreateSandbox) -> Record:
        """Make a sandbox and start it. Raises `BadRequest`, `NotFound`, `Conflict` (the name), `DriverError`."""
        if wanted.auto_delete_interval is None and Ability.KEEP not in self.driver.abilities:
            wanted = msgspec.structs.replace(wanted, auto_delete_interval=0)
        if wanted.auto_archive_interval is None and Ability.ARCHIVE not in self.driver.abilities:
            wanted = msgspec.structs.replace(wanted, auto_archive_interval=0)
        self.driver.check(wanted)
        snapshot = await self._snapshots.usable(wanted.snapshot)
        resources = self.driver.check(with_resources(wanted, snapshot))
        record = await self.specify(wanted, resources, snapshot)
        claimed = await self._claim(record) if self._claim is not None else None
        return claimed or await self.make(record)

    async def specify(self, wanted: CreateSandbox, resources: Resources, snapshot: Snapshot) -> Record:
        """Return the record of a sandbox about to be made from a snapshot. Raises `BadRequest`, `NotFound`."""
        user = wanted.user or (snapshot.image.user if snapshot.image is not None else None) or self.driver.user
        record = new_record(wanted, resources, snapshot=snapshot.name, user=user)
        volumes = await self._volumes.resolve(wanted.volumes or [])
        secrets = await self._egress.check(wanted.secrets or [], record.env, proxy=wanted.outbound_proxy_url)
        return msgspec.structs.replace(
            record,
            image=snapshot.image,
            entrypoint=snapshot.entrypoint,
            volumes=volumes,
            secrets=secrets,
            network_block_all=wanted.network_block_all or False,
            network_allow_list=wanted.network_allow_list,
            domain_allow_list=wanted.domain_allow_list,
            outbound_proxy_url=wanted.outbound_proxy_url,
            otel_endpoint_override=wanted.otel_endpoint_override or None,
        )

    async def make(self, record: Record) -> Record:
        """Make a specified sandbox and start it; if that fails nothing stays. Raises `Conflict`, `DriverError`."""

        async def work() -> Record:
            added = await self.steps.add(record)
            try:
                return await self.bring_up(added)
            except ToolboxError as error:
                # Half a sandbox helps nobody: the client gets the reason.
                await self.clear(added, error.message)
                raise

        return await self.steps.hold(record.id, work, f"create {record.id}")

    async def clear(self, record: Record, reason: str) -> None:
        """Remove a sandbox that could not be made; one that cannot even be removed now stays to be deleted."""
        try:
            await self.driver.delete(record.id)
        except ToolboxError:
            await self.steps.move(record, State.ERROR, reason=reason)
            return
        await self.steps.forget(record)

    async def bring_up(self, record: Record) -> Record:
        """Make what lasts of a sandbox that is being created, and start it. Raises `DriverError`."""
        launch = launch_of(record)
        await self.driver.create(launch)
        return await self.run(record, launch)

    async def get(self, id_or_name: str) -> Record:
        """Return a sandbox. Raises `NotFound`."""
        return await self.steps.get(id_or_name)

    async def seen(self, id_or_name: str) -> Record:
        """Return a sandbox without its latest activity, for those who only look. Raises `NotFound`."""
        return await self.steps.seen(id_or_name)

    def touch(self, sandbox_id: str) -> str:
        """Note that the sandbox is in use, and return the time."""
        return self.steps.touch(sandbox_id)

    async def touch_running(self) -> None:
        """Note that every sandbox that runs is in use."""
        for record in await self.steps.store.everything():
            if record.state is State.STARTED:
                self.touch(record.id)

    async def page(self, listing: Listing) -> tuple[list[Record], str | None]:
        """Return one page of a list, and the cursor of the next one if there is more."""
        await self.steps.write_activity()
        records = await self.steps.store.page(msgspec.structs.replace(listing, limit=listing.limit + 1))
        if len(records) <= listing.limit:
            return records, None
        del records[listing.limit :]
        return records, listing.position(records[-1]).cursor()

    async def numbered_page(self, wanted: Filter, *, page: int, limit: int) -> tuple[list[Record], int]:
        """Return one page of the newest sandboxes first, and how many there are in all."""
        await self.steps.write_activity()
        listing = Listing(filter=wanted, sort="created_at", descending=True, limit=limit)
        store = self.steps.store
        return await store.page(listing, offset=(page - 1) * limit), await store.count(wanted)

    async def start(self, id_or_name: str) -> Record:
        """Start a stopped or archived sandbox, or let a paused one go on; a running one stays as it is.

        Raises `NotFound`, `Conflict`, `DriverError`.
        """

        async def step(record: Record) -> Record:
            if record.state is State.STARTED:
                return record
            if record.state is State.PAUSED:
                resuming = await self.steps.move(record, State.RESUMING)
                return await self.guard(resuming, self._resume(resuming))
            if record.state in (State.ARCHIVED, State.RESTORING):
                return await self._restore(record)
            starting = await self.steps.move(record, State.STARTING)
            return await self.guard(starting, self.run(starting, launch_of(record)))

        return await self.steps.run(id_or_name, step, "start")

    async def _resume(self, record: Record) -> Record:
        await self.open(record, await self.driver.resume(record.id))
        await self.outfit(record)
        return await self.steps.move(record, State.STARTED, last_activity_at=self.touch(record.id))

    async def _restore(self, record: Record) -> Record:
        restoring = await self.steps.move(record, State.RESTORING)
        launch = launch_of(restoring)
        try:
            await self.driver.restore(launch, self._archive.file(record.id))
        except ToolboxError as error:
            await self.steps.move(restoring, State.ARCHIVED, reason=error.message)
            raise
        started = await self.guard(restoring, self.run(restoring, launch))
        await self._archive.forget(record.id)
        return started

    async def guard(self, record: Record, work: Awaitable[T]) -> T:
        """Await work that starts or stops a sandbox; its failure is put into the record too. Raises what it raises."""
        try:
            found = await work
        except ToolboxError as error:
            await self.steps.move(record, State.ERROR, reason=error.message, recoverable=True)
            raise
        return found

    async def recover(self, id_or_name: str) -> Record:
        """Start a sandbox that is in error. Raises `NotFound`, `BadRequest`, `DriverError`."""
        record = await self.get(id_or_name)
        if record.state is not State.ERROR or not record.recoverable:
            raise BadRequest(f"sandbox {record.name} is {record.state}: it cannot be recovered")
        return await self.start(record.id)

    async def stop(self, id_or_name: str, *, force: bool) -> Record:
        """End all that runs in a sandbox and keep its files; an ephemeral one goes. Raises `NotFound`, `Conflict`."""

        async def step(record: Record) -> Record:
            if record.state is State.STOPPED:
                return record
            stopping = await self.steps.move(record, State.STOPPING)
            await self._upstreams.close(record.id)
            # It may still run: recovering it starts it anew, stopping it can be tried again.
            await self.guard(stopping, self.driver.stop(record.id, force=force))
            stopped = await self.steps.move(stopping, State.STOPPED)
            return await self.destroy(stopped) if record.auto_delete_interval == 0 else stopped

        return await self.steps.run(id_or_name, step, "stop")

    async def pause(self, id_or_name: str) -> Record:
        """Freeze a running sandbox. Raises `NotFound`, `Conflict`, `BadRequest`, `DriverError`."""
        if Ability.PAUSE not in self.driver.abilities:
            raise self.driver.cannot("pause sandboxes")

        async def step(record: Record) -> Record:
            if record.state is State.PAUSED:
                return record
            pausing = await self.steps.move(record, State.PAUSING)
            try:
                await self.driver.pause(record.id)
            except ToolboxError:
                await self.steps.move(pausing, State.STARTED)
                raise
            await self._upstreams.close(record.id)
            return await self.steps.move(pausing, State.PAUSED)

        return await self.steps.run(id_or_name, step, "pause")

    async def delete(self, id_or_name: str) -> Record:
        """Remove a sandbox with all that is in it. Raises `NotFound`, `DriverError`."""
        return await self.steps.run(id_or_name, self.destroy, "delete")

    async def set_labels(self, id_or_name: str, labels: dict[str, str]) -> Record:
        """Replace all labels. Raises `NotFound`, `BadRequest`."""
        check_labels(labels)
        return await self.steps.change(id_or_name, labels=labels)

    async def set_interval(self, id_or_name: str, kind: str, value: int) -> Record:
        """Change an automatic interval; an idle sandbox is stopped or paused, as was said last.

        Raises `NotFound`, `BadRequest`.
        """
        field, least = _INTERVALS[kind]
        if kind == "autopause" and value and Ability.PAUSE not in self.driver.abilities:
            raise self.driver.cannot("pause sandboxes")
        if kind == "autoarchive" and value and Ability.ARCHIVE not in self.driver.abilities:
            raise self.driver.cannot("archive sandboxes")
        if kind == "autodelete" and value and Ability.KEEP not in self.driver.abilities:
            raise self.driver.cannot("keep what is stopped")
        changes = {field: minutes(kind, value, least=least)}
        if value > 0 and (other := _INSTEAD.get(kind)) is not None:
            changes[other] = 0
        return await self.steps.change(id_or_name, **changes)

    async def set_ttl(self, id_or_name: str, value: int) -> Record:
        """Change how long the sandbox may live, counted from its creation. Raises `NotFound`, `BadRequest`."""
        record = await self.get(id_or_name)
        return await self.steps.change(
            record.id, auto_destroy_at=destroy_time(record.created_at, minutes("ttl", value))
        )

    async def set_public(self, id_or_name: str, *, public: bool) -> Record:
        """Change whether previews need no token. Raises `NotFound`."""
        return await self.steps.change(id_or_name, public=public)

    async def signing_key(self, id_or_name: str) -> str:
        """Return the key that file URLs are signed with. Raises `NotFound`."""
        return self._signing_key(await self.get(id_or_name))

    async def rotate_signing_key(self, id_or_name: str) -> str:
        """Return a new key; what was signed with the one before is good no more. Raises `NotFound`."""

        async def step(record: Record) -> Record:
            rotated = msgspec.structs.replace(record, signing_generation=record.signing_generation + 1)
            rotated = await self.steps.store.save(rotated)
            self._upstreams.accept_signatures(record.id, self._signing_key(rotated))
            return rotated

        return self._signing_key(await self.steps.run(id_or_name, step, "rotate"))

    def _signing_key(self, record: Record) -> str:
        return self._keys.signing_key(record.id, record.signing_generation)

    async def upstream(self, sandbox_id: str) -> Upstream:
        """Return the daemon of a sandbox. Raises `NotFound`, `Conflict` (not running), `Unavailable` (not yet)."""
        found = self._upstreams.get(sandbox_id)
        if found is not None:
            return found
        record = await self.steps.store.find(sandbox_id)
        # Another replica may have started it this moment.
        found = self._upstreams.get(sandbox_id)
        if found is not None:
            return found
        if record is None:
            raise NotFound(f"sandbox not found: {sandbox_id}")
        text = f"sandbox {record.name} is {record.state}"
        if record.state in (State.CREATING, State.STARTING, State.RESUMING, State.RESTORING):
            raise Unavailable(text)
        raise Conflict(f"{text}: {record.error_reason}" if record.error_reason else text)

    async def run(self, record: Record, launch: Launch) -> Record:
        """Start the daemon of a sandbox and let requests through to it. Raises `DriverError`."""
        outfit = await self._egress.variables(record)
        started = await self.driver.start(msgspec.structs.replace(launch, env={**launch.env, **outfit}))
        return await self.connect(record, started)

    async def connect(self, record: Record, access: Access) -> Record:
        """Let requests through to a daemon that has come up, and say that it has. Raises `Conflict`."""
        await self.open(record, access)
        return await self.steps.move(
            record,
            State.STARTED,
            daemon_version=access.daemon_version,
            instance=access.instance,
            last_activity_at=self.touch(record.id),
        )

    async def open(self, record: Record, access: Access) -> None:
        """Let requests through to a daemon."""
        await self._upstreams.open(
            record.id, access, organization=record.organization_id, signing_key=self._signing_key(record)
        )

    async def destroy(self, record: Record) -> Record:
        """Remove all of a sandbox (a step). Raises `DriverError`."""
        destroying = record if record.state is State.DESTROYING else await self.steps.move(record, State.DESTROYING)
        await self._upstreams.close(record.id)
        await self.driver.delete(record.id)
        await self._archive.forget(record.id)
        return await self.steps.forget(destroying)

    def _died(self, sandbox_id: str, reason: str) -> None:
        self.steps.tasks.start(self._record_death(sandbox_id, reason), f"death of {sandbox_id}")

    async def _record_death(self, sandbox_id: str, reason: str) -> None:
        act_as(None)  # whoever started it did not do this

        async def step(record: Record) -> Record:
            if record.state is not State.STARTED or self.driver.is_running(sandbox_id):
                return record
            await self._upstreams.close(sandbox_id)
            log.warning("sandbox died", extra={"fields": {"sandbox": sandbox_id, "reason": reason}})
            return await self.steps.move(record, State.ERROR, reason=reason, recoverable=True)

        try:
            await self.steps.run(sandbox_id, step, "death of")
        except NotFound:
            return
        except ToolboxError as error:
            # Whoever saw it looks again.
            fields = {"sandbox": sandbox_id, "reason": error.message}
            log.warning("the death of a sandbox cannot be recorded", extra={"fields": fields})

    async def outfit(self, record: Record) -> None:
        """Tell a sandbox that ran on where the egress proxy is now."""
        upstream = self._upstreams.get(record.id)
        try:
            outfit = await self._egress.variables(record)
            if outfit and upstream is not None:
                await upstream.set_environment(outfit)
        except ToolboxError as error:
            fields = {"sandbox": record.id, "reason": error.message}
            log.warning("a sandbox cannot use its secrets", extra={"fields": fields})

    async def _put_down(self, record: Record) -> None:
        await self._upstreams.close(record.id)
        await self.driver.stop(record.id, force=False)
        await self.steps.move(record, State.STOPPED)

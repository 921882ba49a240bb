"""Snapshots: what sandboxes are made from. There is always the driver's default one."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

import msgspec

from controlplane.builds import Build, Builds
from controlplane.drivers.base import Driver
from controlplane.models import (
    DEFAULT_SNAPSHOT,
    EVERYBODY,
    BuildInfo,
    CreateSandbox,
    CreateSnapshot,
    Image,
    Record,
    SnapshotDto,
    SnapshotQuery,
    organization,
)
from controlplane.states import State
from controlplane.store import Collection, Repository
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError
from toolbox.lifetime import TaskSet
from toolbox.web.middleware import timestamp

log = logging.getLogger(__name__)

MAX_LIMIT = 200
_KEPT = timedelta(days=7)
"""How long an image is found again that was built and that nothing is made of any more."""
_USED_EVERY = timedelta(seconds=10)
"""How often the time of last use is written at most."""
_MAKING = frozenset({"pending", "pulling", "building"})
_ORDERS = {"name": "name", "state": "state", "createdAt": "created_at", "lastUsedAt": "last_used_at"}
"""What a list can be sorted by -> field."""


class Snapshot(msgspec.Struct, kw_only=True, frozen=True):
    """A snapshot as it is remembered. Times are RFC 3339 in UTC."""

    id: str
    name: str
    organization_id: str = msgspec.field(default_factory=organization)
    general: bool = False
    """It is everybody's, and cannot be removed."""
    state: str = "active"
    """building, pending, pulling, active, inactive, error, build_failed or removing."""
    image_name: str | None = None
    image: Image | None = None
    """What it is, as the driver has it; None is the driver's default."""
    entrypoint: list[str] = []
    cpu: int = 0
    gpu: int = 0
    memory: int = 0
    disk: int = 0
    """GiB; 0 leaves it to the driver, as with cpu and memory."""
    error_reason: str | None = None
    build_info: BuildInfo | None = None
    build_ref: str | None = None
    """Which of `Builds` makes its image; None: it was made of a sandbox, or is the default one."""
    region_id: str | None = None
    source_sandbox_id: str | None = None
    created_at: str
    updated_at: str
    last_used_at: str | None = None


class _Used(NamedTuple):
    """Names of images and builds."""

    by_snapshots: set[str]
    by_sandboxes: set[str]


class Snapshots:
    """All snapshots."""

    def __init__(self, store: Repository, driver: Driver, builds: Builds) -> None:
        self._known: Collection[Snapshot] = store.collection("snapshot", Snapshot)
        self._store = store
        self._driver = driver
        self._builds = builds
        self._tasks = TaskSet()
        self._making: dict[str, asyncio.Task[None]] = {}
        self._noting: set[str] = set()
        """Snapshots whose use is being written."""

    async def __aenter__(self) -> Self:
        if await self._known.find(DEFAULT_SNAPSHOT) is None:
            now = timestamp()
            with suppress(Conflict):  # another replica was faster
                await self._known.add(
                    Snapshot(
                        id=str(uuid.uuid4()),
                        name=DEFAULT_SNAPSHOT,
                        organization_id=EVERYBODY,
                        general=True,
                        created_at=now,
                        updated_at=now,
                    )
                )
        if not self._driver.replicated:
            await self.go_on()
        return self

    async def go_on(self) -> None:
        """Do what an earlier control plane left half done."""
        for each in await self._known.all():
            if each.id not in self._making:
                await self._go_on(each)

    async def __aexit__(self, *_: object) -> None:
        """Stop making; what is not finished begins anew with the next control plane."""
        await self._tasks.close()

    async def create(self, wanted: CreateSnapshot) -> Snapshot:
        """Begin to make a snapshot of an image. Raises `BadRequest`, `Conflict` (the name)."""
        if not wanted.name.strip():
            raise BadRequest("name: must not be empty")
        if (wanted.image_name is None) == (wanted.build_info is None):
            raise BadRequest("imageName, buildInfo: one of them, and not both")
        if wanted.sandbox_class not in (None, "container"):
            raise BadRequest(f"sandboxClass: there is only 'container', not {wanted.sandbox_class!r}")
        self._check_resources(wanted)
        snapshot_id = str(uuid.uuid4())
        if wanted.build_info is not None:
            build = await self._builds.plan(wanted.build_info)
        else:
            build = await self._builds.plan_pull(wanted.image_name or "", f"image-{snapshot_id}")
        now = timestamp()
        snapshot = Snapshot(
            id=snapshot_id,
            name=wanted.name,
            # Clients that hear "pending" do not read the log before they have asked again.
            state="pending" if self._builds.busy else _working(built=wanted.build_info is not None),
            image_name=wanted.image_name,
            build_ref=build.id,
            build_info=build.info if wanted.build_info is not None else None,
            entrypoint=wanted.entrypoint or [],
            cpu=wanted.cpu or 0,
            memory=wanted.memory or 0,
            disk=wanted.disk or 0,
            region_id=wanted.region_id,
            created_at=now,
            updated_at=now,
        )
        try:
            await self._known.add(snapshot)
        except Conflict:
            if wanted.build_info is None:
                await self._builds.forget(build.id)
            raise
        self._make(snapshot, build)
        return snapshot

    def _check_resources(self, wanted: CreateSnapshot) -> None:
        """Raise `BadRequest` for what sandboxes made from the snapshot could not have."""
        for name, value in (("cpu", wanted.cpu), ("memory", wanted.memory), ("disk", wanted.disk)):
            if value is not None and value < 1:
                raise BadRequest(f"{name}: must be at least 1")
        fields = {name: getattr(wanted, name) for name in ("cpu", "gpu", "gpu_type", "memory", "disk")}
        self._driver.check(CreateSandbox(**fields))

    def _make(self, snapshot: Snapshot, build: Build) -> None:
        task = self._tasks.start(self._finish(snapshot, build), f"snapshot {snapshot.id}")
        self._making[snapshot.id] = task
        task.add_done_callback(lambda _: self._making.pop(snapshot.id, None))

    async def _finish(self, snapshot: Snapshot, build: Build) -> None:
        """Wait for the image of a snapshot, and remember what became of it."""
        built = snapshot.build_info is not None
        try:
            async with self._builds.job(build) as job:
                await job.begun.wait()
                snapshot = await self.settle(snapshot, state=_working(built=built))
                image = await job.image()
        except ToolboxError as error:
            await self.settle(snapshot, state="build_failed" if built else "error", error_reason=error.message)
            return
        await self.settle(snapshot, state="active", image=image, error_reason=None)

    async def _go_on(self, snapshot: Snapshot) -> None:
        """Do what an earlier control plane left half done."""
        if snapshot.state == "removing":
            await self._discard(snapshot)
        elif snapshot.state in _MAKING and snapshot.build_ref is not None:
            build = await self._builds.find(snapshot.build_ref)
            if build is not None:
                self._make(snapshot, build)
            else:
                await self.settle(snapshot, state="error", error_reason="what it is made of is forgotten")
        elif snapshot.state in _MAKING:
            # It was to be made of a sandbox; who asked for it was told nothing, or an error.
            with suppress(ToolboxError):
                await self.discard(snapshot)

    async def get(self, id_or_name: str) -> Snapshot:
        """Return a snapshot. Raises `NotFound`."""
        found = await self._known.find(id_or_name)
        if found is None or found.state == "removing":
            raise NotFound(f"snapshot not found: {id_or_name}")
        return found

    async def page(self, query: SnapshotQuery) -> tuple[list[Snapshot], int]:
        """Return one page of snapshots, and how many there are in all. Raises `BadRequest`."""
        if query.page < 1 or not 1 <= query.limit <= MAX_LIMIT:
            raise BadRequest(f"page: must be at least 1; limit: must be from 1 to {MAX_LIMIT}")
        field, order = _ORDERS.get(query.sort or "createdAt"), query.order or "desc"
        if field is None or order not in ("asc", "desc"):
            raise BadRequest(f"sort: one of {', '.join(_ORDERS)}; order: asc or desc")
        found = [
            each
            for each in await self._known.all()
            if each.state != "removing"
            and (query.name or "").lower() in each.name.lower()
            and query.source_sandbox_id in (None, each.source_sandbox_id)
        ]
        found.sort(key=lambda each: (getattr(each, field) or "", each.id), reverse=order == "desc")
        start = (query.page - 1) * query.limit
        return found[start : start + query.limit], len(found)

    async def usable(self, id_or_name: str | None) -> Snapshot:
        """Return the snapshot that a new sandbox is to be made from. Raises `NotFound`, `BadRequest`."""
        found = await self.get(id_or_name or DEFAULT_SNAPSHOT)
        if found.state != "active":
            raise BadRequest(f"snapshot {found.name} is {found.state}: {found.error_reason or 'it must be active'}")
        await self._note_use(found)
        return found

    async def _note_use(self, snapshot: Snapshot) -> None:
        """Write the time of last use now and then: once, however many sandboxes are made at that moment."""
        before = snapshot.last_used_at is not None and datetime.fromisoformat(snapshot.last_used_at)
        if snapshot.id in self._noting or (before and datetime.now(UTC) - before <= _USED_EVERY):
            return
        self._noting.add(snapshot.id)
        try:
            await self._known.save(msgspec.structs.replace(snapshot, last_used_at=timestamp()))
        except Conflict:
            log.debug("others note the use of a snapshot too", extra={"fields": {"snapshot": snapshot.id}})
        finally:
            self._noting.discard(snapshot.id)

    async def reserve(self, name: str, *, source_sandbox_id: str) -> Snapshot:
        """Remember a snapshot that is about to be made of a sandbox. Raises `Conflict`, `BadRequest`."""
        if not name.strip():
            raise BadRequest("name: must not be empty")
        now = timestamp()
        wanted = Snapshot(
            id=str(uuid.uuid4()),
            name=name,
            state="building",
            source_sandbox_id=source_sandbox_id,
            created_at=now,
            updated_at=now,
        )
        await self._known.add(wanted)
        return wanted

    async def settle(self, snapshot: Snapshot, **changes: object) -> Snapshot:
        """Remember what became of a snapshot."""
        changed = msgspec.structs.replace(snapshot, updated_at=timestamp(), **changes)
        await self._known.save(changed)
        return changed

    async def activate(self, id_or_name: str) -> Snapshot:
        """Let sandboxes be made from a snapshot again. Raises `NotFound`, `Conflict`."""
        return await self._switch(id_or_name, "inactive", "active")

    async def deactivate(self, id_or_name: str) -> Snapshot:
        """Let no sandbox be made from a snapshot until it is activated. Raises `NotFound`, `Conflict`."""
        return await self._switch(id_or_name, "active", "inactive")

    async def _switch(self, id_or_name: str, source: str, target: str) -> Snapshot:
        found = await self.get(id_or_name)
        if found.state == target:
            return found
        if found.state != source or found.general:
            raise Conflict(f"snapshot {found.name} is {found.state}: it cannot become {target}")
        return await self.settle(found, state=target)

    async def remove(self, id_or_name: str) -> None:
        """Remove a snapshot; sandboxes made from it stay, and its image as long as they do.

        Raises `NotFound`, `Conflict`.
        """
        found = await self.get(id_or_name)
        if found.general:
            raise Conflict(f"snapshot {found.name} is everybody's: it cannot be removed")
        making = self._making.get(found.id)
        if making is not None:
            making.cancel()
            await asyncio.wait([making])
            found = await self.get(found.id)
        # Its name is free from now on.
        await self._discard(await self.settle(found, state="removing", name=found.id))

    async def give_up(self, snapshot: Snapshot, reason: str) -> None:
        """Remove a snapshot that could not be made of a sandbox; what cannot be removed now stays to be removed."""
        try:
            await self.discard(snapshot)
        except ToolboxError:
            half = Image(ref=self.ref_of(snapshot))
            await self.settle(snapshot, state="error", image=half, error_reason=reason)

    async def discard(self, snapshot: Snapshot) -> None:
        """Remove what there is of a snapshot that was being made of a sandbox. Raises `DriverError`."""
        await self._driver.remove_image(self.ref_of(snapshot))
        await self._known.remove(snapshot.id)

    @staticmethod
    def ref_of(snapshot: Snapshot) -> str:
        """Return what the driver is to call the image of a snapshot of a sandbox."""
        return f"snapshot-{snapshot.id}"

    def watch(self, record: Record, _: State | None) -> None:
        """Remove what the last sandbox made from it leaves of a removed snapshot (a watcher of sandboxes)."""
        if record.state is State.DESTROYED and record.image is not None:
            self._tasks.start(self._discard_all(record.image.ref), "images nobody uses")

    async def _discard_all(self, ref: str) -> None:
        for each in await self._known.all():
            if each.state == "removing" and each.image is not None and each.image.ref == ref:
                await self._discard(each)

    async def _discard(self, snapshot: Snapshot) -> None:
        """Remove the image of a removed snapshot, unless something is still made of it."""
        ref = snapshot.image.ref if snapshot.image is not None else None
        used = await self._used(but=snapshot)
        if ref is not None and ref in used.by_sandboxes and ref not in used.by_snapshots:
            return  # until the last of them is gone
        if ref is not None and ref not in used.by_snapshots:
            try:
                await self._driver.remove_image(ref)
            except ToolboxError as error:
                log.warning("an image cannot be removed", extra={"fields": {"image": ref, "reason": error.message}})
                return
        if snapshot.build_ref is not None and snapshot.build_ref not in used.by_snapshots | used.by_sandboxes:
            await self._builds.forget(snapshot.build_ref)
        await self._known.remove(snapshot.id)

    async def _used(self, but: Snapshot | None = None) -> _Used:
        """Return the images and builds that something is made of."""
        by_snapshots: set[str] = set()
        by_sandboxes: set[str] = set()
        for each in await self._known.all():
            if each.state != "removing" and (but is None or each.id != but.id):
                by_snapshots |= {each.build_ref or "", each.image.ref if each.image is not None else ""}
        for record in await self._store.everything():
            by_sandboxes.add(record.image.ref if record.image is not None else "")
            by_sandboxes.add(record.build_info.snapshot_ref if record.build_info is not None else "")
        return _Used(by_snapshots - {""}, by_sandboxes - {""})

    async def tidy_daily(self) -> None:
        """Remove every day what was built and is of no use any more, for ever."""
        while True:
            before = (datetime.now(UTC) - _KEPT).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            used = await self._used()
            await self._builds.tidy(keep=used.by_snapshots | used.by_sandboxes, before=before)
            await asyncio.sleep(timedelta(days=1).total_seconds())

    async def read_log(self, id_or_name: str, *, follow: bool) -> AsyncIterator[bytes]:
        """Return the log of how a snapshot's image was made. Raises `NotFound` where none was made."""
        found = await self.get(id_or_name)
        if found.build_ref is None:
            raise NotFound(f"snapshot {found.name} was not built: there is no log")
        return self._builds.read_log(found.build_ref, follow=follow)

    def seen(self, snapshot: Snapshot) -> SnapshotDto:
        """Return a snapshot as clients see it; resources are those that its sandboxes get."""
        default = self._driver.check(CreateSandbox())
        return SnapshotDto(
            id=snapshot.id,
            organization_id=snapshot.organization_id,
            general=snapshot.general,
            name=snapshot.name,
            image_name=snapshot.image_name,
            state=snapshot.state,
            size=snapshot.image.size if snapshot.image is not None else None,
            entrypoint=snapshot.entrypoint or (snapshot.image.entrypoint if snapshot.image is not None else None),
            cpu=snapshot.cpu or default.cpu,
            gpu=snapshot.gpu,
            mem=snapshot.memory or default.memory,
            disk=snapshot.disk or default.disk,
            error_reason=snapshot.error_reason,
            created_at=snapshot.created_at,
            updated_at=snapshot.updated_at,
            last_used_at=snapshot.last_used_at,
            source_sandbox_id=snapshot.source_sandbox_id,
            region_ids=[snapshot.region_id] if snapshot.region_id else [],
            sandbox_class="container",
            build_info=snapshot.build_info or msgspec.UNSET,
            ref=snapshot.image.ref if snapshot.image is not None else msgspec.UNSET,
        )


def _working(*, built: bool) -> str:
    return "building" if built else "pulling"


def of_build(build: Build) -> Snapshot:
    """Return what a sandbox is made from when its image is built for it: a snapshot without a name of its own."""
    return Snapshot(
        id=build.id,
        name=build.id,
        image=build.image,
        build_ref=build.id,
        build_info=build.info,
        created_at=build.created_at,
        updated_at=build.updated_at,
    )


def with_resources(wanted: CreateSandbox, snapshot: Snapshot) -> CreateSandbox:
    """Return a wish completed by the resources of its snapshot."""
    fields = ("cpu", "memory", "disk")
    missing = {
        name: getattr(snapshot, name) for name in fields if not getattr(wanted, name) and getattr(snapshot, name)
    }
    return msgspec.structs.replace(wanted, **missing)

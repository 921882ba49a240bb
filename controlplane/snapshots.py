"""Snapshots: what sandboxes are made from. There is always the driver's default one."""

import logging
import uuid
from typing import Self

import msgspec

from controlplane.drivers.base import Driver
from controlplane.models import DEFAULT_SNAPSHOT, EVERYBODY, BuildInfo, Image, organization
from controlplane.store import Collection, Repository
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError
from toolbox.web.middleware import timestamp

log = logging.getLogger(__name__)


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
    source_sandbox_id: str | None = None
    created_at: str
    updated_at: str
    last_used_at: str | None = None


class Snapshots:
    """All snapshots."""

    def __init__(self, store: Repository, driver: Driver) -> None:
        self._known: Collection[Snapshot] = store.collection("snapshot", Snapshot)
        self._driver = driver

    async def __aenter__(self) -> Self:
        if await self._known.find(DEFAULT_SNAPSHOT) is None:
            now = timestamp()
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
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    async def get(self, id_or_name: str) -> Snapshot:
        """Return a snapshot. Raises `NotFound`."""
        found = await self._known.find(id_or_name)
        if found is None:
            raise NotFound(f"snapshot not found: {id_or_name}")
        return found

    async def usable(self, id_or_name: str | None) -> Snapshot:
        """Return the snapshot that a new sandbox is to be made from. Raises `NotFound`, `BadRequest`."""
        found = await self.get(id_or_name or DEFAULT_SNAPSHOT)
        if found.state != "active":
            raise BadRequest(f"snapshot {found.name} is {found.state}: {found.error_reason or 'it must be active'}")
        await self._known.save(msgspec.structs.replace(found, last_used_at=timestamp()))
        return found

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

    async def remove(self, id_or_name: str) -> None:
        """Remove a snapshot; sandboxes made from it stay. Raises `NotFound`, `Conflict`."""
        found = await self.get(id_or_name)
        if found.general:
            raise Conflict(f"snapshot {found.name} is everybody's: it cannot be removed")
        await self.settle(found, state="removing")
        if found.image is not None:
            await self._driver.remove_image(found.image.ref)
        await self._known.remove(found.id)

    async def discard(self, snapshot: Snapshot) -> None:
        """Remove what there is of a snapshot that was being made of a sandbox. Raises `DriverError`."""
        await self._driver.remove_image(self.ref_of(snapshot))
        await self._known.remove(snapshot.id)

    @staticmethod
    def ref_of(snapshot: Snapshot) -> str:
        """Return what the driver is to call the image of a snapshot of a sandbox."""
        return f"snapshot-{snapshot.id}"

    async def finish(self) -> None:
        """Finish what an earlier control plane left half done."""
        for snapshot in await self._known.all():
            half_made = snapshot.state == "building" and snapshot.source_sandbox_id is not None
            try:
                if half_made:
                    await self.discard(snapshot)
                elif snapshot.state == "removing":
                    await self.remove(snapshot.id)
            except ToolboxError as error:
                fields = {"snapshot": snapshot.id, "reason": error.message}
                log.warning("a snapshot stays", extra={"fields": fields})

"""Volumes: directories that outlive sandboxes and can be in several at once."""

import logging
import posixpath
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from controlplane.drivers.base import Driver, Mount
from controlplane.models import VolumeMount, organization
from controlplane.store import Collection, Repository
from toolbox.errors import BadRequest, NotFound, ToolboxError
from toolbox.web.middleware import timestamp

log = logging.getLogger(__name__)

_LONGEST_NAME = 255


class Volume(msgspec.Struct, kw_only=True, frozen=True):
    """A volume as it is remembered. Times are RFC 3339 in UTC."""

    id: str
    name: str
    organization_id: str = msgspec.field(default_factory=organization)
    state: str = "ready"
    error_reason: str | None = None
    created_at: str
    updated_at: str
    last_used_at: str | None = None


class Volumes:
    """All volumes."""

    def __init__(self, store: Repository, driver: Driver) -> None:
        self._known: Collection[Volume] = store.collection("volume", Volume)
        self._store = store
        self._driver = driver

    async def create(self, name: str | None) -> Volume:
        """Make a volume. Raises `Conflict` (the name), `BadRequest`, `DriverError`."""
        if name and ("/" in name or not name.isprintable() or len(name) > _LONGEST_NAME):
            raise BadRequest(f"name: at most {_LONGEST_NAME} printable characters, no '/'")
        now, volume_id = timestamp(), str(uuid.uuid4())
        volume = Volume(id=volume_id, name=name or volume_id, state="creating", created_at=now, updated_at=now)
        await self._known.add(volume)
        try:
            await self._driver.make_volume(volume_id)
        except ToolboxError:
            await self._known.remove(volume_id)
            raise
        ready = msgspec.structs.replace(volume, state="ready")
        await self._known.save(ready)
        return ready

    async def get(self, id_or_name: str) -> Volume:
        """Return a volume. Raises `NotFound`."""
        found = await self._known.find(id_or_name)
        if found is None:
            raise NotFound(f"volume not found: {id_or_name}")
        return found

    async def all(self) -> list[Volume]:
        """Return all volumes, newest first."""
        return await self._known.all()

    async def remove(self, id_or_name: str) -> None:
        """Remove a volume with what is in it. Raises `NotFound`, and `BadRequest` when a sandbox has it."""
        volume = await self.get(id_or_name)
        if volume.state not in ("ready", "error"):
            raise BadRequest(f"volume {volume.name} is {volume.state}: only a ready one can be removed")
        for record in await self._store.everything():
            if any(mount.volume_id == volume.id for mount in record.volumes):
                raise BadRequest(f"volume {volume.name} is in sandbox {record.name}")
        await self._known.save(msgspec.structs.replace(volume, state="deleting", updated_at=timestamp()))
        await self._finish_removal(volume)

    async def _finish_removal(self, volume: Volume) -> None:
        try:
            await self._driver.remove_volume(volume.id)
        except ToolboxError as error:
            failed = msgspec.structs.replace(volume, state="error", error_reason=error.message, updated_at=timestamp())
            await self._known.save(failed)
            raise
        await self._known.remove(volume.id)

    async def settle(self, age: timedelta = timedelta(0)) -> None:
        """Finish what an earlier control plane left half done: nobody learned of a volume that was being made.

        `age`: of what was touched later than that somebody else may be making something.
        """
        before = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for volume in await self.all():
            if volume.state in ("creating", "deleting") and volume.updated_at < before:
                try:
                    await self._finish_removal(volume)
                except ToolboxError as error:
                    log.warning("a volume stays", extra={"fields": {"volume": volume.id, "reason": error.message}})

    async def resolve(self, wanted: Sequence[VolumeMount]) -> list[VolumeMount]:
        """Return the mounts with ids in place of names. Raises `NotFound`, `BadRequest` for a path that cannot be."""
        found, paths = [], set[str]()
        for mount in wanted:
            path = self._mount_path(mount.mount_path)
            volume = await self.get(mount.volume_id)
            if path in paths:
                raise BadRequest(f"volumes: two of them at {path}")
            paths.add(path)
            found.append(VolumeMount(volume_id=volume.id, mount_path=path, subpath=_subpath(mount.subpath)))
        return found

    def _mount_path(self, wanted: str) -> str:
        if self._driver.mounts_in_home and wanted.startswith("~/"):
            path = posixpath.normpath(wanted.removeprefix("~/"))
            inside = path not in (".", "..") and not path.startswith(("/", "../"))
            path = f"~/{path}"
        else:
            path = "/" + posixpath.normpath(wanted).lstrip("/")
            inside = wanted.startswith("/") and path != "/"
        if not inside or "\0" in path:
            raise BadRequest(f"volumes: mountPath must be an absolute path: {wanted!r}")
        return path


def mounts_of(volumes: Sequence[VolumeMount]) -> list[Mount]:
    """Return what a driver is to mount."""
    return [Mount(volume_id=each.volume_id, path=each.mount_path, subpath=each.subpath or "") for each in volumes]


def _subpath(wanted: str | None) -> str | None:
    if not wanted:
        return None
    path = posixpath.normpath(wanted)
    if path.startswith(("/", "..")) or "\0" in path:
        raise BadRequest(f"volumes: subpath must stay inside the volume: {wanted!r}")
    return None if path == "." else path

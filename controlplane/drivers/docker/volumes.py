"""Volumes as the engine's named volumes, and directories in them as binds."""

import asyncio
import contextlib
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiodocker import Docker

from controlplane.drivers.base import DriverError, Mount
from controlplane.drivers.docker.bundle import INSIDE as BUNDLE
from controlplane.drivers.docker.containers import STATE
from controlplane.drivers.docker.engine import Engine, Refused
from controlplane.drivers.docker.place import CERTIFICATES
from controlplane.drivers.docker.place import INSIDE as SHARED
from controlplane.models import VolumeMount
from toolbox.errors import BadRequest

_RESERVED = (BUNDLE, SHARED, STATE, CERTIFICATES)
_ESCAPED = re.compile(r"\\([0-7]{3})")
"""How the kernel writes a space in a path."""


class DockerVolumes:
    """The volumes of one control plane."""

    def __init__(self, engine: Engine, owner: str, label: tuple[str, str]) -> None:
        self._engine = engine
        self._owner = owner
        self._label = label

    async def make(self, volume_id: str) -> None:
        """Make a volume that every user of a sandbox may write to. Raises `DriverError`."""
        wanted: dict[str, Any] = {"Name": self._name(volume_id), "Labels": dict([self._label])}
        if self._engine.machine.podman:
            # Without this the first container changes it to what its image has at that path.
            wanted["DriverOpts"] = {"o": "uid=0,gid=0"}
        async with self._engine.doing("make a volume") as docker:
            await self._calls(docker).create(wanted)
            place = await self._mountpoint(docker, volume_id)
        # Where it is not ours to change, root in the sandboxes writes to it.
        with contextlib.suppress(PermissionError):
            await asyncio.to_thread(place.chmod, 0o777)

    async def remove(self, volume_id: str) -> None:
        """Remove a volume and what is in it, if it is there. Raises `DriverError`."""
        try:
            async with self._engine.doing("remove a volume") as docker:
                await (await self._calls(docker).get(self._name(volume_id))).delete()
        except Refused as error:
            if error.engine_status != 404:  # noqa: PLR2004
                raise

    async def binds(self, mounts: Sequence[Mount]) -> list[str]:
        """Return the mounts as the engine wants them, their directories made. Raises `DriverError`."""
        await self.prepare(mounts)
        found = []
        for mount in mounts:
            source = self._name(mount.volume_id)
            if mount.subpath:
                source = str(await self._directory(mount) / mount.subpath)
            # Without this what the image has there would be copied into the volume.
            found.append(f"{source}:{mount.path}:rw" if mount.subpath else f"{source}:{mount.path}:nocopy")
        return found

    async def prepare(self, mounts: Sequence[Mount]) -> list[str]:
        """Make the directories that the engine is about to bind, and return how what is bound must end.

        Raises `DriverError`.
        """
        found = []
        for mount in mounts:
            if mount.subpath:
                place = await self._directory(mount)
                try:
                    await asyncio.to_thread(_make_below, place, mount.subpath)
                except OSError as error:
                    raise DriverError(
                        f"volumes: cannot make {mount.subpath!r} in the volume: {error.strerror}"
                    ) from None
                found.append("/".join(("", *place.parts[-2:], mount.subpath)))
        return found

    async def _directory(self, mount: Mount) -> Path:
        async with self._engine.doing("find a volume") as docker:
            return await self._mountpoint(docker, mount.volume_id)

    async def _mountpoint(self, docker: Docker, volume_id: str) -> Path:
        volume = await self._calls(docker).get(self._name(volume_id))
        shown: Mapping[str, Any] = await volume.show()
        return Path(shown["Mountpoint"])

    @staticmethod
    def _calls(docker: Docker) -> Any:
        """Return the calls about volumes, which the library does not type."""
        return docker.volumes

    def _name(self, volume_id: str) -> str:
        return f"toolbox-{self._owner}-{volume_id}"


def check_volumes(wanted: Sequence[VolumeMount]) -> None:
    """Raise `BadRequest` for a place where no volume can be, or that engines cannot be told."""
    for mount in wanted:
        path = posixpath.normpath(mount.mount_path)
        if ":" in path or ":" in (mount.subpath or ""):
            raise BadRequest(f"volumes: neither mountPath nor subpath can have a ':': {path!r}")
        for reserved in _RESERVED:
            if f"{path}/".startswith(f"{reserved}/") or f"{reserved}/".startswith(f"{path}/"):
                raise BadRequest(f"volumes: the daemon is at {reserved}: mountPath cannot be {path!r}")


def are_bound(pid: int, endings: Sequence[str]) -> bool:
    """Tell whether directories with these endings are bound in a container.

    Other sandboxes write to the volume: one that put a symbolic link in the way just then led the engine out of it.
    Blocks.
    """
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return False
    # The fourth word is what is mounted, as a path of its file system.
    sources = [_ESCAPED.sub(lambda found: chr(int(found[1], 8)), line.split()[3]) for line in lines]
    return all(any(source.endswith(each) for source in sources) for each in endings)


def _make_below(root: Path, subpath: str) -> None:
    """Make the directories of `subpath` that are not there, following no link."""
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in Path(subpath).parts:
            made = False
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=current)
                made = True
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = below
            if made:
                os.fchmod(current, 0o777)
    finally:
        os.close(current)

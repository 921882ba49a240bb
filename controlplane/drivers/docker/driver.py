"""The `docker` driver: makes, starts, watches and ends containers."""

import asyncio
import hashlib
import logging
import os
import uuid
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import msgspec

from controlplane.drivers.base import (
    Ability,
    Access,
    Death,
    Driver,
    DriverError,
    EgressPlace,
    Launch,
    Log,
    Network,
    Resources,
)
from controlplane.drivers.docker import containers
from controlplane.drivers.docker.box import Box
from controlplane.drivers.docker.boxes import Boxes, is_running
from controlplane.drivers.docker.bundle import find_bundle
from controlplane.drivers.docker.engine import Engine, find_engine
from controlplane.drivers.docker.images import DockerImages
from controlplane.drivers.docker.place import CERTIFICATES, Made, Place
from controlplane.drivers.docker.refusals import check_resources, check_supported, refuse
from controlplane.drivers.docker.volumes import DockerVolumes, are_bound
from controlplane.drivers.outfit import variables
from controlplane.models import CreateSandbox, Image
from toolbox.config import ConfigError
from toolbox.errors import BadRequest, ToolboxError
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

_STARTS_AT_ONCE = max(2, os.cpu_count() or 1)
"""A start is mostly computing: more of them side by side only make each one later."""
_OWNER = "sandbox-toolbox.owner"
_SANDBOX = "sandbox-toolbox.sandbox"
_FORK, _ARCHIVE, _RESTORED = "fork-", "archive-", "restored-"
"""What images of sandboxes are called, before an id."""
_LOG_LINES = 1000
_AT_REST = frozenset({"created", "configured", "initialized", "exited", "stopped", "dead"})
"""What engines call a container in which nothing runs."""


class DockerDriver(Driver):
    """Runs one container for each sandbox, whose daemon is reached by a socket in a directory bound into it."""

    name = "docker"

    def __init__(
        self, state_dir: Path, host: str | None, *, image: str | None = None, bundle: Path | None = None
    ) -> None:
        self._root = state_dir / "sandboxes"
        self._certificates = state_dir / "egress/public"
        self._retired = state_dir / "retired-images"
        # Two control planes may share an engine: each has its own containers, images and volumes.
        self._owner = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
        self._host, self._configured_image, self._configured_bundle = host, image, bundle
        self._boxes = Boxes()
        self._starting = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._tasks = TaskSet()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._bundle = await asyncio.to_thread(find_bundle, self._configured_bundle)
            for path in (self._bundle, self._root):
                if ":" in str(path):
                    raise ConfigError(f"a container engine takes no path with a ':': {path}")
            host = await asyncio.to_thread(find_engine, self._host, os.environ)
            self._engine = await stack.enter_async_context(await Engine.open(host))
            machine = self._engine.machine
            for directory in (self._root, self._retired, self._certificates):
                await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
            self._images = DockerImages(self._engine, self._owner, self._retired)
            self._volumes = DockerVolumes(self._engine, self._owner, (_OWNER, self._owner))
            try:
                self._default = await self._images.default(self._configured_image)
            except DriverError as error:
                raise ConfigError(f"no image for sandboxes: {error.message}") from None
            self.user = self._default.user or containers.ROOT
            self.egress = await self._egress_place()
            self.abilities = frozenset(Ability) - (frozenset() if machine.can_freeze else {Ability.PAUSE})
            await stack.enter_async_context(self._tasks)
            label = f"{_OWNER}={self._owner}"
            self._tasks.start(self._boxes.follow(self._engine, label, _SANDBOX), "events of the container engine")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self._boxes.close()

    async def _egress_place(self) -> EgressPlace | None:
        """Return where sandboxes find the egress proxy: at this machine's address on their network."""
        address = None if self._engine.machine.rootless else await self._engine.gateway()
        if address is None:
            return None
        # Podman makes the network's interface with the first container.
        early = self._engine.machine.podman
        certificates = f"{CERTIFICATES}/certificates.pem"
        return EgressPlace(listen=address, host=address, certificates=certificates, early=early)

    def check(self, wanted: CreateSandbox) -> Resources:
        """Return what the sandbox will get. Raises `BadRequest` naming the first field that cannot be honoured."""
        return check_supported(wanted, self._engine.machine)

    def watch(self, death: Death) -> None:
        """Report unexpected ends of daemons to `death` from now on."""
        self._boxes.death = death

    def is_running(self, sandbox_id: str) -> bool:
        """Tell whether the container runs, or is frozen."""
        return sandbox_id in self._boxes

    async def create(self, launch: Launch) -> None:
        """Make the sandbox's container. Raises `DriverError`."""
        await self._make(launch, launch.image or self._default)

    async def _make(self, launch: Launch, image: Image, *, own: bool = False) -> None:
        """Make a container; on failure nothing is left of it where the engine still answers."""
        place = self._place(launch.id)
        made = Made(image=image, own_image=image.ref if own else None)
        try:
            await asyncio.to_thread(place.make)
            await asyncio.to_thread(place.remember, made)
        except OSError as error:
            raise DriverError(f"cannot make the sandbox's directory: {error}") from None
        try:
            config = containers.configuration(
                launch,
                image,
                self._engine.machine,
                labels={_OWNER: self._owner, _SANDBOX: launch.id},
                binds=await self._volumes.binds(launch.mounts),
                bundle=self._bundle,
                shared=place.shared,
                certificates=self._certificates,
            )
            await self._engine.create(self._name(launch.id), config)
        except ToolboxError as error:
            try:
                await self.delete(launch.id)
            except DriverError:
                log.warning("half a sandbox is left", extra={"fields": {"sandbox": launch.id, "reason": error.message}})
            raise

    async def start(self, launch: Launch) -> Access:
        """Start the container and return once its daemon answers. Raises `DriverError`, `BadRequest` for its user."""
        self._boxes.forget(launch.id)
        box = self._box(launch.id)
        async with self._starting:
            found = await self._engine.inspect(self._name(launch.id))
            if found is None:
                raise DriverError("the sandbox's container is gone")
            if is_running(found):
                await self._engine.stop(box.name, 0)
            self._boxes.put(box)
            try:
                await self._run(box, launch, found)
            except BaseException:
                self._boxes.forget(launch.id)
                await asyncio.shield(self._put_out(launch.id))
                raise
        return box.access()

    async def _run(self, box: Box, launch: Launch, found: Mapping[str, Any]) -> None:
        name = box.name
        in_container, _ = containers.users(found["Config"].get("User"))
        try:
            await asyncio.to_thread(box.place.prepare, variables(launch), private=in_container == "0")
        except OSError as error:
            raise DriverError(f"cannot write what the sandbox's daemon reads: {error}") from None
        endings = await self._volumes.prepare(launch.mounts)
        await self._set_network(name, found, launch.network)
        async with self._engine.doing("start the sandbox's container") as docker:
            await docker.containers.container(name).start()
        box.launched = True
        await self._set_limits(name, found, launch.resources)
        await self._boxes.wait_ready(self._engine, box)
        if endings:
            running = await self._engine.inspect(name)
            if running is None or not await asyncio.to_thread(are_bound, running["State"]["Pid"], endings):
                raise DriverError("volumes: a directory was not where it should be in its volume")
        if box.ended.done():
            raise DriverError(box.ended.result())
        box.answered = True

    async def stop(self, sandbox_id: str, *, force: bool) -> None:
        """End the container and all that runs in it; what is on disk stays. Raises `DriverError`."""
        box = self._boxes.pop(sandbox_id)
        try:
            await self._engine.stop(self._name(sandbox_id), 0 if force else containers.STOP_SECONDS)
        except BaseException:
            if box is not None:
                self._boxes.put(box)
            raise
        if box is not None:
            box.close()

    async def delete(self, sandbox_id: str) -> None:
        """Remove the container, its own image and its directory. Raises `DriverError`."""
        place = self._place(sandbox_id)
        self._boxes.forget(sandbox_id)
        await self._engine.remove(self._name(sandbox_id))
        made = await asyncio.to_thread(place.made)
        # What was to be a fork may have got no further than its image.
        own = made.own_image if made is not None else self._images.name(f"{_FORK}{sandbox_id}")
        if own is not None:
            await self._images.remove(own)
        try:
            await asyncio.to_thread(place.remove)
        except OSError as error:
            raise DriverError(f"cannot remove the sandbox's directory: {error}") from None
        await self._images.remove_retired()

    async def present(self) -> list[str]:
        """Return the ids of all sandboxes that have a directory or a container. Raises `DriverError`."""
        found = {each["Labels"][_SANDBOX] for each in await self._engine.list(f"{_OWNER}={self._owner}")}
        return list(found | set(await asyncio.to_thread(os.listdir, self._root)))

    async def logs(self, sandbox_id: str) -> str:
        """Return the end of what the daemon wrote, as the engine keeps it. Raises `DriverError`."""
        return await self._engine.log(self._name(sandbox_id), lines=_LOG_LINES)

    async def recover(self, keep: Collection[str], frozen: Collection[str] = ()) -> Mapping[str, Access]:
        """Adopt the running containers of the sandboxes in `keep`, end all others, remove what is no sandbox's."""
        found = await self._engine.list(f"{_OWNER}={self._owner}")
        adopted = await asyncio.gather(*(self._recover(each, keep, frozen) for each in found))
        await self._remove_strays()
        await self._images.remove_retired()
        return {box.id: box.access() for box in adopted if box is not None and not box.paused}

    async def _recover(
        self, container: Mapping[str, Any], keep: Collection[str], frozen: Collection[str]
    ) -> Box | None:
        sandbox_id, state = container["Labels"][_SANDBOX], container["State"]
        box = self._box(sandbox_id)
        if not await asyncio.to_thread(box.place.exists):
            await self._engine.remove(container["Id"])
            return None
        if state in _AT_REST:
            return None
        box.launched = box.answered = True
        box.paused = state == "paused"
        self._boxes.put(box)
        if sandbox_id in keep and state in ("running", "paused") and await self._adopt(box, stays=sandbox_id in frozen):
            return box
        await self.stop(sandbox_id, force=True)
        return None

    async def _adopt(self, box: Box, *, stays: bool) -> bool:
        """Tell whether a container can be used as it is; a frozen one that does not stay so goes on."""
        if box.paused and stays:
            return await box.connect()
        if box.paused:
            await self._freeze(box, frozen=False)
        return await box.is_ready()

    async def _remove_strays(self) -> None:
        """Remove images that were to become a sandbox's own, or an archive, when the control plane ended."""
        places = [self._place(each) for each in await asyncio.to_thread(os.listdir, self._root)]
        made = [await asyncio.to_thread(each.made) for each in places]
        owned = {each.own_image for each in made if each is not None}
        for name in await self._images.all():
            if name.rpartition(":")[2].startswith((_FORK, _ARCHIVE, _RESTORED)) and name not in owned:
                await self._images.remove(name)

    async def pause(self, sandbox_id: str) -> None:
        """Freeze the container. Raises `BadRequest`, `DriverError`."""
        if Ability.PAUSE not in self.abilities:
            raise self.cannot("pause sandboxes")
        box = self._boxes.get(sandbox_id)
        if box is None:
            raise DriverError("the sandbox's container has ended")
        await self._freeze(box, frozen=True)

    async def resume(self, sandbox_id: str) -> Access:
        """Let the container go on. Raises `DriverError`."""
        box = self._boxes.get(sandbox_id)
        if box is None:
            raise DriverError("the sandbox's container has ended")
        if box.paused:
            await self._freeze(box, frozen=False)
        if not await box.is_ready():
            raise DriverError("the sandbox's daemon does not answer")
        return box.access()

    async def _freeze(self, box: Box, *, frozen: bool) -> None:
        before, box.paused = box.paused, frozen
        try:
            await self._engine.freeze(box.name, frozen=frozen)
        except BaseException:
            box.paused = before
            raise

    async def resize(self, launch: Launch, *, running: bool) -> None:
        """Change the container's cpu and memory: now, or when it starts. Raises `BadRequest`, `DriverError`."""
        wanted, name = launch.resources, self._name(launch.id)
        found = await self._engine.inspect(name)
        if found is None or wanted is None:
            raise DriverError("the sandbox's container is gone")
        if wanted.disk != self._disk(found):
            raise BadRequest("disk: the container engine cannot change it")
        machine = self._engine.machine
        cpu = wanted.cpu if machine.limits_cpu or wanted.cpu != machine.cpus else None
        memory = wanted.memory if machine.limits_memory or wanted.memory != machine.memory else None
        check_resources(cpu, memory, None, machine)
        if running:
            await self._set_limits(name, found, wanted)

    async def fork(self, source_id: str, launch: Launch) -> None:
        """Make a container with the files of another. Raises `DriverError`."""
        await self._make(launch, await self._copy(source_id, f"{_FORK}{launch.id}"), own=True)

    async def snapshot(self, sandbox_id: str, ref: str) -> Image:
        """Make an image of the container's files. Raises `DriverError`."""
        return await self._copy(sandbox_id, ref)

    async def _copy(self, sandbox_id: str, ref: str) -> Image:
        made = await asyncio.to_thread(self._place(sandbox_id).made)
        if made is None:
            raise DriverError("the sandbox's container is gone")
        box = self._boxes.get(sandbox_id)
        if box is None:
            return await self._images.commit(self._name(sandbox_id), ref, made.image)
        box.copying = True
        try:
            return await self._images.commit(box.name, ref, made.image)
        finally:
            box.copying = False

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Give the container its network or take it away, now or when it starts. Raises `BadRequest`, `DriverError`."""
        if network.allow_list:
            raise refuse("networkAllowList")
        if network.domain_allow_list:
            raise refuse("domainAllowList")
        name = self._name(sandbox_id)
        found = await self._engine.inspect(name)
        if found is not None and sandbox_id in self._boxes:
            await self._set_network(name, found, network)

    async def export(self, sandbox_id: str, target: Path) -> None:
        """Write the files of a stopped sandbox to one file: an image, as engines save it. Raises `DriverError`."""
        image = await self._copy(sandbox_id, f"{_ARCHIVE}{sandbox_id}")
        try:
            await self._images.save(image.ref, target)
        except OSError as error:
            raise DriverError(f"cannot write the archive: {error.strerror}") from None
        finally:
            await self._images.remove(image.ref)

    async def restore(self, launch: Launch, source: Path) -> None:
        """Make a container of what `export` wrote. Raises `DriverError`."""
        await self.delete(launch.id)  # what an attempt that was cut short left
        await self._images.load(source)
        # Under a name of its own: the next archive has the name of the file's again.
        loaded, own = self._images.name(f"{_ARCHIVE}{launch.id}"), f"{_RESTORED}{uuid.uuid4()}"
        image = await self._images.get(loaded, own, lambda _: None)
        await self._images.remove(loaded)
        like = launch.image or self._default
        await self._make(launch, msgspec.structs.replace(like, ref=image.ref, size=image.size), own=True)

    async def pull(self, image: str, ref: str, log: Log) -> Image:
        """Find an image or get it from its registry. Raises `BadRequest`, `BuildFailed`, `DriverError`."""
        return await self._images.get(image, ref, log)

    async def build(self, dockerfile: str, contexts: Collection[Path], ref: str, log: Log) -> Image:
        """Build an image. Raises `BuildFailed`, `DriverError`."""
        return await self._images.build(dockerfile, contexts, ref, log)

    async def remove_image(self, ref: str) -> None:
        """Remove an image of ours, once nothing is made of it any more. Raises `DriverError`."""
        await self._images.remove(ref if ":" in ref else self._images.name(ref))

    async def make_volume(self, volume_id: str) -> None:
        """Make a volume. Raises `DriverError`."""
        await self._volumes.make(volume_id)

    async def remove_volume(self, volume_id: str) -> None:
        """Remove a volume and what is in it. Raises `DriverError`."""
        await self._volumes.remove(volume_id)

    async def _set_network(self, name: str, found: Mapping[str, Any], network: Network) -> None:
        connected = bool(found["NetworkSettings"].get("Networks"))
        if connected == network.block_all:
            await self._engine.connect(name, connected=not network.block_all)

    async def _set_limits(self, name: str, found: Mapping[str, Any], wanted: Resources | None) -> None:
        machine, limits = self._engine.machine, found["HostConfig"]
        if wanted is None:
            return
        cpu = wanted.cpu if machine.limits_cpu and limits["NanoCpus"] != wanted.cpu * 10**9 else None
        memory = wanted.memory if machine.limits_memory and limits["Memory"] != wanted.memory * 1024**3 else None
        if cpu is not None or memory is not None:
            await self._engine.update(name, cpu=cpu, memory=memory)

    def _disk(self, found: Mapping[str, Any]) -> int:
        if not self._engine.machine.limits_disk:
            return self._engine.machine.disk
        return int((found["HostConfig"].get("StorageOpt") or {})["size"].rstrip("Gg"))

    async def _put_out(self, sandbox_id: str) -> None:
        try:
            await self._engine.stop(self._name(sandbox_id), 0)
        except DriverError as error:
            log.warning("a container may be left running", extra={"fields": {"reason": error.message}})

    def _box(self, sandbox_id: str) -> Box:
        return Box(sandbox_id, self._name(sandbox_id), self._place(sandbox_id))

    def _place(self, sandbox_id: str) -> Place:
        return Place(self._root / sandbox_id)

    def _name(self, sandbox_id: str) -> str:
        return f"toolbox-{self._owner}-{sandbox_id}"

"""The `docker` driver: makes, starts, watches and ends containers."""

import asyncio
import contextlib
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
    Launch,
    Log,
    Network,
    Resources,
)
from controlplane.drivers.docker import containers
from controlplane.drivers.docker.box import Box
from controlplane.drivers.docker.bundle import find_bundle
from controlplane.drivers.docker.engine import Engine, Refused, find_engine
from controlplane.drivers.docker.images import DockerImages
from controlplane.drivers.docker.place import Made, Place
from controlplane.drivers.docker.refusals import check_resources, check_supported, refuse
from controlplane.drivers.docker.volumes import DockerVolumes, are_bound
from controlplane.models import CreateSandbox, Image
from toolbox.config import ConfigError
from toolbox.errors import BadRequest, ToolboxError
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_LOOKS_BETWEEN_CHECKS = 50
_RECONNECT_SECONDS = 1.0
_STARTS_AT_ONCE = max(2, os.cpu_count() or 1)
"""A start is mostly computing: more of them side by side only make each one later."""
_OWNER = "sandbox-toolbox.owner"
_SANDBOX = "sandbox-toolbox.sandbox"
_NO_USER = "toolboxd: no such user"


class DockerDriver(Driver):
    """Runs one container for each sandbox, whose daemon is reached by a socket in a directory bound into it."""

    name = "docker"

    def __init__(
        self, state_dir: Path, host: str | None, *, image: str | None = None, bundle: Path | None = None
    ) -> None:
        self._root = state_dir / "sandboxes"
        self._retired = state_dir / "retired-images"
        # Two control planes may share an engine: each has its own containers, images and volumes.
        self._owner = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
        self._host, self._configured_image, self._configured_bundle = host, image, bundle
        self._boxes: dict[str, Box] = {}
        self._starting = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._tasks = TaskSet()
        self._death: Death | None = None
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
            for directory in (self._root, self._retired):
                await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
            self._images = DockerImages(self._engine, self._owner, self._retired)
            self._volumes = DockerVolumes(self._engine, self._owner, (_OWNER, self._owner))
            try:
                self._default = await self._images.default(self._configured_image)
            except DriverError as error:
                raise ConfigError(f"no image for sandboxes: {error.message}") from None
            self.user = self._default.user or containers.ROOT
            self.abilities = frozenset(Ability) - (frozenset() if machine.can_freeze else {Ability.PAUSE})
            await stack.enter_async_context(self._tasks)
            self._tasks.start(self._follow_events(), "events of the container engine")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        for box in self._boxes.values():
            box.close()

    def check(self, wanted: CreateSandbox) -> Resources:
        """Return what the sandbox will get. Raises `BadRequest` naming the first field that cannot be honoured."""
        return check_supported(wanted, self._engine.machine)

    def watch(self, death: Death) -> None:
        """Report unexpected ends of daemons to `death` from now on."""
        self._death = death

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
            )
            async with self._engine.doing("make the sandbox's container") as docker:
                await docker.containers.create(config, name=self._name(launch.id))
        except ToolboxError as error:
            try:
                await self.delete(launch.id)
            except DriverError:
                log.warning("half a sandbox is left", extra={"fields": {"sandbox": launch.id, "reason": error.message}})
            raise

    async def start(self, launch: Launch) -> Access:
        """Start the container and return once its daemon answers. Raises `DriverError`, `BadRequest` for its user."""
        self._forget(launch.id)
        box = Box(launch.id, self._place(launch.id))
        async with self._starting:
            found = await self._engine.inspect(self._name(launch.id))
            if found is None:
                raise DriverError("the sandbox's container is gone")
            if found["State"]["Running"]:
                await self._engine.stop(self._name(launch.id), 0)
            self._boxes[launch.id] = box
            try:
                await self._run(box, launch, found)
            except BaseException:
                self._forget(launch.id)
                await asyncio.shield(self._put_out(launch.id))
                raise
        return box.access()

    async def _run(self, box: Box, launch: Launch, found: Mapping[str, Any]) -> None:
        name = self._name(box.id)
        in_container, _ = containers.users(found["Config"].get("User"))
        try:
            await asyncio.to_thread(box.place.prepare, containers.variables(launch), private=in_container == "0")
        except OSError as error:
            raise DriverError(f"cannot write what the sandbox's daemon reads: {error}") from None
        endings = await self._volumes.prepare(launch.mounts)
        await self._set_network(name, found, launch.network)
        async with self._engine.doing("start the sandbox's container") as docker:
            await docker.containers.container(name).start()
        box.launched = True
        await self._set_limits(name, found, launch.resources)
        await self._wait_ready(box)
        if endings:
            running = await self._engine.inspect(name)
            if running is None or not await asyncio.to_thread(are_bound, running["State"]["Pid"], endings):
                raise DriverError("volumes: a directory was not where it should be in its volume")
        if box.ended.done():
            raise DriverError(box.ended.result())
        box.answered = True

    async def _wait_ready(self, box: Box) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                looks = 0
                while not await box.is_ready():
                    ended, _ = await asyncio.wait([box.ended], timeout=_LOOK_SECONDS)
                    looks += 1
                    if not ended and looks % _LOOKS_BETWEEN_CHECKS == 0:
                        await self._look(box)
                    if box.ended.done():
                        raise await self._why_not_ready(box)
        except TimeoutError:
            raise DriverError(f"the sandbox's daemon was not ready within {READY_SECONDS:.0f} s") from None

    async def _why_not_ready(self, box: Box) -> ToolboxError:
        async with self._engine.doing("read the log of the sandbox's container") as docker:
            lines = await docker.containers.container(self._name(box.id)).log(stdout=True, stderr=True, tail=5)
        text = "".join(lines).strip()
        said = text.splitlines()[-1] if text else box.ended.result()
        if said.startswith(_NO_USER):
            return BadRequest(f"user: {said.removeprefix('toolboxd: ')} in the image")
        return DriverError(f"the sandbox's daemon did not start: {said}")

    async def stop(self, sandbox_id: str, *, force: bool) -> None:
        """End the container and all that runs in it; what is on disk stays. Raises `DriverError`."""
        box = self._boxes.pop(sandbox_id, None)
        try:
            if box is not None and box.paused:
                with contextlib.suppress(Refused):  # it has ended meanwhile
                    await self._freeze(sandbox_id, frozen=False)
                box.paused = False
            await self._engine.stop(self._name(sandbox_id), 0 if force else containers.STOP_SECONDS)
        except BaseException:
            if box is not None:
                self._boxes[sandbox_id] = box
            raise
        if box is not None:
            box.close()

    async def delete(self, sandbox_id: str) -> None:
        """Remove the container, its own image and its directory. Raises `DriverError`."""
        place = self._place(sandbox_id)
        self._forget(sandbox_id)
        if not await asyncio.to_thread(place.exists):
            return
        await self._engine.remove(self._name(sandbox_id))
        made = await asyncio.to_thread(place.made)
        if made is not None and made.own_image is not None:
            await self._images.remove(made.own_image)
        try:
            await asyncio.to_thread(place.remove)
        except OSError as error:
            raise DriverError(f"cannot remove the sandbox's directory: {error}") from None
        await self._images.remove_retired()

    async def recover(self, keep: Collection[str]) -> Mapping[str, Access]:
        """Adopt the running containers of the sandboxes in `keep`, end all others, remove those of no sandbox."""
        found = await self._engine.list(f"{_OWNER}={self._owner}")
        adopted = await asyncio.gather(*(self._recover(each, keep) for each in found))
        await self._images.remove_retired()
        return {box.id: box.access() for box in adopted if box is not None and not box.paused}

    async def _recover(self, container: Mapping[str, Any], keep: Collection[str]) -> Box | None:
        sandbox_id = container["Labels"][_SANDBOX]
        place = self._place(sandbox_id)
        if not await asyncio.to_thread(place.exists):
            await self._engine.remove(container["Id"])
            return None
        if container["State"] not in ("running", "paused"):
            return None
        box = Box(sandbox_id, place)
        box.launched = box.answered = True
        box.paused = container["State"] == "paused"
        self._boxes[sandbox_id] = box
        if sandbox_id in keep and await (box.connect() if box.paused else box.is_ready()):
            return box
        await self.stop(sandbox_id, force=True)
        return None

    async def pause(self, sandbox_id: str) -> None:
        """Freeze the container. Raises `BadRequest`, `DriverError`."""
        if Ability.PAUSE not in self.abilities:
            raise self.cannot("pause sandboxes")
        await self._freeze(sandbox_id, frozen=True)

    async def resume(self, sandbox_id: str) -> Access:
        """Let the container go on. Raises `DriverError`."""
        box = self._boxes.get(sandbox_id)
        if box is None:
            raise DriverError("the sandbox's container has ended")
        await self._freeze(sandbox_id, frozen=False)
        if not await box.is_ready():
            raise DriverError("the sandbox's daemon does not answer")
        return box.access()

    async def _freeze(self, sandbox_id: str, *, frozen: bool) -> None:
        async with self._engine.doing(f"{'pause' if frozen else 'resume'} the sandbox's container") as docker:
            container = docker.containers.container(self._name(sandbox_id))
            await (container.pause() if frozen else container.unpause())
        if sandbox_id in self._boxes:
            self._boxes[sandbox_id].paused = frozen

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
        await self._make(launch, await self._copy(source_id, f"fork-{launch.id}"), own=True)

    async def snapshot(self, sandbox_id: str, ref: str) -> Image:
        """Make an image of the container's files. Raises `DriverError`."""
        return await self._copy(sandbox_id, ref)

    async def _copy(self, sandbox_id: str, ref: str) -> Image:
        made = await asyncio.to_thread(self._place(sandbox_id).made)
        if made is None:
            raise DriverError("the sandbox's container is gone")
        return await self._images.commit(self._name(sandbox_id), ref, made.image)

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
        image = await self._copy(sandbox_id, f"archive-{sandbox_id}")
        try:
            await self._images.save(image.ref, target)
        except OSError as error:
            raise DriverError(f"cannot write the archive: {error.strerror}") from None
        finally:
            await self._images.remove(image.ref)

    async def restore(self, launch: Launch, source: Path) -> None:
        """Make a container of what `export` wrote. Raises `DriverError`."""
        await self._images.load(source)
        # Under a name of its own: the next archive has the name of the file's again.
        loaded, own = self._images.name(f"archive-{launch.id}"), f"restored-{uuid.uuid4()}"
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
        await self._images.remove(ref)

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

    async def _follow_events(self) -> None:
        """Notice ends of containers, for ever; after an engine was away, those that it did not tell."""
        while True:
            try:
                async for event in self._engine.events(f"{_OWNER}={self._owner}"):
                    ids = list(self._boxes) if event is None else [event["Actor"]["Attributes"][_SANDBOX]]
                    for box in [self._boxes[each] for each in ids if each in self._boxes]:
                        await self._look(box)
            except DriverError as error:
                log.warning("the container engine is away", extra={"fields": {"reason": error.message}})
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _look(self, box: Box) -> None:
        """See whether a container still runs, and if it does not tell who waits or watches. Raises `DriverError`."""
        found = await self._engine.inspect(self._name(box.id))
        if not box.launched or (found is not None and found["State"]["Running"]) or self._boxes.get(box.id) is not box:
            return
        reason = f"the sandbox's container ended: {_cause(found)}"
        if not box.ended.done():
            box.ended.set_result(reason)
        if not box.answered:
            return  # whoever starts it sees
        self._forget(box.id)
        if self._death is not None:
            self._death(box.id, reason)

    async def _put_out(self, sandbox_id: str) -> None:
        try:
            await self._engine.stop(self._name(sandbox_id), 0)
        except DriverError as error:
            log.warning("a container may be left running", extra={"fields": {"reason": error.message}})

    def _forget(self, sandbox_id: str) -> None:
        box = self._boxes.pop(sandbox_id, None)
        if box is not None:
            box.close()

    def _place(self, sandbox_id: str) -> Place:
        return Place(self._root / sandbox_id)

    def _name(self, sandbox_id: str) -> str:
        return f"toolbox-{self._owner}-{sandbox_id}"


def _cause(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "it was removed"
    state = found["State"]
    if state.get("OOMKilled"):
        return "out of memory"
    return str(state.get("Error") or f"exit code {state.get('ExitCode')}")

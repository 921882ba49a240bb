"""Sandboxes of declarative images: the image is built first, in the background, then the sandbox is made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Self

import msgspec

from controlplane.builds import Build, Builds
from controlplane.models import CreateBuildInfo, CreateSandbox, Image, Record
from controlplane.sandboxes import Sandboxes
from controlplane.snapshots import of_build
from controlplane.states import State
from toolbox.errors import BadRequest, NotFound, ToolboxError
from toolbox.lifetime import TaskSet

_UNFINISHED = frozenset({State.PENDING_BUILD, State.BUILDING_SNAPSHOT, State.CREATING})


class DeclaredSandboxes:
    """Makes sandboxes of images that may have to be built."""

    def __init__(self, sandboxes: Sandboxes, builds: Builds) -> None:
        self._sandboxes = sandboxes
        self._steps = sandboxes.steps
        self._driver = sandboxes.driver
        self._builds = builds
        self._tasks = TaskSet()
        self._making: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        """Go on with what an earlier control plane did not finish."""
        self._steps.watch(self._watch)
        if self._driver.replicated:
            return self  # another may be at work on it
        for record in await self._steps.store.everything():
            if record.build_info is not None and record.state in _UNFINISHED:
                await self._go_on(record, record.build_info.snapshot_ref)
        return self

    async def _go_on(self, record: Record, ref: str) -> None:
        build = await self._builds.find(ref)
        if build is not None:
            self._make(record, build)
        else:
            await self._steps.move(record, State.ERROR, reason="what its image is built from is forgotten")

    async def __aexit__(self, *_: object) -> None:
        """Stop; what is not finished is gone on with by the next control plane."""
        await self._tasks.close()

    async def create(self, wanted: CreateSandbox) -> Record:
        """Make a sandbox of a declarative image: at once if it was built before, else it is returned pending.

        Raises `BadRequest`, `NotFound`, `Conflict` (the name), `DriverError`.
        """
        resources = self._driver.check(wanted)
        if wanted.snapshot:
            raise BadRequest("snapshot, buildInfo: one of them, and not both")
        build = await self._builds.plan(wanted.build_info or CreateBuildInfo())
        record = await self._sandboxes.specify(wanted, resources, of_build(build))
        record = msgspec.structs.replace(record, build_info=build.info)
        if build.image is not None:
            return await self._sandboxes.make(record)
        # Whose user is known when the image is: until then, only what the client asked for.
        record = msgspec.structs.replace(record, state=State.PENDING_BUILD, user=wanted.user or "")
        await self._steps.add(record)
        self._make(record, build)
        return record

    async def read_log(self, id_or_name: str, *, follow: bool) -> AsyncIterator[bytes]:
        """Return the log of how a sandbox's image was built. Raises `NotFound` where none was built for it."""
        record = await self._sandboxes.get(id_or_name)
        if record.build_info is None:
            raise NotFound(f"no image was built for sandbox {record.name}: there is no log")
        return self._builds.read_log(record.build_info.snapshot_ref, follow=follow)

    def _watch(self, record: Record, _: State | None) -> None:
        """Stop making a sandbox that was deleted meanwhile."""
        task = self._making.get(record.id)
        if record.state is State.DESTROYED and task is not None:
            task.cancel()

    def _make(self, record: Record, build: Build) -> None:
        task = self._tasks.start(self._finish(record.id, build), f"make {record.id}")
        self._making[record.id] = task
        self._steps.in_the_making.add(record.id)

        def made(_: object) -> None:
            self._making.pop(record.id, None)
            self._steps.in_the_making.discard(record.id)

        task.add_done_callback(made)

    async def _finish(self, sandbox_id: str, build: Build) -> None:
        try:
            async with self._builds.job(build) as job:
                await job.begun.wait()
                await self._steps.run(sandbox_id, self._begin, "build of")
                image = await job.image()
            await self._steps.run(sandbox_id, lambda found: self._create(found, image), "create")
        except NotFound:
            return  # deleted meanwhile
        except ToolboxError as error:
            reason = error.message
            with suppress(NotFound):
                await self._steps.run(sandbox_id, lambda found: self._fail(found, reason), "build of")

    async def _begin(self, record: Record) -> Record:
        if record.state is not State.PENDING_BUILD:
            return record
        return await self._steps.move(record, State.BUILDING_SNAPSHOT)

    async def _create(self, record: Record, image: Image) -> Record:
        if record.state is State.CREATING:
            await self._driver.discard(record.id)  # half made, by a control plane that crashed
        elif record.state is State.BUILDING_SNAPSHOT:
            user = record.user or image.user or self._driver.user
            record = await self._steps.move(record, State.CREATING, image=image, user=user)
        else:
            return record
        try:
            return await self._sandboxes.bring_up(record)
        except ToolboxError as error:
            with suppress(ToolboxError):
                await self._driver.discard(record.id)
            return await self._steps.move(record, State.ERROR, reason=error.message)

    async def _fail(self, record: Record, reason: str) -> Record:
        if record.state not in (State.PENDING_BUILD, State.BUILDING_SNAPSHOT):
            return record
        return await self._steps.move(record, State.BUILD_FAILED, reason=reason)

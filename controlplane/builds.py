"""Images in the making: pulled and built in the background, each one once, for whoever waits for it.

A build is identified by what goes into it, so the same Dockerfile with the same contexts is found again. It runs as
long as somebody waits. After a crash those who waited come again, and what was not finished begins anew.
"""

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec

from controlplane.buildlog import BuildLog, read_log
from controlplane.drivers.base import Ability, BuildFailed, Driver
from controlplane.models import BuildInfo, CreateBuildInfo, Image, organization
from controlplane.objectstore.objects import Objects
from controlplane.store import Collection as Documents
from controlplane.store import Repository
from toolbox.errors import BadRequest, Conflict, ToolboxError
from toolbox.lifetime import TaskSet
from toolbox.web.middleware import timestamp

log = logging.getLogger(__name__)

_AT_ONCE = max(2, os.cpu_count() or 1)
_BARE = re.compile(r"\s*FROM\s+(\S+)\s*\Z", re.IGNORECASE)
"""A Dockerfile that only names an image."""
_HASH = re.compile(r"[0-9a-f]{32}\Z")
_CONTEXT_KEY = re.compile(r"[^/]+/[0-9a-f]{32}/context\.tar")
_REF_DIGITS = 40
_MOST_DOCKERFILE = 1024 * 1024


class Build(msgspec.Struct, kw_only=True, frozen=True):
    """An image as it is wanted, and what became of it. Times are RFC 3339 in UTC."""

    id: str
    """What the driver is to call the image: made of what goes into it."""
    name: str
    organization_id: str = msgspec.field(default_factory=organization)
    state: str = "pending"
    """pending, building, built or failed."""
    image_name: str | None = None
    """The image to pull; None: it is built."""
    dockerfile: str = ""
    contexts: list[str] = []
    image: Image | None = None
    error_reason: str | None = None
    created_at: str
    updated_at: str
    used_at: str
    """When somebody wanted it last."""

    @property
    def info(self) -> BuildInfo:
        """What clients see of it."""
        return BuildInfo(
            created_at=self.created_at,
            updated_at=self.updated_at,
            snapshot_ref=self.id,
            dockerfile_content=self.dockerfile,
            context_hashes=self.contexts,
        )


class Job:
    """A build that somebody waits for."""

    def __init__(self, build_log: BuildLog) -> None:
        self.log = build_log
        self.begun = asyncio.Event()
        """It is its turn."""
        self.waiters = 0
        self.ending = False
        """Nobody waited any more."""
        self.task: asyncio.Task[Image | ToolboxError] | None = None

    async def image(self) -> Image:
        """Return the image when it is there. Raises `BadRequest`, `BuildFailed`, `DriverError`."""
        assert self.task is not None  # noqa: S101 -- started with it
        outcome = await asyncio.shield(self.task)
        if isinstance(outcome, ToolboxError):
            raise outcome
        return outcome


class Builds:
    """All builds."""

    def __init__(self, store: Repository, driver: Driver, objects: Objects, directory: Path) -> None:
        self._known: Documents[Build] = store.collection("build", Build)
        self._driver = driver
        self._objects = objects
        self._directory = directory
        self._tasks = TaskSet()
        self._jobs: dict[str, Job] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._directory.mkdir, mode=0o700, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    @property
    def busy(self) -> bool:
        """Whether a build that comes now has to wait for its turn."""
        return self._turns.locked()

    async def plan(self, wanted: CreateBuildInfo) -> Build:
        """Return the build of a declarative image. Raises `BadRequest` for what cannot be built."""
        dockerfile, contexts = wanted.dockerfile_content or "", wanted.context_hashes or []
        base = _BARE.match(dockerfile) if not contexts else None
        # Where nothing is to be built, no builder is needed.
        pulled = base is not None and Ability.BUILD not in self._driver.abilities
        self._check_ability(Ability.IMAGES if pulled else Ability.BUILD, "build images (buildInfo)")
        if not dockerfile.strip():
            raise BadRequest("buildInfo: dockerfileContent must not be empty")
        if len(dockerfile.encode("utf-8", "surrogatepass")) > _MOST_DOCKERFILE:
            raise BadRequest("buildInfo: dockerfileContent is too long")
        for each in contexts:
            if not _HASH.match(each) or await self._objects.find(_context_key(organization(), each)) is None:
                raise BadRequest(f"buildInfo: contextHashes: {each!r} was not uploaded")
        text = msgspec.json.encode([organization(), dockerfile, contexts])
        ref = f"build-{hashlib.sha256(text).hexdigest()[:_REF_DIGITS]}"
        build = msgspec.structs.replace(_new(ref), dockerfile=dockerfile, contexts=contexts)
        if base is not None and pulled:
            build = msgspec.structs.replace(build, image_name=base[1])
        return await self._found_or_new(build)

    async def plan_pull(self, image_name: str, ref: str) -> Build:
        """Return the build that gets an image by its name. Raises `BadRequest`."""
        self._check_ability(Ability.IMAGES, "use images")
        if not image_name.strip():
            raise BadRequest("imageName: must not be empty")
        return await self._found_or_new(msgspec.structs.replace(_new(ref), image_name=image_name.strip()))

    async def find(self, ref: str) -> Build | None:
        """Return a build, None if it is forgotten."""
        return await self._known.find(ref)

    async def forget(self, ref: str) -> None:
        """Forget a build and its log: nothing is made of it any more."""
        await self._known.remove(ref)
        await asyncio.to_thread(self._log_file(ref).unlink, missing_ok=True)

    async def tidy(self, *, keep: Collection[str], before: str) -> None:
        """Remove what nobody wanted since `before` (RFC 3339 in UTC), except builds and images in `keep`.

        Build contexts too: one that many builds share goes when the last of them is built and nobody has looked for it.
        """
        for each in await self._known.all():
            names = {each.id} if each.image is None else {each.id, each.image.ref}
            if each.used_at >= before or not names.isdisjoint(keep) or each.id in self._jobs:
                continue
            try:
                if each.image is not None:
                    await self._driver.remove_image(each.image.ref)
            except ToolboxError as error:
                log.warning("an image cannot be removed", extra={"fields": {"image": each.id, "reason": error.message}})
                continue
            await self.forget(each.id)
        # What is not built yet needs its contexts; what is, is never built again.
        needed = {
            _context_key(each.organization_id, digest)
            for each in await self._known.all()
            if each.state != "built" or each.id in self._jobs
            for digest in each.contexts
        }
        await self._objects.tidy(_CONTEXT_KEY, keep=needed, before=datetime.fromisoformat(before).timestamp())

    @asynccontextmanager
    async def job(self, build: Build) -> AsyncIterator[Job]:
        """Have an image made, or wait for one that is in the making; when nobody waits any more, that is ended."""
        while (job := self._jobs.get(build.id)) is not None and job.ending and job.task is not None:
            await asyncio.wait([job.task])
        if job is None:
            job = self._start(build)
        job.waiters += 1
        try:
            yield job
        finally:
            job.waiters -= 1
            if job.waiters == 0 and job.task is not None:
                job.ending = True
                job.task.cancel()

    def _start(self, build: Build) -> Job:
        job = self._jobs[build.id] = Job(BuildLog(self._log_file(build.id)))

        def ended(_: object) -> None:
            job.log.finish()
            del self._jobs[build.id]

        job.task = self._tasks.start(self._make(build, job), f"build {build.id}")
        job.task.add_done_callback(ended)
        return job

    async def read_log(self, ref: str, *, follow: bool) -> AsyncIterator[bytes]:
        """Yield the log of a build from its beginning; with `follow` until the build ends, if it is under way."""
        job = self._jobs.get(ref)
        async for data in job.log.follow() if follow and job is not None else read_log(self._log_file(ref)):
            yield data

    def _check_ability(self, ability: Ability, what: str) -> None:
        if ability not in self._driver.abilities:
            raise self._driver.cannot(what)

    async def _found_or_new(self, build: Build) -> Build:
        try:
            await self._known.add(build)
        except Conflict:
            found = await self._known.find(build.id) or build
        else:
            return build
        if found.state == "built":  # nobody else writes it any more
            found = msgspec.structs.replace(found, used_at=build.used_at)
            await self._known.save(found)
        return found

    async def _make(self, build: Build, job: Job) -> Image | ToolboxError:
        async with self._turns:
            job.begun.set()
            return await self._run(build, job.log)

    async def _run(self, build: Build, build_log: BuildLog) -> Image | ToolboxError:
        found = await self._known.find(build.id)
        if found is not None and found.image is not None:
            return found.image
        await self._save(build, state="building", error_reason=None)
        try:
            async with build_log:
                try:
                    image = await self._ask_driver(build, build_log)
                except ToolboxError as error:
                    build_log.append(f"{error.message}\n".encode("utf-8", "replace"))
                    raise
        except ToolboxError as error:
            await self._save(build, state="failed", error_reason=error.message)
            return error
        except Exception:  # whoever waits has to hear of it
            log.exception("a build failed", extra={"fields": {"build": build.id}})
            await self._save(build, state="failed", error_reason="internal error")
            return BuildFailed("the image could not be made: internal error")
        await self._save(build, state="built", image=image)
        return image

    async def _ask_driver(self, build: Build, build_log: BuildLog) -> Image:
        if build.image_name is not None:
            return await self._driver.pull(build.image_name, build.id, build_log.append)
        files = []
        for each in build.contexts:
            found = await self._objects.find(_context_key(build.organization_id, each))
            if found is None:
                raise BuildFailed(f"the build context {each} is gone: it has to be uploaded again")
            files.append(self._objects.path(found))
        return await self._driver.build(build.dockerfile, files, build.id, build_log.append)

    async def _save(self, build: Build, **changes: object) -> None:
        await self._known.save(msgspec.structs.replace(build, updated_at=timestamp(), **changes))

    def _log_file(self, ref: str) -> Path:
        return self._directory / f"{ref}.log"


def _new(ref: str) -> Build:
    now = timestamp()
    return Build(id=ref, name=ref, created_at=now, updated_at=now, used_at=now)


def _context_key(organization_id: str, digest: str) -> str:
    return f"{organization_id}/{digest}/context.tar"

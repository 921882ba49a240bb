"""Images: found, pulled, built, made of containers, moved through files, removed."""

import asyncio
import tarfile
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import msgspec
from aiodocker import DockerError

from controlplane.drivers.base import BuildFailed, DriverError, Log
from controlplane.drivers.docker.engine import Engine, Refused
from controlplane.models import Image
from toolbox.errors import BadRequest

_GIB = 1024**3
_CHUNK = 1024 * 1024
_MISSING = 404
_DOCKERFILE = ".sandbox-toolbox/Dockerfile"
"""Where the Dockerfile is in a build's context: no file of the user's has that name."""
_DEBIAN = ("debian:bookworm-slim", "debian:stable-slim", "debian:trixie-slim", "debian:bookworm", "debian:latest")


class DockerImages:
    """The images of one control plane: each has a tag of ours, so that nobody else's is ever removed."""

    def __init__(self, engine: Engine, owner: str, directory: Path) -> None:
        self._engine = engine
        self._repository = f"localhost/sandbox-toolbox-{owner}"
        self._retired = directory

    async def default(self, configured: str | None) -> Image:
        """Return the image of the default snapshot. Raises `DriverError` when there is none."""
        if configured is not None:
            found = await self.find(configured)
            return found or await self._pull(configured, lambda _: None)
        for name in _DEBIAN:
            found = await self.find(name)
            if found is not None:
                return found
        raise DriverError(f"none of {', '.join(_DEBIAN)} is there; name an image by --image")

    async def find(self, name: str) -> Image | None:
        """Return an image that is here. Raises `DriverError`."""
        try:
            async with self._engine.doing(f"find the image {name}") as docker:
                return _described(name, await docker.images.inspect(name))
        except Refused as error:
            if error.engine_status == _MISSING:
                return None
            raise

    async def get(self, name: str, ref: str, log: Log) -> Image:
        """Find an image, else pull it, and give it our tag. Raises `BadRequest`, `BuildFailed`, `DriverError`."""
        if not name.strip() or any(each.isspace() for each in name):
            raise BadRequest(f"image: not a name: {name!r}")
        found = await self.find(name)
        if found is None:
            found = await self._pull(name, log)
        else:
            log(f"{name} is here\n".encode())
        async with self._engine.doing("name an image") as docker:
            await docker.images.tag(name, self._repository, tag=ref)
        return msgspec.structs.replace(found, ref=self.name(ref))

    async def _pull(self, name: str, log: Log) -> Image:
        try:
            async with self._engine.doing(f"pull {name}", seconds=None) as docker:
                async for line in docker.images.pull(name, stream=True):
                    log(_progress(line))
        except Refused as error:
            raise BuildFailed(error.message) from None
        found = await self.find(name)
        if found is None:
            raise DriverError(f"cannot pull {name}: the container engine went away")
        return found

    async def build(self, dockerfile: str, contexts: Collection[Path], ref: str, log: Log) -> Image:
        """Build an image from a Dockerfile and tar files laid over each other. Raises `BuildFailed`, `DriverError`."""
        name = self.name(ref)
        options = {"t": name, "dockerfile": _DOCKERFILE, "rm": "true", "forcerm": "true"}
        try:
            context = await asyncio.to_thread(_context, dockerfile, contexts)
        except (OSError, tarfile.TarError) as error:
            raise BuildFailed(f"the build context cannot be read: {error}") from None
        try:
            async with (
                self._engine.doing("build the image", seconds=None) as docker,
                docker.session.post(
                    self._engine.url("build"),
                    params=options,
                    data=_chunks(context),
                    headers={"Content-Type": "application/x-tar"},
                ) as answer,
            ):
                if not answer.ok:
                    raise DockerError(answer.status, await answer.text())
                async for line in answer.content:
                    if line.strip():
                        _follow_build(msgspec.json.decode(line), log)
        except Refused as error:
            raise BuildFailed(error.message) from None
        finally:
            await asyncio.to_thread(context.close)
        found = await self.find(name)
        if found is None:
            raise DriverError("cannot build the image: the container engine went away")
        return found

    async def commit(self, container: str, ref: str, like: Image) -> Image:
        """Make an image of a container's files, to be used like the one it was made from. Raises `DriverError`.

        It stands still meanwhile, where the engine can do that.
        """
        pause = self._engine.machine.can_freeze
        async with self._engine.doing("copy the sandbox's files", seconds=None) as docker:
            made = docker.containers.container(container)
            await made.commit(repository=self._repository, tag=ref, config={}, pause=pause)
        found = await self.find(self.name(ref))
        if found is None:
            raise DriverError("cannot copy the sandbox's files: the copy is gone")
        return msgspec.structs.replace(like, ref=found.ref, size=found.size)

    async def save(self, name: str, target: Path) -> None:
        """Write an image to a file, whole or not at all. Raises `DriverError`."""
        temporary = target.with_name(f".{target.name}.part")
        file = await asyncio.to_thread(temporary.open, "wb")
        try:
            try:
                async with (
                    self._engine.doing("save the sandbox's files", seconds=None) as docker,
                    docker.images.export_image(name) as content,
                ):
                    async for chunk in content.iter_chunked(_CHUNK):
                        await _write(file, chunk)
            finally:
                await asyncio.to_thread(file.close)
            await asyncio.to_thread(temporary.replace, target)
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)

    async def load(self, source: Path) -> None:
        """Read an image, with its name, from a file that `save` wrote. Raises `DriverError`."""
        try:
            file = await asyncio.to_thread(source.open, "rb")
        except OSError as error:
            raise DriverError(f"cannot read the sandbox's files: {error.strerror}") from None
        try:
            async with self._engine.doing("load the sandbox's files", seconds=None) as docker:
                async for _ in docker.images.import_image(_chunks(file), stream=True):
                    pass
        finally:
            await asyncio.to_thread(file.close)

    async def remove(self, name: str) -> None:
        """Remove an image now, or once the sandboxes made from it are gone. Raises `DriverError`."""
        if not await self._removed(name):
            await asyncio.to_thread((self._retired / name.replace("/", "_").replace(":", "@")).write_text, name)

    async def remove_retired(self) -> None:
        """Remove those images whose time had not come. Raises `DriverError`."""
        for mark in await asyncio.to_thread(lambda: list(self._retired.iterdir())):
            if await self._removed(await asyncio.to_thread(mark.read_text)):
                await asyncio.to_thread(mark.unlink)

    async def _removed(self, name: str) -> bool:
        try:
            async with self._engine.doing("remove an image") as docker:
                # Never by force: that takes containers with it.
                await docker.images.delete(name)
        except Refused as error:
            if error.engine_status == 409:  # noqa: PLR2004
                return False
            if error.engine_status != _MISSING:
                raise
        return True

    async def all(self) -> list[str]:
        """Return the names of all images of ours. Raises `DriverError`."""
        async with self._engine.doing("list images") as docker:
            found = await docker.images.list(filters={"reference": [self._repository]})
        names = [name for each in found for name in each.get("RepoTags") or []]
        return [name for name in names if name.startswith(f"{self._repository}:")]

    def name(self, ref: str) -> str:
        """Return what an image of ours is called."""
        return f"{self._repository}:{ref}"


def _described(name: str, found: Mapping[str, Any]) -> Image:
    config = found.get("Config") or {}
    env = dict(each.partition("=")[::2] for each in config.get("Env") or [])
    return Image(
        ref=name,
        size=round((found.get("Size") or 0) / _GIB, 3),
        entrypoint=[*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])],
        work_dir=config.get("WorkingDir") or None,
        user=config.get("User") or None,
        env=env,
    )


def _progress(line: Mapping[str, Any]) -> bytes:
    words = (line.get("id"), line.get("status"), line.get("progress"))
    return f"{' '.join(str(word) for word in words if word)}\n".encode()


def _follow_build(line: Mapping[str, Any], log: Log) -> None:
    if text := line.get("stream") or line.get("status"):
        log(str(text).encode())
    if error := line.get("error"):
        log(f"{error}\n".encode())
        raise DockerError(0, str(error))


def _context(dockerfile: str, contexts: Collection[Path]) -> IO[bytes]:
    """Return a tar file of all contexts, later ones over earlier ones, and the Dockerfile. Blocks."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- handed to the caller
    try:
        with tarfile.open(fileobj=file, mode="w") as whole:
            for context in contexts:
                with tarfile.open(context) as part:
                    for member in part:
                        whole.addfile(member, part.extractfile(member) if member.isreg() else None)
            data = dockerfile.encode()
            entry = tarfile.TarInfo(_DOCKERFILE)
            entry.size = len(data)
            whole.addfile(entry, BytesIO(data))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


async def _write(file: IO[bytes], data: bytes) -> None:
    try:
        await asyncio.to_thread(file.write, data)
    except OSError as error:  # not the engine's, as any other would seem
        raise DriverError(f"cannot write the archive: {error.strerror}") from None


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk

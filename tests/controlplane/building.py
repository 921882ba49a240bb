"""A real driver with images, small enough to be read: the process driver, with Dockerfiles carried out in directories.

`python -m tests.controlplane.building up` is `toolboxd up` with it.
"""

import asyncio
import json
import os
import shlex
import shutil
import sys
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import msgspec

import controlplane.ground
from controlplane.drivers.base import Ability, BuildFailed, DriverError, Launch, Log, Resources
from controlplane.drivers.process import ProcessDriver
from controlplane.models import CreateSandbox, Image
from toolbox.__main__ import main
from toolbox.children.process import Children


class BuildingDriver(ProcessDriver):
    """Keeps images as directories; a sandbox gets a copy of its image in its home."""

    def __init__(self, state_dir: Path, children: Children, *more: Any, **options: Any) -> None:
        super().__init__(state_dir, children, *more, **options)
        self.images = state_dir / "images"
        self.user = "somebody"

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.abilities |= {Ability.IMAGES, Ability.BUILD}
        return self

    def check(self, wanted: CreateSandbox) -> Resources:
        given = msgspec.structs.replace(
            wanted, build_info=None, snapshot=None, user=None, cpu=None, memory=None, disk=None
        )
        whole = super().check(given)
        return Resources(
            cpu=wanted.cpu or whole.cpu, memory=wanted.memory or whole.memory, disk=wanted.disk or whole.disk
        )

    async def create(self, launch: Launch) -> None:
        await super().create(self._plain(launch))
        if launch.image is not None:
            source = self.images / launch.image.ref
            gate = launch.image.env.get("CREATE_GATE")
            while gate is not None and not await asyncio.to_thread(os.path.exists, gate):
                await asyncio.sleep(0.02)
            if not await asyncio.to_thread(source.is_dir):
                raise DriverError("the image is gone")
            home = self._places.of(launch.id).home
            await asyncio.to_thread(shutil.copytree, source, home, dirs_exist_ok=True)

    async def start(self, launch: Launch) -> Any:
        env = {**(launch.image.env if launch.image is not None else {}), **launch.env}
        env["ENTRYPOINT"] = shlex.join(launch.entrypoint or (launch.image.entrypoint if launch.image else []))
        return await super().start(msgspec.structs.replace(self._plain(launch), env=env))

    def _plain(self, launch: Launch) -> Launch:
        """Return a launch of what the process driver knows: no image, and nobody else."""
        return msgspec.structs.replace(launch, image=None, user=self.user)

    async def pull(self, image: str, ref: str, log: Log) -> Image:
        log(f"pulling {image}\n".encode())
        if not image.startswith("debian"):
            raise BuildFailed(f"cannot pull {image}: there is no such image")
        await asyncio.to_thread((self.images / ref).mkdir, parents=True)
        await asyncio.to_thread((self.images / ref / "name").write_text, image)
        return Image(ref=ref, size=0.5, entrypoint=["sleep", "infinity"], user="app")

    async def build(self, dockerfile: str, contexts: Collection[Path], ref: str, log: Log) -> Image:
        root = self.images / f".{ref}"
        context = self.images / f".{ref}-context"
        for directory in (root, context):
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            await asyncio.to_thread(directory.mkdir, parents=True)
        try:
            for each in contexts:
                await asyncio.to_thread(_unpack, each, context)
            image = Image(ref=ref, size=0.25)
            for line in dockerfile.replace("\\\n", " ").splitlines():
                image = await self._carry_out(line, root, context, image, log)
            await asyncio.to_thread(shutil.rmtree, self.images / ref, ignore_errors=True)
            await asyncio.to_thread(os.replace, root, self.images / ref)
        finally:
            for directory in (root, context):
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        return image

    async def _carry_out(self, line: str, root: Path, context: Path, image: Image, log: Log) -> Image:
        word, _, rest = line.strip().partition(" ")
        log(f"{line}\n".encode())
        match word:
            case "RUN":
                await _run(rest, root, log)
            case "ENV":
                name, _, value = rest.partition("=")
                return msgspec.structs.replace(image, env={**image.env, name: value.strip('"')})
            case "ENTRYPOINT":
                return msgspec.structs.replace(image, entrypoint=json.loads(rest))
            case "USER":
                return msgspec.structs.replace(image, user=rest)
            case "COPY":
                source, target = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
                await asyncio.to_thread(_copy, context / source.lstrip("/"), root / target.lstrip("/"))
        return image

    async def remove_image(self, ref: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self.images / ref, ignore_errors=True)


async def _run(command: str, root: Path, log: Log) -> None:
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        cwd=root,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        while data := await process.stdout.read(64 * 1024):
            log(data)
        code = await process.wait()
    except asyncio.CancelledError:
        process.kill()
        await process.communicate()
        raise
    if code:
        raise BuildFailed(f"{command!r} ended with exit code {code}")


def _unpack(source: Path, target: Path) -> None:
    with tarfile.open(source) as tar:
        tar.extractall(target, filter="data")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


if __name__ == "__main__":
    controlplane.ground.ProcessDriver = BuildingDriver  # type: ignore[attr-defined]
    sys.exit(main())

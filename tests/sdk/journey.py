"""What a user's first script does with the published SDK, sync or async: `python -m tests.sdk.journey sync|async`.

Needs the two exports that `toolboxd up` prints. Works in the current directory and deletes the sandboxes it makes.
"""

import asyncio
import hashlib
import sys
from pathlib import Path
from typing import Any

from daytona import (
    AsyncDaytona,
    CreateSandboxFromSnapshotParams,
    Daytona,
    DaytonaConflictError,
    DaytonaFileNotFoundError,
    DaytonaNotFoundError,
    DaytonaProcessExecutionTimeoutError,
    DaytonaTimeoutError,
    FileDownloadRequest,
    FileUpload,
)

from tests.sdk.clients import Either, items, without_loop

FILES = 100
BIG = 300 << 20


async def journey(daytona: Any) -> None:
    """Go through it all with either client, wrapped in `Either`."""
    params = CreateSandboxFromSnapshotParams(env_vars={"GREETING": "hello"}, labels={"journey": "yes"})
    one, two = await daytona.create(params), await daytona.create()
    try:
        await run_commands(one, two)
        await move_small_files(one.fs, two.fs)
        await move_a_big_file(one)
        listed = [found.id async for found in items(await _list(daytona))]
        assert {one.id, two.id} <= set(listed)
    finally:
        await daytona.delete(one)
        await two.delete(wait=True)
    for gone in (one, two):
        with raises(DaytonaNotFoundError):
            await daytona.get(gone.id)


async def _list(daytona: Any) -> Any:
    return await daytona.list()


async def run_commands(one: Any, two: Any) -> None:
    """Execute with environment, directory and time limit."""
    assert (await one.process.exec("echo $GREETING $1")).result == "hello\n"
    assert (await two.process.exec("echo $GREETING; exit 7")).exit_code == 7
    answer = await one.process.exec('echo "$PWD $NAME"; echo error >&2', cwd="/tmp", env={"NAME": "it's ü"})
    assert (answer.exit_code, answer.result) == (0, "/tmp it's ü\nerror\n")
    with raises(DaytonaProcessExecutionTimeoutError, DaytonaTimeoutError):
        await one.process.exec("sleep 60", timeout=1)
    assert (await one.process.exec("true", timeout=30)).exit_code == 0


async def move_small_files(one: Any, two: Any) -> None:
    """Upload a hundred files, change and list them, and get them back."""
    contents = {f"data/{index:03}.bin": hashlib.sha512(bytes([index])).digest() * index for index in range(FILES)}
    await one.upload_files([FileUpload(content, path) for path, content in contents.items()])
    assert [found.name for found in await one.list_files("data")] == [f"{index:03}.bin" for index in range(FILES)]
    answers = await one.download_files([FileDownloadRequest(path) for path in contents])
    assert {answer.source: answer.result for answer in answers} == contents
    with raises(DaytonaFileNotFoundError):
        await two.download_file("data/001.bin")
    await one.move_files("data", "moved")
    await one.set_file_permissions("moved/007.bin", mode="600")
    info = await one.get_file_info("moved/007.bin")
    assert (info.permissions, info.size, info.is_dir) == ("0600", 64 * 7, False)
    with raises(DaytonaConflictError):
        await one.move_files("moved/001.bin", "moved/002.bin")
    await one.delete_file("moved/001.bin")
    assert len(await one.list_files("moved")) == FILES - 1
    await one.delete_file("moved", recursive=True)
    with raises(DaytonaFileNotFoundError):
        await one.list_files("moved")


async def move_a_big_file(sandbox: Any) -> None:
    """Upload a big file, and get it back as a stream and as a file."""
    block = hashlib.sha512(b"big").digest() * (1 << 14)
    source, target, digest = Path("big"), Path("back"), hashlib.sha256()
    with source.open("wb") as file:
        for index in range(BIG >> 20):
            piece = block[index:] + block[:index]
            file.write(piece)
            digest.update(piece)
    await sandbox.fs.upload_file(str(source), "big")
    source.unlink()
    assert (await sandbox.process.exec("sha256sum < big")).result.split()[0] == digest.hexdigest()
    received = hashlib.sha256()
    async for chunk in items(await sandbox.fs.download_file_stream("big")):
        received.update(chunk)
    assert received.digest() == digest.digest()
    await sandbox.fs.download_file("big", str(target))
    with target.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == digest.digest()
    target.unlink()


class raises:  # noqa: N801 -- as in pytest, which a user's script does not have
    """The block must end with an error of all these kinds."""

    def __init__(self, *kinds: type[Exception]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Swallow the expected error."""
        assert error is not None, f"no {self._kinds}"
        return all(isinstance(error, each_kind) for each_kind in self._kinds)


async def main_async() -> None:
    """Use the async client."""
    async with AsyncDaytona() as daytona:
        await journey(Either(daytona))


def main_sync() -> None:
    """Use the sync client."""
    without_loop(journey(Either(Daytona())))


if __name__ == "__main__":
    if sys.argv[1:] == ["async"]:
        asyncio.run(main_async())
    else:
        main_sync()

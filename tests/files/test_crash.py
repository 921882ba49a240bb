"""A daemon that is killed while files arrive leaves each of them as it was or as it should be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Toolboxd
from toolbox.files.atomic import MARK

UPLOADS = 200
OLD, NEW = b"old" * 100_000, b"new!" * 100_000


@pytest.mark.parametrize("finished", [1, 70])
async def test_every_target_is_old_or_new(
    work: Path, start_toolboxd: Callable[..., Awaitable[Toolboxd]], finished: int
) -> None:
    targets = [work / f"{number:03}" for number in range(UPLOADS)]
    for target in targets[::2]:
        target.write_bytes(OLD)
    toolboxd = await start_toolboxd("serve", "--port", "0", "--work-dir", str(work))
    port = await toolboxd.port()
    done = 0

    async def upload(http: aiohttp.ClientSession, target: Path) -> None:
        nonlocal done

        async def slowly() -> AsyncIterator[bytes]:
            for start in range(0, len(NEW), 100_000):
                yield NEW[start : start + 100_000]
                await asyncio.sleep(0)

        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async with http.post("/files/upload-v2", params={"path": target.name}, data=slowly()) as response:
                assert response.status == 200
                done += 1
                if done == finished:
                    toolboxd.process.kill()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as http:
        await asyncio.gather(*(upload(http, target) for target in targets))
    assert await toolboxd.process.wait() == -9
    contents = {target: target.read_bytes() if target.exists() else None for target in targets}
    for number, target in enumerate(targets):
        assert contents[target] in ((OLD, NEW) if number % 2 == 0 else (None, NEW)), target
    assert sum(content == NEW for content in contents.values()) >= finished
    # What is not a target can only be one that had its temporary name for the moment before the renaming.
    for other in set(work.iterdir()) - set(targets):
        assert other.name.endswith(MARK)
        assert other.read_bytes() == NEW

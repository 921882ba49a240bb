"""Where a daemon takes its memory from."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from tests.conftest import Toolboxd

_RESERVED = 64 * 1024 * 1024
"""What the C library reserves for an arena, at a multiple of it, and makes usable from the start as needed."""
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) 00000000 00:00 0 +$", re.MULTILINE)


def arenas(pid: int) -> list[str]:
    """Return the mappings of a process that are arenas of threads."""
    mappings = list(_MAPPING.finditer(Path(f"/proc/{pid}/maps").read_text()))
    ends = {int(each[1], 16): int(each[2], 16) for each in mappings if each[3] == "---p"}
    return [
        each[0]
        for each in mappings
        if each[3] == "rw-p"
        and int(each[1], 16) % _RESERVED == 0
        and ends.get(int(each[2], 16)) == int(each[1], 16) + _RESERVED
    ]


async def test_threads_share_one_arena(start_toolboxd: Callable[..., Awaitable[Toolboxd]], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    toolboxd = await start_toolboxd("serve", "--port", "0", "--work-dir", str(tmp_path))
    url = f"http://127.0.0.1:{await toolboxd.port()}"

    async with aiohttp.ClientSession(url) as http:

        async def ask(path: str) -> None:
            async with http.get(path) as response:
                assert response.status == 200

        await asyncio.gather(*(ask(path) for path in ("/files?path=.", "/files/download?path=file", "/process") * 8))
    assert len(list(Path(f"/proc/{toolboxd.process.pid}/task").iterdir())) > 3
    assert arenas(toolboxd.process.pid) == []

"""The daemon ends while it is used, and is started again: what was acknowledged is there."""

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.faults.conftest import Remote, Start, content_of, free_port
from tests.recording.conftest import probe

_ACKNOWLEDGED = 30


class Uploads:
    """Uploads one file after the other, whatever happens, and knows which were acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    async def go_on(self, daemon: Remote, until: asyncio.Event) -> None:
        """Upload until told."""
        number = 0
        while not until.is_set():
            number += 1
            try:
                if await daemon.upload(f"file-{number}", content_of(number)) == 200:
                    self.acknowledged.append(number)
            except (OSError, aiohttp.ClientError):  # the server is away
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_daemon_is_restarted_under_load(remote: Start, number: int) -> None:
    port = str(free_port())
    first = await remote("--port", port, "--log-level", "warning")
    assert (await first.call("POST", "/computeruse/start"))[0] == 200
    status, film = await first.call("POST", "/computeruse/recordings/start", {})
    assert status == 201, film
    key = {"Idempotency-Key": "once"}
    body = {"command": "echo x >> once; wc -l < once"}
    assert (await first.call("POST", "/process/execute", body, headers=key))[1]["result"] == "1\n"
    await first.until(lambda: Path(film["filePath"]).read_bytes().count(b"moof") > 1)
    uploads, stop = Uploads(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(uploads.go_on(first, stop))
        await first.until(lambda: len(uploads.acknowledged) > _ACKNOWLEDGED)
        first.process.send_signal(number)
        code = await first.process.wait()
        assert code == (0 if number == signal.SIGTERM else -number)
        again = await remote("--port", port, "--log-level", "warning")
        before = len(uploads.acknowledged)
        await first.until(lambda: len(uploads.acknowledged) > before + _ACKNOWLEDGED)
        stop.set()
    for each in uploads.acknowledged:
        assert (again.home / f"work/file-{each}").read_bytes() == content_of(each), each
    left = {path.name for path in (again.home / "work").iterdir()}
    assert not [name for name in left if "tmp" in name], left
    # What was done once under a key is not done again.
    assert (await again.call("POST", "/process/execute", body, headers=key))[1]["result"] == "1\n"
    status, kept = await again.call("GET", f"/computeruse/recordings/{film['id']}")
    assert (status, kept["status"]) == (200, "completed" if number == signal.SIGTERM else "failed")
    assert (await probe(kept["filePath"]))["frames"] > 0
    await again.works()
    assert (await again.call("POST", "/computeruse/start"))[0] == 200

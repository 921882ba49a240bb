"""The control plane is killed and started again, and its clock is set, under the load of SDK clients."""

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daytona import CreateSandboxFromSnapshotParams, Daytona, DaytonaConfig, DaytonaError, SessionExecuteRequest

from tests.conftest import Toolboxd
from tests.faults.conftest import content_of, free_port

_LINES = "".join(f"{number}\n" for number in range(1, 4001))


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Not here: the sync SDK's clients cannot be closed. The tests look for processes themselves."""


class Client(threading.Thread):
    """An SDK client that goes on whatever happens, and knows what was acknowledged."""

    def __init__(self, config: DaytonaConfig, sandbox: str, name: str) -> None:
        super().__init__(name=name)
        self.stopping = threading.Event()
        self.acknowledged: list[int] = []
        self.wrong: list[str] = []
        self._daytona = Daytona(config)
        self._sandbox = self._daytona.get(sandbox)

    def run(self) -> None:
        """Upload, and run commands that say what they must say, until told."""
        number = 0
        while not self.stopping.is_set():
            number += 1
            path = f"{self.name}-{number}"
            try:
                self._sandbox.fs.upload_file(content_of(number), path, timeout=20)
                self.acknowledged.append(number)
                answer = self._sandbox.process.exec(f"sha512sum < {path}; exit {number % 200}", timeout=20)
            except DaytonaError:
                time.sleep(0.05)
                continue
            expected = (number % 200, hashlib.sha512(content_of(number)).hexdigest() + "  -\n")
            if (answer.exit_code, answer.result) != expected:
                self.wrong.append(f"{number}: {answer}")


def _until(holds: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def _at_work(clients: list[Client]) -> Iterator[None]:
    for client in clients:
        client.start()
    try:
        yield
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()


def _kill_and_restart(config: DaytonaConfig, sandbox: Any, restart: Callable[[], None]) -> None:
    """Kill a control plane twice under the load of SDK clients; nothing acknowledged may be lost."""
    sandbox.process.create_session("kept")
    request = SessionExecuteRequest(command="for n in $(seq 1 4000); do echo $n; sleep 0.001; done", run_async=True)
    command = sandbox.process.execute_session_command("kept", request)
    clients = [Client(config, sandbox.id, name) for name in ("a", "b")]
    with _at_work(clients):
        for _ in range(2):
            before = [len(client.acknowledged) for client in clients]
            _until(
                lambda before=before: all(  # type: ignore[misc]
                    len(client.acknowledged) > count + 5 for client, count in zip(clients, before, strict=True)
                )
            )
            restart()
    assert [client.wrong for client in clients] == [[], []]
    for client in clients:
        for number in client.acknowledged:
            assert sandbox.fs.download_file(f"{client.name}-{number}") == content_of(number)
    _until(lambda: sandbox.process.get_session_command("kept", command.cmd_id).exit_code == 0)
    # It ran on while nobody was there to ask.
    assert sandbox.process.get_session_command_logs("kept", command.cmd_id).stdout == _LINES


async def test_the_control_plane_is_killed_under_load(
    tmp_path: Path, reap_orphans: None, start_toolboxd: Callable[..., Awaitable[Toolboxd]]
) -> None:
    port = str(free_port())
    planes = [await start_toolboxd("up", "--port", port)]
    url = await planes[0].line("export DAYTONA_API_URL=")
    config = DaytonaConfig(api_url=url, api_key=await planes[0].line("export DAYTONA_API_KEY="), target="local")
    loop = asyncio.get_running_loop()

    async def again() -> None:
        planes[-1].process.kill()
        await planes[-1].process.wait()
        planes.append(await start_toolboxd("up", "--port", port))
        await planes[-1].line("export DAYTONA_API_URL=")

    def restart() -> None:
        asyncio.run_coroutine_threadsafe(again(), loop).result(60)

    def use() -> None:
        sandbox = Daytona(config).create(CreateSandboxFromSnapshotParams())
        _kill_and_restart(config, sandbox, restart)
        sandbox.delete(wait=True)

    await asyncio.to_thread(use)
    assert list((tmp_path / "state/controlplane/sandboxes").iterdir()) == []
    code, errors = await planes[-1].end()
    assert code == 0, errors
    left = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if _names(pid, tmp_path)]
    assert left == []


def _names(pid: str, directory: Path) -> bool:
    try:
        return int(pid) != os.getpid() and os.fsencode(directory) in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


async def test_the_clock_of_the_control_plane_is_set(
    tmp_path: Path, faketime: Path, reap_orphans: None, start_toolboxd: Callable[..., Awaitable[Toolboxd]]
) -> None:
    shift = tmp_path / "shift"
    shift.write_text("+0\n")
    faked = {
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(shift),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    plane = await start_toolboxd("up", "--port", "0", env=faked)
    url = await plane.line("export DAYTONA_API_URL=")
    config = DaytonaConfig(api_url=url, api_key=await plane.line("export DAYTONA_API_KEY="), target="local")

    def use() -> None:
        sandbox = Daytona(config).create(CreateSandboxFromSnapshotParams(auto_stop_interval=15))
        before = sandbox.last_activity_at or ""
        shift.write_text(f"+{86_400 * 3}\n")

        def seen() -> bool:
            sandbox.refresh_data()
            return (sandbox.last_activity_at or "") > before

        # Nobody used it, but that was noticed: it was not idle for three days.
        _until(seen)
        assert sandbox.state == "started"
        assert sandbox.process.exec("echo hello").result == "hello\n"
        sandbox.delete(wait=True)

    await asyncio.to_thread(use)

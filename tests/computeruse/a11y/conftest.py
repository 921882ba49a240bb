"""A bare desktop with a session bus, on which tests start real GTK programs."""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.computeruse.programs import display_name
from tests.conftest import Daemon
from toolbox.computeruse.a11y import bus, walk


async def eventually(look: Callable[[], Awaitable[Any]]) -> Any:
    """Return the first result of `look` that is true."""
    async with asyncio.timeout(60):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


@dataclass(frozen=True)
class Accessible:
    """The accessibility of a desktop, and programs on it."""

    daemon: Daemon
    display: str

    async def answer(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """Return status and answer of `GET tree?…`, or of another route, which takes a body."""
        method = "GET" if path.startswith("tree") else "POST"
        async with self.daemon.http.request(method, f"/computeruse/a11y/{path}", json=body or None) as response:
            return response.status, await response.json()

    async def tree(self, query: str = "scope=all") -> dict[str, Any]:
        """Return the root; nothing may be cut off."""
        status, answer = await self.answer(f"tree?{query}")
        assert (status, answer.get("truncated")) == (200, False), answer
        root: dict[str, Any] = answer["root"]
        return root

    async def find(self, **filters: Any) -> list[dict[str, Any]]:
        """Return the matches; nothing may be cut off."""
        status, answer = await self.answer("find", **{"scope": "all", **filters})
        assert (status, answer.get("truncated")) == (200, False), answer
        matches: list[dict[str, Any]] = answer["matches"]
        return matches

    async def one(self, **filters: Any) -> dict[str, Any]:
        """Return the only match, once there is one."""
        (match,) = await eventually(lambda: self.find(**filters))
        found: dict[str, Any] = match
        return found

    async def act(self, what: str, node: dict[str, Any], **fields: str) -> None:
        """Act on a node."""
        assert await self.answer(f"node/{what}", id=node["id"], **fields) == (200, {})

    async def run(self, command: str) -> int:
        """Start a command on the desktop and return its pid; it ends with the daemon."""
        http = self.daemon.http
        name = f"program-{os.urandom(6).hex()}"
        async with http.post("/process/session", json={"sessionId": name}) as response:
            assert response.status == 201
        body = {"command": f"echo $$; exec {command} 2>&1", "runAsync": True}
        async with http.post(f"/process/session/{name}/exec", json=body) as response:
            command_id = (await response.json())["cmdId"]

        async def first_line() -> str:
            async with http.get(f"/process/session/{name}/command/{command_id}/logs") as response:
                return (await response.text()).lstrip("\1").partition("\n")[0]

        return int(await eventually(first_line))

    async def start(self, command: str, **window: str) -> int:
        """Start a program and return its pid, once its window is shown."""
        pid = await self.run(command)

        async def shown() -> bool:
            status, answer = await self.answer("find", scope="pid", pid=pid, states=["showing"], **window)
            return status == 200 and bool(answer["matches"])

        await eventually(shown)
        return pid


@pytest.fixture
async def accessible(runtime: Path, bare: Daemon) -> Accessible:
    """Return the accessibility of a desktop without programs."""
    display = await asyncio.to_thread(display_name)
    variables = {
        "DISPLAY": display,
        "GSETTINGS_BACKEND": "memory",
        "GTK_MODULES": "gail:atk-bridge",
        "HOME": str(runtime),
        "LC_ALL": "C.UTF-8",
        "NO_AT_BRIDGE": "0",
        "XDG_RUNTIME_DIR": str(runtime),
    }
    await _set(bare, variables)
    accessible = Accessible(bare, display)
    if (await bare.execute("printenv DBUS_SESSION_BUS_ADDRESS"))["exitCode"]:
        address = f"unix:path={runtime / 'session'}"
        await accessible.run(f"dbus-daemon --session --nofork --address={address}")
        await eventually(lambda: asyncio.to_thread((runtime / "session").exists))
        await _set(bare, {"DBUS_SESSION_BUS_ADDRESS": address})
        await accessible.run("/usr/libexec/at-spi-bus-launcher --launch-immediately")
    return accessible


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory for programs, its path short enough for sockets, that is there longer than the desktop.

    What belongs to another desktop is out of the environment, and a program on a loaded machine has time to answer.
    """
    for name in ("AT_SPI_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for module, limit in ((bus, "CALL_SECONDS"), (bus, "CONNECT_SECONDS"), (walk, "WALK_SECONDS")):
        monkeypatch.setattr(module, limit, 60.0)
    with tempfile.TemporaryDirectory(prefix="a11y-", dir="/tmp") as directory:
        yield Path(directory)


async def _set(daemon: Daemon, variables: dict[str, str]) -> None:
    async with daemon.http.post("/env", json={"set": variables}) as response:
        assert response.status == 200


@pytest.fixture
async def mousepad(accessible: Accessible) -> int:
    """Start an editor and return its pid."""
    return await accessible.start("mousepad --disable-server", role="text")

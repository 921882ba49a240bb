"""A daemon with a bare desktop, an X server and nothing on it; the whole one takes longer and is for few tests."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.computeruse.desktops import post
from tests.conftest import Daemon, run_daemon
from toolbox.config import ServeConfig


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the daemon wait longer for programs: a loaded machine is slow, and that is no failure."""
    monkeypatch.setattr("toolbox.computeruse.desktop.program.READY_SECONDS", 60.0)
    monkeypatch.setattr("toolbox.computeruse.screen.screen.ANSWER_SECONDS", 60.0)
    monkeypatch.setattr("toolbox.computeruse.windows.windows.REFUSED_SECONDS", 20.0)
    monkeypatch.setattr("toolbox.computeruse.windows.windows.SETTLED_SECONDS", 1.0)


@pytest.fixture
async def bare(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon whose desktop is started, without a session."""
    async with run_daemon(serve_config(desktop="none", resolution="1280x720")) as daemon:
        async with daemon.http.post("/computeruse/start") as response:
            assert response.status == 200, await response.text()
        yield daemon


@pytest.fixture
def make_config(
    serve_config: Callable[..., ServeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ServeConfig]:
    """Return a function that makes a configuration with an empty home and ports of its own."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)

    def make(**options: str) -> ServeConfig:
        return serve_config(**{"desktop": "openbox", "vnc_port": "0", "novnc_port": "0", **options})

    return make


@pytest.fixture
async def openbox(make_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon whose desktop, a light one, is started."""
    async with run_daemon(make_config()) as daemon:
        await post(daemon, "start")
        yield daemon

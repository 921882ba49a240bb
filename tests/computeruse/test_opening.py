"""Opening applications, files and URLs on the desktop."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from Xlib.display import Display

from tests.computeruse.desktops import get, post, until
from tests.conftest import Daemon
from toolbox.computeruse.desktop import ewmh


def titles(name: str) -> list[str]:
    display = Display(name)
    try:
        found = []
        for window in ewmh._value(display, display.screen().root, "_NET_CLIENT_LIST"):
            resource = display.create_resource_object("window", window)
            title = resource.get_full_property(display.get_atom("_NET_WM_NAME"), 0)
            found.append(title.value.decode() if title else "")
        return found
    finally:
        display.close()


async def until_titled(daemon: Daemon, text: str) -> None:
    display = (await get(daemon, "status"))["display"]

    async def there() -> bool:
        return any(text in title for title in await asyncio.to_thread(titles, display))

    await until(there)


async def test_an_application(openbox: Daemon) -> None:
    pid = (await post(openbox, "open", target="xfce4-terminal", args=["--disable-server", "--title=by command"]))["pid"]
    await until_titled(openbox, "by command")
    assert (
        Path(f"/proc/{pid}/cmdline").read_text().startswith("/usr/bin/xfce4-terminal") or Path(f"/proc/{pid}").exists()
    )
    await post(openbox, "stop")
    assert not Path(f"/proc/{pid}").exists()


async def test_a_desktop_entry(openbox: Daemon) -> None:
    applications = Path(os.environ["HOME"]) / ".local/share/applications"
    applications.mkdir(parents=True)
    entry = "[Desktop Entry]\nType=Application\nName=My Editor\nExec=mousepad --disable-server %F\n"
    (applications / "mine.desktop").write_text(entry)
    for target in ("mine", "mine.desktop", "my editor"):
        await post(openbox, "open", target=target)
    await until_titled(openbox, "Mousepad")


async def test_files(openbox: Daemon) -> None:
    program = openbox.work_dir / "program"
    program.write_text('#!/bin/sh\necho "$DISPLAY $*" > ran\n')
    program.chmod(0o755)
    await post(openbox, "open", target="./program", args=["a b", "c"])
    display = (await get(openbox, "status"))["display"]
    ran = openbox.work_dir / "ran"

    async def written() -> bool:
        return ran.exists() and ran.read_text() == f"{display} a b c\n"

    await until(written)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"target": "no-such-thing"}, 404, "no application 'no-such-thing'"),
        ({"target": "/no/such/file"}, 404, "no such file"),
        ({"target": " "}, 400, "target"),
        ({}, 400, "target"),
        ({"target": "a\0b"}, 400, "target"),
        ({"target": "http://127.0.0.1:1/"}, 404, "no web browser is installed"),
    ],
)
async def test_what_cannot_be_opened(
    bare: Daemon, body: Any, status: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bare.http.post("/env", json={"set": {"PATH": "/nowhere"}}) as response:
        assert response.status < 300
    assert text in (await post(bare, "open", status, **body))["message"]


async def test_no_desktop(daemon: Daemon) -> None:
    await post(daemon, "open", 503, target="mousepad")

"""The programs of the desktop: how each is launched, and when it is ready."""

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolbox.computeruse.desktop import ice, segments
from toolbox.computeruse.desktop.program import LaunchFailed, Program, Stage
from toolbox.computeruse.desktop.size import Size
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.computeruse.xserver import XServer

if TYPE_CHECKING:
    from Xlib.display import Display

LOOPBACK = "127.0.0.1"
NOVNC = Path("/usr/share/novnc")
LAUNCHERS = (Path("/usr/libexec/at-spi-bus-launcher"), Path("/usr/lib/at-spi2-core/at-spi-bus-launcher"))
SESSIONS = {"xfce4": "xfce4-session", "openbox": "openbox"}
"""What can run on the desktop, and the program that is it."""
PACKAGES = {
    "Xvfb": "xvfb",
    "dbus-daemon": "dbus",
    "xfce4-session": "xfce4-session",
    "xfwm4": "xfwm4",
    "xfce4-panel": "xfce4-panel",
    "xfdesktop": "xfdesktop4",
    "xfsettingsd": "xfce4-settings",
    "openbox": "openbox",
    "x11vnc": "x11vnc",
    "websockify": "websockify",
}
"""The Debian package of each program."""
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of a socket's other end."""
FALLBACK_SECONDS = 3.0
"""How long a session may take to show its panel once it manages windows."""


def needed(session: str) -> list[str]:
    """Return the programs that a desktop cannot be without."""
    programs = ["Xvfb", "dbus-daemon"]
    if session == "xfce4":
        programs += ["xfce4-session", "xfwm4", "xfce4-panel", "xfdesktop", "xfsettingsd"]
    if session == "openbox":
        programs.append("openbox")
    return programs if session == "none" else [*programs, "x11vnc", "websockify"]


def missing(programs: Sequence[str], path: str) -> list[str]:
    """Return, of each program that is not there, its name and package. Blocks."""
    found = [f"{name} (Debian package {PACKAGES[name]})" for name in programs if shutil.which(name, path=path) is None]
    if "websockify" in programs and not NOVNC.is_dir():
        found.append(f"{NOVNC} (Debian package novnc)")
    return found


def free_port(wanted: int) -> int:
    """Return `wanted`, or another port of the loopback interface if that is taken or 0."""
    for port in (wanted, 0):
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise LaunchFailed("no port is free")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class Xvfb(Program):
    """The X server."""

    name = "xvfb"
    priority = 100

    def __init__(self, stage: Stage, xserver: XServer, display: str, size: Size) -> None:
        super().__init__(stage)
        self.display = display
        """As `$DISPLAY` has it; "" until the first launch, unless it is given."""
        self.size = size
        self._largest = size.largest()
        self._given = display != ""
        self._xserver = xserver

    async def launch(self) -> None:
        """Start it. It takes any free display at first, and later the one that programs already know."""
        number = await self._listen(self.display)
        if not number and self.display and not self._given:
            number = await self._listen("")  # somebody else has it now
        if not number:
            raise await self.failed()
        self.display = f":{number}"
        self.stage.variables["DISPLAY"] = self.display
        self._xserver.disconnect()
        await self._xserver.run(_paint)
        await self.resize(self.size)

    async def _listen(self, display: str) -> str:
        """Start it on a display, "" for any; return its number when it takes connections, "" when it has ended."""
        # The frame buffer cannot grow, so it begins with the largest size there can be.
        screen = f"{self._largest.width}x{self._largest.height}x24"
        return await self.spawn_and_hear(
            lambda descriptor: [
                *("Xvfb", *filter(None, (display,)), "-displayfd", str(descriptor), "-screen", "0", screen),
                *("-dpi", "96", "-s", "0", "-nolisten", "tcp", "-noreset", "-maxclients", "1024"),
            ]
        )

    async def resize(self, size: Size) -> None:
        """Change the size of the screen. Raises `DesktopUnavailable`, and `BadRequest` for one it cannot have."""
        size.check(self._largest)
        from toolbox.computeruse.desktop.randr import set_size  # noqa: PLC0415 -- needs Xlib

        await self._xserver.run(lambda display: set_size(display, size))
        self.size = size


def _paint(display: "Display") -> None:
    root = display.screen().root
    root.change_attributes(background_pixel=0x2E3440)
    root.clear_area(0, 0, 0, 0)
    display.sync()


class SessionBus(Program):
    """The session D-Bus, of this desktop alone."""

    name = "dbus"
    priority = 150

    async def launch(self) -> None:
        """Start it; it is ready when it has said its address."""
        address = await self.spawn_and_hear(
            lambda descriptor: [
                *("dbus-daemon", "--session", "--nofork", "--nopidfile", "--nosyslog"),
                *(f"--print-address={descriptor}", f"--address=unix:path={self.stage.runtime / 'bus'}"),
            ]
        )
        if not address:
            raise await self.failed()


class Accessibility(Program):
    """The launcher of the accessibility bus."""

    name = "atspi"
    priority = 250
    required = False

    def __init__(self, stage: Stage, needs: Sequence[Program], xserver: XServer, launcher: Path) -> None:
        super().__init__(stage, needs)
        self._xserver = xserver
        self._launcher = launcher

    async def launch(self) -> None:
        """Start it; it is ready when the root window names the bus."""
        await self._xserver.run(_forget_bus)
        await self.spawn([str(self._launcher), "--launch-immediately", "--a11y=1"])
        await self.until(lambda: self._xserver.run(_names_bus))


def _forget_bus(display: "Display") -> None:
    display.screen().root.delete_property(display.get_atom("AT_SPI_BUS"))
    display.sync()


def _names_bus(display: "Display") -> bool:
    from Xlib import X  # noqa: PLC0415

    return display.screen().root.get_full_property(display.get_atom("AT_SPI_BUS"), X.AnyPropertyType) is not None


class Session(Program):
    """The desktop environment, or the window manager alone."""

    name = "xfce4"
    priority = 200

    def __init__(
        self, stage: Stage, needs: Sequence[Program], after: Sequence[Program], xserver: XServer, session: str
    ) -> None:
        super().__init__(stage, needs, after)
        self._xserver = xserver
        self._session = session

    async def launch(self) -> None:
        """Start it; it is ready when windows are managed and, of XFCE, desktop and panel are there."""
        from toolbox.computeruse.desktop import ewmh  # noqa: PLC0415 -- needs Xlib

        more = {"DESKTOP_SESSION": "xfce", "XDG_CURRENT_DESKTOP": "XFCE", "XDG_MENU_PREFIX": "xfce-"}
        await self.spawn([SESSIONS[self._session]], more=more if self._session == "xfce4" else None)
        await self.until(lambda: self._xserver.run(ewmh.is_managed))
        await self.until(lambda: self._xserver.run(ewmh.is_answering))
        if self._session == "xfce4":
            # Settings of the user may have no panel: that is no failure.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FALLBACK_SECONDS):
                    await self.until(lambda: self._xserver.run(ewmh.has_desktop_and_panel))

    async def end(self) -> None:
        """End it, and remove what xfce4-session leaves beside our directory."""
        await super().end()
        if self._session == "xfce4":
            await asyncio.to_thread(ice.sweep, self.stage.environ())


class X11vnc(Program):
    """Shows the desktop by VNC: on a unix socket for the daemon and noVNC, and on a port of the loopback interface."""

    name = "x11vnc"
    priority = 300

    def __init__(self, stage: Stage, needs: Sequence[Program], port: int) -> None:
        super().__init__(stage, needs)
        self.port = port
        self.socket = stage.runtime / "vnc"
        self.password = secrets.token_urlsafe(6)
        """VNC has eight characters at most."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to it. Raises `OSError`, also where somebody else listens in its place."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        # The name is in a directory of the workload user, who could lead us, who are root, to a socket of root.
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        user = self.stage.children.user
        if _CREDENTIALS.unpack(peer)[1] != (user.pw_uid if user is not None else os.getuid()):
            writer.close()
            raise PermissionError(errno.EPERM, "somebody else listens in place of x11vnc")
        return reader, writer

    async def launch(self) -> None:
        """Start it; it is ready when it listens."""
        self.port = free_port(self.port)
        password_file = self.stage.private / "vnc-password"
        await asyncio.to_thread(self._write_password, password_file)
        await self.spawn(
            [
                *("x11vnc", "-display", self.stage.variables["DISPLAY"], "-forever", "-shared"),
                # Not -localhost, which refuses the unix socket; without the last of these 5900 is open to the world.
                *("-listen", LOOPBACK, "-noipv6", "-no6", "-rfbportv6", "-1"),
                *("-rfbport", str(self.port), "-unixsock", str(self.socket)),
                *("-passwdfile", f"rm:{password_file}", "-xrandr", "newfbsize"),
                *("-noxrecord", "-nodpms", "-norc", "-nolookup", "-quiet"),
            ]
        )
        await self.until(lambda: _listens(self.port))
        # By itself it can remove the file only where nobody is the workload user.
        await asyncio.to_thread(password_file.unlink, missing_ok=True)

    async def end(self) -> None:
        """End it, and remove the memory that it shared with the X server: killed, it has not."""
        await super().end()
        if self.child is not None:
            await asyncio.to_thread(segments.remove_left, self.child.pid, self.child.started)

    def _write_password(self, path: Path) -> None:
        self.socket.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if self.stage.children.user is not None:
                os.fchown(descriptor, self.stage.children.user.pw_uid, self.stage.children.user.pw_gid)
            os.write(descriptor, self.password.encode() + b"\n")
        finally:
            os.close(descriptor)


class Novnc(Program):
    """The web server of the noVNC page, and the bridge from its websocket to VNC."""

    name = "novnc"
    priority = 400

    def __init__(self, stage: Stage, x11vnc: X11vnc, port: int) -> None:
        super().__init__(stage)
        self.port = port
        self._x11vnc = x11vnc

    async def launch(self) -> None:
        """Start it; it is ready when it listens."""
        self.port = free_port(self.port)
        await self.spawn(
            [
                *("websockify", f"--web={self.stage.private / 'novnc'}", "--heartbeat=30"),
                *(f"--unix-target={self._x11vnc.socket}", f"{LOOPBACK}:{self.port}"),
            ]
        )
        await self.until(lambda: _listens(self.port))


def find_launcher(path: str) -> Path | None:
    """Return the launcher of the accessibility bus, if it is there. Blocks."""
    found = shutil.which("at-spi-bus-launcher", path=path)
    return Path(found) if found else next(filter(Path.is_file, LAUNCHERS), None)


def require(session: str, path: str) -> None:
    """Raise `DesktopUnavailable` if a program is missing. Blocks."""
    if lacking := missing(needed(session), path):
        details = "not installed: " + ", ".join(lacking)
        raise DesktopUnavailable(f"Failed to start computer use: {details}", details=details)

"""The directory of one run of the desktop: sockets, settings that XFCE starts with, the page of noVNC."""

import html
import json
import os
import shutil
from pathlib import Path

from toolbox.children.scratch import Scratch

SETTINGS = Path(__file__).parent / "xdg"
PAGE = Path(__file__).parent / "vnc.html"
_INDEX = "index.html"
_OWN_PAGE = "vnc.html"


def make_runtime(scratch: Scratch) -> Path:
    """Make the directory, for the workload user alone. Blocks. Raises `OSError`."""
    path = scratch.make("desktop", for_sockets=True)
    shutil.copytree(SETTINGS, path / "xdg")
    for directory, _, files in os.walk(path / "xdg"):
        scratch.own(Path(directory), *(Path(directory, name) for name in files))
    return path


def modules(novnc: Path) -> list[str]:
    """Return the JavaScript modules that the VNC client may load, relative to `novnc`. Blocks."""
    found = [path for name in ("core", "vendor") for path in (novnc / name).rglob("*.js")]
    return sorted(str(path.relative_to(novnc)) for path in found)


def render_page(novnc: Path, password: str) -> str:
    """Return the page that connects by itself. Blocks."""
    settings = json.dumps({"modules": modules(novnc), "password": password}).replace("<", "\\u003c")
    return PAGE.read_text().replace("/*SETTINGS*/ null", settings)


def make_web_root(root: Path, novnc: Path, password: str) -> None:
    """Make what noVNC's own web server shows: its files, and pages that know the password. Blocks.

    A foreign web page can open a websocket to that server, but not read the password.
    """
    root.mkdir(exist_ok=True)
    for entry in novnc.iterdir():
        (root / entry.name).unlink(missing_ok=True)
        if entry.name != _OWN_PAGE:
            (root / entry.name).symlink_to(entry)
    page = (novnc / _OWN_PAGE).read_text()
    login = html.escape(json.dumps(password), quote=False)
    script = f"<script>if (!/password=/.test(location.hash)) location.hash += '&password=' + {login};</script>"
    (root / _OWN_PAGE).write_text(page.replace("<head>", f"<head>{script}", 1))
    (root / _INDEX).write_text(render_page(novnc, password))

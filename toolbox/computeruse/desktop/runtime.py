"""The directory of one run of the desktop.

Ours, where nobody else can change what programs are given to read (the page of noVNC, a password), and in it the
workload user's own: sockets, and the settings that XFCE starts with.
"""

import html
import json
import os
import shutil
from pathlib import Path

from toolbox.children.scratch import Scratch

SETTINGS = Path(__file__).parent / "xdg"
PAGE = Path(__file__).parent / "vnc.html"
_OWN = "own"
_INDEX = "index.html"
_OWN_PAGE = "vnc.html"


def make_runtime(scratch: Scratch) -> tuple[Path, Path]:
    """Make both directories; return ours and the workload user's. Blocks. Raises `OSError`."""
    path = scratch.make("desktop", for_sockets=True)
    own = path / _OWN
    own.mkdir(mode=0o700)
    shutil.copytree(SETTINGS, own / "xdg")
    for directory, _, files in os.walk(own, topdown=False):
        scratch.own(*(Path(directory, name) for name in files), Path(directory))
    return path, own


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
    root.chmod(0o755)  # the server runs as the workload user
    for entry in novnc.iterdir():
        (root / entry.name).unlink(missing_ok=True)
        if entry.name != _OWN_PAGE:
            (root / entry.name).symlink_to(entry)
    page = (novnc / _OWN_PAGE).read_text()
    login = html.escape(json.dumps(password), quote=False)
    script = f"<script>if (!/password=/.test(location.hash)) location.hash += '&password=' + {login};</script>"
    pages = {_OWN_PAGE: page.replace("<head>", f"<head>{script}", 1), _INDEX: render_page(novnc, password)}
    for name, text in pages.items():
        (root / name).write_text(text)
        (root / name).chmod(0o644)

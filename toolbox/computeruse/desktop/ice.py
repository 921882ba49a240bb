"""What sessions of XFCE leave when they are ended: the sockets of their clients, and notes on how to forget those."""

import os
import re
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

SOCKETS = Path("/tmp/.ICE-unix")  # noqa: S108 -- where libICE puts them
_NOTES = ".xfsm-ICE-*"
_NAMED = re.compile(r"\.ICE-unix/(\d+)")
_MAX_LETTERS = 4096


def sweep(environ: Mapping[str, str]) -> None:
    """Remove sockets at which nobody listens, and the notes about them of sessions with this environment. Blocks."""
    with suppress(OSError):
        for path in SOCKETS.iterdir():
            # One of another pid namespace may share the directory: what counts is whether somebody listens.
            if path.name.isdigit() and not Path(f"/proc/{path.name}").exists() and not _listens(path):
                with suppress(OSError):
                    path.unlink()
    with suppress(OSError):
        for path in Path(environ.get("TMPDIR") or "/tmp").glob(_NOTES):  # noqa: S108 -- where GLib puts them
            with suppress(OSError):
                named = _NAMED.search(_text(path))
                if named is not None and not (SOCKETS / named[1]).exists():
                    path.unlink()


def _listens(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # not ours to reach, or too busy
            return True
    return True


def _text(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, errors="replace") as file:
        return file.read(_MAX_LETTERS)

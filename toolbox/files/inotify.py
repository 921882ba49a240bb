"""inotify(7), by way of the C library.

A binding of our own, since the one there is for asyncio (asyncinotify) starts `ldconfig`, or a compiler, when it is
imported, asks for close-on-exec where it means non-blocking, and makes path objects of every event.
"""

import ctypes
import os
import struct
from typing import NamedTuple

MODIFY = 0x2
ATTRIB = 0x4
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
UNMOUNT = 0x2000
OVERFLOW = 0x4000
IGNORED = 0x8000
ONLYDIR = 0x1000000
DONT_FOLLOW = 0x2000000
EXCL_UNLINK = 0x4000000
ISDIR = 0x40000000

CHANGES = CREATE | DELETE | MODIFY | ATTRIB | MOVED_FROM | MOVED_TO | DELETE_SELF | MOVE_SELF | EXCL_UNLINK
"""Whatever changes a file or what is in a directory."""

_HEAD = struct.Struct("iIII")
_READ_BYTES = 16 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    """What the kernel tells: about which watch, what, which rename it belongs to, and which name in the directory."""

    watch: int
    mask: int
    cookie: int
    name: str


class Inotify:
    """One queue of the kernel's events. Raises `OSError` (EMFILE: too many of them)."""

    def __init__(self) -> None:
        self.descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, path: str, mask: int) -> int:
        """Watch a file or directory, or change what is watched of it; return its number. Raises `OSError`."""
        return _checked(_libc.inotify_add_watch(self.descriptor, os.fsencode(path), ctypes.c_uint32(mask)), path)

    def remove(self, watch: int) -> None:
        """Watch no longer. Raises `OSError`."""
        _checked(_libc.inotify_rm_watch(self.descriptor, watch))

    def read(self) -> list[Event]:
        """Return some hundred events at most, none if there are none; never waits."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            watch, mask, cookie, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            name = data[at : at + length].rstrip(b"\0")
            at += length
            events.append(Event(watch, mask, cookie, os.fsdecode(name)))
        return events

    def close(self) -> None:
        """Forget all watches; of many, that takes the kernel a while."""
        os.close(self.descriptor)


def _checked(result: int, path: str | None = None) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result

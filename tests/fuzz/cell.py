"""A place where random requests do no harm: `python cell.py DIRECTORY PROGRAM ARGUMENT...`, started by `unshare`.

The program sees this machine's files read-only but for the directory, other processes not at all, and no network but a
loopback of its own. Whatever it starts ends with it.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

UNSHARE = ("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc")
"""What runs this file, as root."""
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    names = (os.fsencode(source), os.fsencode(target), os.fsencode(kind))
    done: int = _LIBC.mount(*names, ctypes.c_ulong(flags), data.encode())
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _mount_points() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(line.split()[4].encode().decode("unicode_escape")) for line in lines]


def close_off(directory: Path, kept: Sequence[Path]) -> None:
    """Leave nothing writable but `directory`; what is `kept` stays to be seen even in a place that is emptied."""
    _mount("none", Path("/"), flags=_MS_REC | _MS_PRIVATE)
    for point in dict.fromkeys(_mount_points()):
        # A mount point below another mount is out of reach, and so needs none.
        if point != Path("/proc") and point.exists():
            _mount("none", point, flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY)
    places = {place: os.open(place, os.O_PATH | os.O_DIRECTORY) for place in (directory, *kept)}
    _mount("tmpfs", Path("/tmp"), "tmpfs", data="mode=1777")
    _mount("tmpfs", Path("/dev/shm"), "tmpfs", data="mode=1777")
    _mount("devpts", Path("/dev/pts"), "devpts", data="newinstance,ptmxmode=0666,mode=0620")
    for place, descriptor in places.items():
        if place == directory or place.is_relative_to("/tmp"):
            place.mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{descriptor}", place, flags=_MS_BIND)
            flags = 0 if place == directory else _MS_RDONLY
            _mount("none", place, flags=_MS_REMOUNT | _MS_BIND | flags)
        os.close(descriptor)


def check(directory: Path) -> None:
    """Raise `RuntimeError` where something beside `directory` can be written to, and `OSError` where that cannot."""
    for place in (Path("/"), Path("/etc"), Path("/var/tmp"), Path(__file__).parent):
        try:
            (place / ".cell").touch()
        except OSError as error:
            if error.errno == errno.EROFS:
                continue
            raise
        raise RuntimeError(f"{place} can be written to")
    (directory / ".cell").touch()


def enter_network(pid: int) -> None:
    """Put the calling thread into the network of a process."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
        if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def raise_loopback() -> None:
    """Bring up the one interface there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


if __name__ == "__main__":
    writable = Path(sys.argv[1])
    close_off(writable, [Path(__file__).parents[2], Path(sys.prefix)])
    check(writable)
    raise_loopback()
    os.execv(sys.argv[2], sys.argv[2:])

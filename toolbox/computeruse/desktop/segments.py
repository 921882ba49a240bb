"""Shared memory (System V) that a program left because it was killed: the kernel keeps it, and has only so much."""

import ctypes
from contextlib import suppress
from pathlib import Path

_SEGMENTS = Path("/proc/sysvipc/shm")
_IPC_RMID = 0


def remove_left(creator: int, since: float) -> None:
    """Remove the segments that process `creator`, which has ended, made after `since` (a time of day). Blocks.

    One that the X server is still attached to goes when that lets it go.
    """
    if Path(f"/proc/{creator}").exists():  # it did not end after all, or the pid is another's by now
        return
    with suppress(OSError):
        shmctl = ctypes.CDLL(None, use_errno=True).shmctl
        header, *lines = _SEGMENTS.read_text().splitlines()
        for line in lines:
            segment = dict(zip(header.split(), map(int, line.split()), strict=True))
            if segment["cpid"] == creator and segment["ctime"] >= int(since):
                shmctl(segment["shmid"], _IPC_RMID, None)

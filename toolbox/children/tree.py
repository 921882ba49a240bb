"""What `/proc` says about processes, and which of them belong to a child."""

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

MARKER = "TOOLBOX_CHILD"
"""Environment variable that names the child a process descends from, wherever it moved to."""

NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
"""Errors of a daemon that cannot look, which is another thing than that there is nothing to see."""
_PF_EXITING = 0x4


class Stat(NamedTuple):
    """One process as `/proc/{pid}/stat` shows it."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int
    """Start time in clock ticks since boot: with the pid, an identity that is never reused."""
    cpu_ticks: int
    """Time used, user and system, in clock ticks."""
    resident_pages: int


def read_stat(pid: int) -> Stat | None:
    """Return the process, or None if there is none. Raises `OSError` when no descriptor is left to look with."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 -- on the kill path, of hundreds of processes
            text = file.read()
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise
        return None
    # The command name, in parentheses, may itself contain anything.
    words = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid,
        state=words[0].decode(),
        parent=int(words[1]),
        group=int(words[2]),
        session=int(words[3]),
        start_ticks=int(words[19]),
        cpu_ticks=int(words[11]) + int(words[12]),
        resident_pages=int(words[21]),
    )


def is_exiting(pid: int) -> bool:
    """Tell whether the process is on its way out (the kernel frees its memory), or gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return True
    return bool(int(text[text.rindex(b")") + 2 :].split()[6]) & _PF_EXITING)


def all_processes() -> Iterator[Stat]:
    """Yield every process that can be seen."""
    for name in os.listdir("/proc"):  # noqa: PTH208 -- names only, no Path objects
        if name.isdigit() and (stat := read_stat(int(name))) is not None:
            yield stat


def direct_children() -> list[int]:
    """Return the pids of this process's own children."""
    pids: list[int] = []
    try:
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208
            with open(f"/proc/self/task/{thread}/children", "rb") as file:  # noqa: PTH123
                pids += map(int, file.read().split())
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        me = os.getpid()
        pids = [stat.pid for stat in all_processes() if stat.parent == me]
    return pids


def members(root: int, marker: str, *, root_ended: bool) -> list[Stat]:
    """Return the live processes of the child `root`, itself included.

    They are its group, its session, their descendants, and processes that left all three (double fork, `setsid`) but
    still carry the child's marker in their environment.
    """
    processes = {stat.pid: stat for stat in all_processes() if stat.state not in "ZX"}
    found: set[int] = set()
    # A pid is not given out again while a group or session bears it. So if the child has ended and its pid is in use,
    # that is a stranger and nothing of the old group is left.
    if not (root_ended and root in processes):
        found = {pid for pid, stat in processes.items() if root in (pid, stat.group, stat.session)}
    return _with_marked_and_descendants(processes, found, marker)


def marked(marker: str) -> list[Stat]:
    """Return the live processes whose marker begins with `marker`, and their descendants."""
    processes = {stat.pid: stat for stat in all_processes() if stat.state not in "ZX"}
    return _with_marked_and_descendants(processes, set(), marker)


def _with_marked_and_descendants(processes: dict[int, Stat], found: set[int], marker: str) -> list[Stat]:
    needle = f"{MARKER}={marker}".encode()
    found = found | {pid for pid in processes.keys() - found if _has_variable(pid, needle)}
    while descendants := {pid for pid, stat in processes.items() if stat.parent in found} - found:
        found |= descendants
    found.discard(os.getpid())
    # Oldest first: a shell that is to be killed must not live to tell of its children's end.
    return sorted((processes[pid] for pid in found), key=lambda stat: (stat.start_ticks, stat.pid))


def _has_variable(pid: int, needle: bytes) -> bool:
    """Tell whether a variable of the process begins with `needle` (`NAME=start of value`)."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return b"\0" + needle in b"\0" + file.read()
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise
        return False

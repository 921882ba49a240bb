"""Signals for many processes at once, none of which need be a child of ours."""

import contextlib
import os
import signal
from collections.abc import Iterable

from toolbox.children import tree


def signal_each(processes: Iterable[tree.Stat], number: int) -> list[int]:
    """Signal the processes and return a pidfd of each that could be signalled, the caller's to close.

    Raises `OSError` without descriptors.
    """
    watched: list[int] = []
    try:
        for stat in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                watched.append(_signal(stat, number))
    except OSError:
        for pidfd in watched:
            os.close(pidfd)
        raise
    return watched


def _signal(process: tree.Stat, number: int) -> int:
    """Signal a process and return a pidfd of it. Raises `ProcessLookupError`, `PermissionError`, `OSError`."""
    pidfd = os.pidfd_open(process.pid)
    try:
        # The pid may have been reused between the look and the open: the start time tells.
        again = tree.read_stat(process.pid)
        if again is None or again.start_ticks != process.start_ticks:
            raise ProcessLookupError
        signal.pidfd_send_signal(pidfd, number)
        if number == signal.SIGTERM:
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)  # a stopped process cannot act on TERM
    except OSError:
        os.close(pidfd)
        raise
    return pidfd

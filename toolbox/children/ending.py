"""Signals for many processes at once, none of which need be a child of ours."""

import os
import signal
from collections.abc import Iterable

from toolbox.children import tree


def signal_each(processes: Iterable[tree.Stat], number: int) -> list[int]:
    """Signal the processes and return a pidfd of each that could be signalled, the caller's to close."""
    watched = []
    for stat in processes:
        try:
            pidfd = os.pidfd_open(stat.pid)
        except OSError:
            continue
        # The pid may have been reused between the look and the open: the start time tells.
        again = tree.read_stat(stat.pid)
        try:
            if again is None or again.start_ticks != stat.start_ticks:
                raise ProcessLookupError
            signal.pidfd_send_signal(pidfd, number)
            if number == signal.SIGTERM:
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)  # a stopped process cannot act on TERM
        except OSError:
            os.close(pidfd)
            continue
        watched.append(pidfd)
    return watched

"""The processes that were started through the API: what they use, and signals to them."""

import asyncio
import os
import signal
from collections import defaultdict
from datetime import UTC, datetime

import msgspec

from toolbox.children import tree
from toolbox.children.process import Child, Children
from toolbox.errors import BadRequest, Gone, NotFound
from toolbox.process.models import ProcessInfo

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class Processes:
    """Looks at the children of the daemon."""

    def __init__(self, children: Children) -> None:
        self._children = children

    async def all(self) -> list[ProcessInfo]:
        """Return every child that lives, and the last ones that ended, oldest first."""
        sessions: defaultdict[int, list[tree.Stat]] = defaultdict(list)
        for stat in await asyncio.to_thread(lambda: list(tree.all_processes())):
            if stat.state not in "ZX":
                sessions[stat.session].append(stat)
        return [_info(child, [] if child.exit else sessions[child.pid]) for child in self._children]

    def send_signal(self, process_id: str, wanted: str | int, *, group: bool) -> None:
        """Signal a child. Raises `NotFound`, `Gone` when it has ended, `BadRequest` for a signal there is not."""
        number = _signal_number(wanted)
        child = next((child for child in self._children if _id(child) == process_id), None)
        if child is None:
            raise NotFound(f"process not found: {process_id}", code="PROCESS_NOT_FOUND")
        if child.exit is not None:
            raise Gone(f"process has ended: {process_id}")
        if group:
            child.send_signal_to_group(number)
        else:
            child.send_signal(number)


def _id(child: Child) -> str:
    return child.marker.rstrip("-")


def _info(child: Child, members: list[tree.Stat]) -> ProcessInfo:
    end = child.exit
    return ProcessInfo(
        id=_id(child),
        command=child.label,
        pid=child.pid,
        group=child.pid,
        started_at=datetime.fromtimestamp(child.started, UTC).isoformat().replace("+00:00", "Z"),
        status="running" if end is None else "exited",
        exit_code=msgspec.UNSET if end is None else end.shell_code,
        cause=(end.cause if end else None) or msgspec.UNSET,
        processes=len(members),
        rss_bytes=sum(stat.resident_pages for stat in members) * _PAGE,
        cpu_seconds=sum(stat.cpu_ticks for stat in members) / _TICKS,
    )


def _signal_number(wanted: str | int) -> int:
    try:
        if isinstance(wanted, str) and not wanted.isdigit():
            name = wanted.upper()
            return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        return signal.Signals(int(wanted))
    except (KeyError, ValueError):
        raise BadRequest(f"no such signal: {wanted!r}") from None

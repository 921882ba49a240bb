"""Which processes the kernel should kill first when memory runs out, and whether it did."""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

CHILD_SCORE = 500
DAEMON_SCORE = -500


class OomScores:
    """Gives children a higher out-of-memory score than the daemon.

    The score is inherited at fork, so the daemon raises its own around the spawn: no race with what the child starts
    at once, and no extra program between fork and exec. Raising is open to anyone, and so is going back to the score
    the daemon began with.
    """

    def __init__(self) -> None:
        self._file = -1
        self._own = b"0"

    def open(self) -> None:
        """Lower the daemon's own score where that is allowed."""
        try:
            self._file = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._own = os.pread(self._file, 16, 0).strip()
            if int(self._own) >= CHILD_SCORE:
                self.close()
                return
            os.pwrite(self._file, str(DAEMON_SCORE).encode(), 0)
            self._own = str(DAEMON_SCORE).encode()
        except PermissionError:
            pass
        except OSError as error:
            log.info("out-of-memory scores are not available: %s", error)
            self.close()

    def close(self) -> None:
        """Stop setting scores."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> None:
        if self._file >= 0:
            os.pwrite(self._file, str(CHILD_SCORE).encode(), 0)

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.pwrite(self._file, self._own, 0)


class OomCounter:
    """Tells whether the kernel killed something of this cgroup for memory since it was last asked."""

    def __init__(self) -> None:
        self._path = _counter_file()
        self._last = self._read()

    def increased(self) -> bool:
        """Tell whether the count went up since the last call."""
        count = self._read()
        grew = count > self._last
        self._last = count
        return grew

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            for line in self._path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        except OSError:
            pass
        return 0


def _counter_file() -> Path | None:
    """Return the file with this cgroup's `oom_kill` count (v2 or v1), seen from inside or outside its namespace."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            candidates = [Path(f"/sys/fs/cgroup{path}/memory.events"), Path("/sys/fs/cgroup/memory.events")]
        elif controllers == "memory":
            base = Path("/sys/fs/cgroup/memory")
            candidates = [Path(f"{base}{path}/memory.oom_control"), base / "memory.oom_control"]
        else:
            continue
        for candidate in candidates:
            if candidate.exists():
                return candidate
    return None

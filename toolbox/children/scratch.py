"""Temporary directories with files for children: below one directory of this daemon.

The workload user gets through to the files in them, and no further: what the daemon makes there must not be exchanged
for a link before it writes to it or gives it away.

They are not in the state directory: that may be where the workload user cannot go, or too long a path for sockets.
"""

import fcntl
import os
import pwd
import re
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

MAX_PLACE = 40
"""Longest path of a place for directories with sockets, in bytes: the name of a socket has 107 at most."""
_PREFIX = "toolboxd."
_OURS = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}")


class Scratch:
    """Makes them. All of it blocks: for threads.

    The daemon's own directory is made when it is first needed, and locked as long as it lives: so its successors know
    what it has left when it was killed, and systemd-tmpfiles leaves it alone.
    """

    def __init__(self, user: pwd.struct_passwd | None) -> None:
        self._user = user
        self._roots: dict[str, tuple[Path, int]] = {}
        self._making = threading.Lock()

    def make(self, kind: str, *, for_sockets: bool = False) -> Path:
        """Make a directory, its name beginning with `kind`, for us, and for the user to pass. Raises `OSError`.

        One `for_sockets` has a short path.
        """
        place = _short_place() if for_sockets else tempfile.gettempdir()
        with self._making:
            if place not in self._roots:
                self._roots[place] = _make_root(place)
        path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self._roots[place][0]))
        if self._user is not None:
            os.chown(path, -1, self._user.pw_gid)
            path.chmod(0o710)
        return path

    def own(self, *paths: Path | str) -> None:
        """Give files to the workload user. Raises `OSError`."""
        if self._user is not None:
            for path in paths:
                os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def remove(self) -> None:
        """Remove all that is left."""
        for path, lock in self._roots.values():
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
        self._roots.clear()

    def sweep(self) -> None:
        """Remove what daemons of this user have left that were killed."""
        for place in {_short_place(), tempfile.gettempdir()}:
            with suppress(OSError), os.scandir(place) as entries:
                for entry in entries:
                    if _OURS.fullmatch(entry.name):
                        with suppress(OSError):
                            _remove_if_dead(entry.path)


def _short_place() -> str:
    configured = tempfile.gettempdir()
    return configured if len(os.fsencode(configured)) <= MAX_PLACE else "/tmp"  # noqa: S108 -- for directories made anew


def _make_root(place: str) -> tuple[Path, int]:
    """Make a directory of this daemon and lock it; return its path and the descriptor that holds the lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        path.chmod(0o711)  # the workload user goes through
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if path.exists():
            return path, descriptor
        os.close(descriptor)  # a sweep has taken it for a dead daemon's, before it was locked


def _remove_if_dead(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its daemon lives
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)

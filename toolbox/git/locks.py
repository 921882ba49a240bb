"""Locks that a git of ours left in a repository because it was killed: nobody else would ever remove them."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress

from toolbox.children import tree
from toolbox.errors import ToolboxError
from toolbox.git import repository
from toolbox.git.repository import Repository
from toolbox.paths import lossy

log = logging.getLogger(__name__)

Locks = dict[str, tuple[int, int]]
"""What identifies the file of each lock, by its path."""


def held(found: Repository) -> Locks:
    """Return the locks of the whole repository, of its index, HEAD, configuration. Raises `OSError`."""
    locks: Locks = {}
    for directory in {found.git_dir, found.common_dir}:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(".lock"):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        locks[entry.path] = (status.st_ino, status.st_ctime_ns)
    return locks


def remove_left(found: Repository, before: Locks, ceiling: str) -> None:
    """Remove the locks that were not there `before`, unless another git works here, whose they may be."""
    left = [path for path, identity in held(found).items() if before.get(path) != identity]
    if not left or any(_is_at_work(found, directory, ceiling) for directory in _directories_of_git()):
        return
    for path in left:
        with suppress(FileNotFoundError):
            os.unlink(path)
        log.warning("removed the lock of a git that was killed", extra={"fields": {"path": lossy(path)}})


def _is_at_work(found: Repository, directory: str, ceiling: str) -> bool:
    with suppress(ToolboxError, OSError):
        return repository.find(directory, ceiling).common_dir == found.common_dir
    return False


def _directories_of_git() -> Iterator[str]:
    for stat in tree.all_processes():
        with suppress(OSError):
            if os.path.basename(os.readlink(f"/proc/{stat.pid}/exe")) == "git":
                yield os.readlink(f"/proc/{stat.pid}/cwd")

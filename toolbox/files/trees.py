"""Removal of whole directory trees, safe against links and of any depth."""

import contextlib
import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_RESCANS = 16


class _Level:
    """A directory on the way down: its identity, and the sub-directories still to be removed."""

    __slots__ = ("identity", "name", "rescans", "waiting")

    def __init__(self, name: str, directory: int) -> None:
        self.name = name
        self.identity = _identity(directory)
        self.waiting: list[str] = []
        self.rescans = 0


def remove_tree(path: str) -> None:
    """Delete the directory `path` and all below it. Raises `OSError`; what was deleted before that stays deleted.

    Everything happens relative to an open directory and links are never followed, so a directory swapped for a link
    meanwhile cannot lead out of the tree. One descriptor is open at a time, whatever the depth: the way back up is
    `..`, checked to be the directory that we came from.
    """
    here = os.open(path, _DIRECTORY)
    try:
        levels = [_Level("", here)]
        levels[0].waiting = _remove_files(here)
        while levels:
            level = levels[-1]
            if level.waiting:
                name = level.waiting.pop()
                with contextlib.suppress(FileNotFoundError):
                    below = os.open(name, _DIRECTORY, dir_fd=here)
                    os.close(here)
                    here = below
                    levels.append(_Level(name, here))
                    levels[-1].waiting = _remove_files(here)
                continue
            levels.pop()
            if levels:
                here = _climb(here, levels[-1])
                _remove_directory(level, levels[-1], here)
    finally:
        os.close(here)
    os.rmdir(path)


def _remove_files(directory: int) -> list[str]:
    """Delete what is not a directory, and directories that are empty; return the names of the rest."""
    rest = []
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        try:
            if is_directory:
                rest.append(name)
            else:
                os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            continue
        except IsADirectoryError:
            rest.append(name)
    return rest


def _climb(here: int, level: _Level) -> int:
    above = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
    if _identity(above) != level.identity:
        os.close(above)
        raise OSError(errno.EBUSY, "the tree was moved while it was being deleted")
    os.close(here)
    return above


def _remove_directory(level: _Level, above: _Level, here: int) -> None:
    try:
        os.rmdir(level.name, dir_fd=here)
    except FileNotFoundError:
        return
    except OSError as error:
        # Something was created in it meanwhile: once more, but not for ever.
        above.rescans += 1
        if error.errno != errno.ENOTEMPTY or above.rescans > _RESCANS:
            raise
        above.waiting.append(level.name)


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError
    return status.st_dev, status.st_ino

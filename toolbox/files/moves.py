"""Moving files and directories: in one step that replaces nothing, or to another file system by way of a copy."""

import ctypes
import errno
import os
import stat

from toolbox import paths
from toolbox.errors import Conflict, InvalidPath
from toolbox.files.atomic import temporary_name
from toolbox.files.copies import copy_tree, snapshot
from toolbox.files.trees import remove_tree

_NOREPLACE = 1
_EXCHANGE = 2
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def move(source: str, destination: str) -> None:
    """Give `source` the path `destination`; links are moved as such.

    Nothing is ever replaced but a link that leads nowhere. Raises `Conflict` if the destination exists, `InvalidPath`
    for a directory into itself, `OSError`.
    """
    status = os.lstat(source)
    if stat.S_ISDIR(status.st_mode) and _is_inside(destination, status):
        raise InvalidPath(f"a directory cannot be moved into itself: {paths.lossy(source)}")
    try:
        _rename(source, destination)
    except FileExistsError:
        if not _replace_dangling_link(source, destination):
            raise Conflict(f"destination exists: {paths.lossy(destination)}") from None
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(source, destination)


def _is_inside(path: str, directory: os.stat_result) -> bool:
    """Tell whether `path` would lie below `directory`."""
    above = os.path.realpath(paths.parent(path))
    while True:
        try:
            if os.path.samestat(os.stat(above), directory):
                return True
        except FileNotFoundError:
            pass
        if above == "/":
            return False
        above = paths.parent(above)


def _rename(source: str, destination: str) -> None:
    """Rename; raise `FileExistsError` rather than replace anything."""
    try:
        _renameat2(source, destination, _NOREPLACE)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _rename_in_steps(source, destination)


def _rename_in_steps(source: str, destination: str) -> None:
    """Rename on a file system that cannot refuse to replace (some network ones)."""
    if not os.path.isdir(source) or os.path.islink(source):
        try:
            os.link(source, destination, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                raise
        else:
            os.unlink(source)
            return
    if os.path.lexists(destination):
        raise FileExistsError(errno.EEXIST, "destination exists", destination)
    os.rename(source, destination)


def _replace_dangling_link(source: str, destination: str) -> bool:
    if not os.path.islink(destination) or os.path.exists(destination):
        return False
    try:
        # By exchange, so that what came there meanwhile is not lost but seen, and put back.
        _renameat2(source, destination, _EXCHANGE)
    except OSError:
        return False
    if os.path.islink(source) and not os.path.exists(source):
        os.unlink(source)
        return True
    _renameat2(source, destination, _EXCHANGE)
    return False


def _move_across(source: str, destination: str) -> None:
    """Copy beside the destination, check, rename, and only then delete the source."""
    if os.path.lexists(destination):
        raise Conflict(f"destination exists: {paths.lossy(destination)}")
    temporary = f"{paths.parent(destination).rstrip('/')}/{temporary_name(paths.base_name(destination))}"
    try:
        _copy_checked(source, temporary)
        _rename(temporary, destination)
    except BaseException:
        if os.path.lexists(temporary):
            _remove(temporary)
        raise
    _remove(source)


def _copy_checked(source: str, target: str) -> None:
    before = snapshot(source)
    copy_tree(source, target)
    if snapshot(source) != before:
        raise Conflict(f"changed while it was being moved: {paths.lossy(source)}")


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        remove_tree(path)
    else:
        os.unlink(path)


def _renameat2(source: str, destination: str, flags: int) -> None:
    old, new = os.fsencode(source), os.fsencode(destination)
    if _libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, ctypes.c_uint(flags)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, destination)

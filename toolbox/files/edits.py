"""Changes of names and permissions: create, delete, chmod, chown."""

import errno
import grp
import os
import pwd
import re
import stat
from collections.abc import Callable

from toolbox import paths
from toolbox.errors import BadRequest, InvalidPath
from toolbox.files.trees import remove_tree

_OCTAL = re.compile(r"(?:0o)?0*([0-7]{1,4})")
_PARENT_MODE = 0o755
_MAX_ID = 2**32 - 1
"""The id that means "no change"."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def parse_mode(text: str) -> int:
    """Return the permissions that octal `text` stands for, 0 to 07777. Raises `BadRequest`."""
    found = _OCTAL.fullmatch(text)
    if found is None:
        raise BadRequest(f"invalid mode format: {text!r}")
    return int(found[1], 8)


def create_folder(path: str, mode: int) -> None:
    """Create a directory with exactly `mode`, and its parents; an existing one stays as it is.

    A setgid bit inherited from the parent is kept, as `mkdir -m` does. Raises `OSError`.
    """
    make_parents(path)
    try:
        # Closed until it has the mode asked for.
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", path) from None
        return
    directory = os.open(path, _DIRECTORY)
    try:
        os.fchmod(directory, mode | (os.fstat(directory).st_mode & stat.S_ISGID))
    finally:
        os.close(directory)


def make_parents(path: str) -> None:
    """Create the missing directories above `path`. Raises `OSError`."""
    missing = []
    above = paths.parent(path)
    while above != "/":
        try:
            os.mkdir(above, _PARENT_MODE)
        except FileNotFoundError:
            missing.append(above)
            above = paths.parent(above)
        except FileExistsError:
            break
        else:
            break
    for each in reversed(missing):
        try:
            os.mkdir(each, _PARENT_MODE)
        except FileExistsError:
            continue  # somebody else needed it too


def delete(path: str, recursive: bool) -> None:
    """Delete a file, a link, or with `recursive` a directory with all that is in it; links are never followed.

    Raises `InvalidPath` for a directory without `recursive` and for the root; `OSError`.
    """
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode):
        if os.path.samestat(status, os.stat("/")):
            raise InvalidPath("the root directory cannot be deleted")
        if not recursive:
            raise InvalidPath(f"is a directory, needs recursive=true: {paths.lossy(path)}")
        remove_tree(path)
    elif stat.S_ISLNK(status.st_mode) and not recursive and os.path.isdir(path):
        raise InvalidPath(f"is a link to a directory, needs recursive=true: {paths.lossy(path)}")
    else:
        os.unlink(path)


def set_permissions(path: str, mode: int | None, owner: str, group: str) -> None:
    """Change owner, group and mode, each where given; links are followed. Raises `BadRequest`, `OSError`."""
    uid = _id_of(owner, "user", lambda name: pwd.getpwnam(name).pw_uid)
    gid = _id_of(group, "group", lambda name: grp.getgrnam(name).gr_gid)
    if uid != -1 or gid != -1:
        os.chown(path, uid, gid)
    # After the owner: the kernel takes setuid and setgid bits away when the owner changes.
    if mode is not None:
        os.chmod(path, mode)
    elif uid == gid == -1:
        os.stat(path)


def _id_of(name: str, kind: str, look_up: Callable[[str], int]) -> int:
    if not name:
        return -1
    if name.isascii() and name.isdigit() and int(name) < _MAX_ID:
        return int(name)
    try:
        return look_up(name)
    except (KeyError, ValueError):
        raise BadRequest(f"{kind} not found: {name}") from None

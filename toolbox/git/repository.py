"""Finds a repository and reads its branches, in a file thread.

Branches are read here because that takes a tenth of what starting git does. GitPython would do it too, but importing
it starts `git version` (past our spawner, as the daemon's own user) and costs 11 MB; its log and objects come from
processes of its own, and its configuration from the daemon's environment instead of the sandbox's.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from toolbox.errors import InvalidPath
from toolbox.git.errors import RepositoryNotFound
from toolbox.paths import lossy

_HEADS = b"refs/heads/"
_REF = b"ref: "


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a repository is. The directories are absolute."""

    directory: str
    """The directory that it was asked for by: git runs there."""
    git_dir: str
    common_dir: str
    """Where branches and objects are; another than `git_dir` for a linked worktree."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The branches of a repository."""

    names: list[str]
    current: str
    """Empty when HEAD is detached."""

    @property
    def unborn(self) -> bool:
        """Tell whether the current branch has no commit yet."""
        return self.current != "" and self.current not in self.names


def find(directory: str, ceiling: str) -> Repository:
    """Return the repository of a directory; looked for upwards, but not in `ceiling`. Raises `RepositoryNotFound`."""
    try:
        start = os.path.realpath(directory, strict=True)
    except FileNotFoundError:
        raise RepositoryNotFound(f"not found: repository does not exist: {lossy(directory)}") from None
    if not os.path.isdir(start):
        raise InvalidPath(f"not a directory: {lossy(directory)}")
    here = start
    while True:
        for candidate in (_git_dir(f"{here}/.git"), here):
            if candidate is not None and _is_git_dir(candidate):
                return Repository(start, candidate, _common_dir(candidate))
        above = os.path.dirname(here)
        if above in (here, ceiling):
            raise RepositoryNotFound(f"not found: repository does not exist: {lossy(directory)}")
        here = above


def _git_dir(path: str) -> str | None:
    """Return the directory that `.git` is, or names (of worktrees and submodules)."""
    with suppress(OSError), open(path, "rb") as file:
        first = file.readline(4200)
        if first.startswith(b"gitdir: "):
            return os.path.realpath(os.path.join(os.path.dirname(path), os.fsdecode(first[8:].rstrip(b"\r\n"))))
    return path


def _is_git_dir(path: str) -> bool:
    return os.path.lexists(f"{path}/HEAD") and os.path.isdir(f"{_common_dir(path)}/objects")


def _common_dir(git_dir: str) -> str:
    with suppress(OSError), open(f"{git_dir}/commondir", "rb") as file:
        return os.path.realpath(os.path.join(git_dir, os.fsdecode(file.readline(4200).rstrip(b"\r\n"))))
    return git_dir


def _has_reftable(repository: Repository) -> bool:
    """Tell whether references are kept in the newer form, which is in binary tables."""
    return os.path.isdir(f"{repository.common_dir}/reftable")


def heads(repository: Repository) -> Heads | None:
    """Return the branches, sorted; None where only git itself can tell. Raises `OSError`."""
    if _has_reftable(repository):
        return None
    names = {name for name in _packed(repository.common_dir) if name.startswith(_HEADS)}
    names |= set(_loose(repository.common_dir, "refs/heads"))
    with open(f"{repository.git_dir}/HEAD", "rb") as file:
        target = file.readline(4200).rstrip()
    current = target.removeprefix(_REF).strip().removeprefix(_HEADS) if target.startswith(_REF) else b""
    shown = sorted(name.removeprefix(_HEADS).decode("utf-8", "replace") for name in names)
    return Heads(shown, current.decode("utf-8", "replace"))


def is_empty(repository: Repository) -> bool:
    """Tell whether there is no branch, tag or other reference at all."""
    return (
        next(_packed(repository.common_dir), None) is None and next(_loose(repository.common_dir, "refs"), None) is None
    )


def _packed(common_dir: str) -> Iterator[bytes]:
    with suppress(FileNotFoundError), open(f"{common_dir}/packed-refs", "rb") as file:
        for line in file:
            if line[:1] not in b"#^":
                yield line.rstrip(b"\n").partition(b" ")[2]


def _loose(common_dir: str, below: str) -> Iterator[bytes]:
    start = len(common_dir) + 1
    for directory, _, files in os.walk(f"{common_dir}/{below}"):
        for file in files:
            if not file.endswith(".lock"):
                yield os.fsencode(f"{directory}/{file}"[start:])

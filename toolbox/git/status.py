"""The state of a work tree, from `git status --porcelain=v2 --branch -z` (format: git-status(1))."""

from collections.abc import Iterator

from toolbox import paths
from toolbox.git.models import FileStatus, State, Status

COMMAND = (
    *("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--ignored=no"),
    *("--ahead-behind", "--find-renames"),
)
_STATES: dict[str, State] = {
    ".": "Unmodified",
    "M": "Modified",
    "T": "Modified",  # its type: a link in place of a file
    "A": "Added",
    "D": "Deleted",
    "R": "Renamed",
    "C": "Copied",
    "U": "Updated but unmerged",
}
_CONFLICT: State = "Updated but unmerged"
_FIELDS = {"1": 8, "2": 9, "u": 10}
"""Fields before the name, by the kind of the record."""


def parse(output: bytes) -> Status:
    """Return what git printed, files sorted by name."""
    status = Status(
        current_branch="", file_status=[], branch_published=False, ahead=0, behind=0, upstream="", detached=False
    )
    records = iter(output.decode("utf-8", "surrogateescape").split("\0"))
    for record in records:
        kind = record[:1]
        if kind == "#":
            _read_header(status, record)
        elif kind == "?":
            name = paths.escape(record[2:])
            status.file_status.append(FileStatus(name=name, extra="", staging="Untracked", worktree="Untracked"))
        elif kind in _FIELDS:
            status.file_status.append(_changed(kind, record, records))
    status.file_status.sort(key=_name)
    return status


def _changed(kind: str, record: str, records: Iterator[str]) -> FileStatus:
    words = record.split(" ", _FIELDS[kind])
    # The old name is a record of its own.
    extra = next(records) if kind == "2" else ""
    staging, worktree = (_CONFLICT, _CONFLICT) if kind == "u" else (_STATES[words[1][0]], _STATES[words[1][1]])
    name = paths.escape(words[-1])
    return FileStatus(name=name, extra=paths.escape(extra), staging=staging, worktree=worktree)


def _read_header(status: Status, record: str) -> None:
    _, name, value = (*record.split(" ", 2), "")[:3]
    if name == "branch.head":
        status.detached = value == "(detached)"
        status.current_branch = "HEAD" if status.detached else paths.lossy(value)
    elif name == "branch.upstream":
        status.upstream = paths.lossy(value)
    elif name == "branch.ab":  # left out when the upstream is not there
        status.branch_published = True
        ahead, _, behind = value.partition(" ")
        status.ahead, status.behind = int(ahead), -int(behind)


def _name(file: FileStatus) -> str:
    return file.name

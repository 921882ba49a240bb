"""Control groups of sandboxes, where we may make them: limits of cpu and memory, and freezing. All calls block."""

import contextlib
import os
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PERIOD = 100_000
_GIB = 1024**3
_ROUNDS = 500
_ROUND_SECONDS = 0.01
_UNIFIED = ""
"""How version 2 stands in `/proc/self/cgroup`: the hierarchy without a controller's name."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    """A directory in which we may make groups with the files that a purpose needs."""

    directory: Path
    unified: bool


class Cgroups:
    """The groups of one control plane, one for each sandbox in each hierarchy that is used."""

    def __init__(
        self, prefix: str, cpu: _Hierarchy | None, memory: _Hierarchy | None, freezer: _Hierarchy | None
    ) -> None:
        self._prefix = f"{prefix}-"
        self._cpu, self._memory, self._freezer = cpu, memory, freezer
        self._directories = list({each.directory: None for each in (cpu, memory, freezer) if each is not None})

    @classmethod
    def find(cls, prefix: str) -> Self:
        """Return what there is on this machine; names of groups begin with `prefix`."""
        return cls(
            prefix,
            _find("cpu", "cpu.cfs_quota_us", "cpu.max"),
            _find("memory", "memory.limit_in_bytes", "memory.max"),
            _find("freezer", "freezer.state", "cgroup.freeze"),
        )

    @property
    def can_limit(self) -> bool:
        """Whether cpu and memory can be limited."""
        return self._cpu is not None and self._memory is not None

    @property
    def can_freeze(self) -> bool:
        """Whether sandboxes can be frozen."""
        return self._freezer is not None

    def make(self, sandbox_id: str) -> list[Path]:
        """Make the groups of a sandbox, and return them. Raises `OSError`."""
        groups = [each / (self._prefix + sandbox_id) for each in self._directories]
        for group in groups:
            group.mkdir(exist_ok=True)
        return groups

    def limit(self, sandbox_id: str, *, cpu: int | None, memory: int | None) -> None:
        """Limit a sandbox to cores and GiB; None lifts the limit. Raises `OSError`."""
        if self._cpu is not None:
            if self._cpu.unified:
                self._write(self._cpu, sandbox_id, "cpu.max", f"{cpu * _PERIOD if cpu else 'max'} {_PERIOD}")
            else:
                self._write(self._cpu, sandbox_id, "cpu.cfs_quota_us", str(cpu * _PERIOD if cpu else -1))
        if self._memory is not None:
            if self._memory.unified:
                self._write(self._memory, sandbox_id, "memory.max", str(memory * _GIB if memory else "max"))
            else:
                self._write(self._memory, sandbox_id, "memory.limit_in_bytes", str(memory * _GIB if memory else -1))

    def freeze(self, sandbox_id: str) -> None:
        """Stop everything in a sandbox where it is; return when it stands. Raises `OSError`."""
        self._freeze(sandbox_id, frozen=True)
        for _ in range(_ROUNDS):
            if self.is_frozen(sandbox_id):
                return
            time.sleep(_ROUND_SECONDS)
        self._freeze(sandbox_id, frozen=False)
        raise TimeoutError("a process does not let itself be frozen")

    def thaw(self, sandbox_id: str) -> None:
        """Let a frozen sandbox go on; nothing happens when it is not frozen. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            self._freeze(sandbox_id, frozen=False)

    def is_frozen(self, sandbox_id: str) -> bool:
        """Tell whether everything in a sandbox stands still."""
        if self._freezer is None:
            return False
        group = self._freezer.directory / (self._prefix + sandbox_id)
        try:
            if self._freezer.unified:
                return "frozen 1" in (group / "cgroup.events").read_text()
            return (group / "freezer.state").read_text().strip() == "FROZEN"
        except OSError:
            return False

    def remove(self, sandbox_id: str) -> None:
        """Remove the groups of a sandbox in which nothing runs any more."""
        for directory in self._directories:
            _remove(directory / (self._prefix + sandbox_id))

    def remove_all_but(self, kept: Collection[str]) -> None:
        """Remove the groups that an earlier control plane left."""
        for directory in self._directories:
            for group in directory.glob(f"{self._prefix}*"):
                if group.name.removeprefix(self._prefix) not in kept:
                    _remove(group)

    def _freeze(self, sandbox_id: str, *, frozen: bool) -> None:
        if self._freezer is not None:
            if self._freezer.unified:
                self._write(self._freezer, sandbox_id, "cgroup.freeze", str(int(frozen)))
            else:
                self._write(self._freezer, sandbox_id, "freezer.state", "FROZEN" if frozen else "THAWED")

    def _write(self, hierarchy: _Hierarchy, sandbox_id: str, name: str, text: str) -> None:
        (hierarchy.directory / (self._prefix + sandbox_id) / name).write_text(text)


def _remove(group: Path) -> None:
    # What was killed leaves its group a moment after its end is seen.
    for _ in range(_ROUNDS):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(_ROUND_SECONDS)
        else:
            return


def _find(controller: str, file: str, unified_file: str) -> _Hierarchy | None:
    """Return where groups with this controller can be made: version 1 where it has it, else version 2."""
    own = _own_group(controller)
    if own is not None and _has_in_group(own, file):
        return _Hierarchy(own, unified=False)
    own = _own_group(_UNIFIED)
    # A group of version 2 that has processes may have no groups with controllers in it: then those beside it.
    for directory in (own, own.parent) if own is not None else ():
        if controller != "freezer":
            with contextlib.suppress(OSError):
                (directory / "cgroup.subtree_control").write_text(f"+{controller}")
        if _has_in_group(directory, unified_file):
            return _Hierarchy(directory, unified=True)
    return None


def _has_in_group(directory: Path, file: str) -> bool:
    """Tell whether a group made in a directory has a file that we may write to."""
    probe = directory / f"toolboxd-probe-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError:
        return False
    try:
        return os.access(probe / file, os.W_OK)
    finally:
        _remove(probe)


def _own_group(controller: str) -> Path | None:
    """Return the directory of the group that we are in."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    paths = [path for _, names, path in (line.split(":", 2) for line in groups) if controller in names.split(",")]
    for line in mounts:
        before, _, after = line.partition(" - ")
        root, mount_point = (_ESCAPE.sub(_unescape, word) for word in before.split()[3:5])
        kind, _, options = after.split(" ", 2)
        here = kind == "cgroup2" if controller == _UNIFIED else kind == "cgroup" and controller in options.split(",")
        if here and paths and Path(paths[0]).is_relative_to(root):
            return Path(mount_point) / Path(paths[0]).relative_to(root)
    return None


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))

"""Volumes of the process driver: directories, and how they come into sandboxes. All calls block."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec

import toolbox
from controlplane.drivers.base import DriverError, Mount
from controlplane.drivers.place import remove_tree
from controlplane.keys import store_secret
from toolbox.errors import BadRequest

HOME = "~/"
"""How a mount path in the sandbox's home begins."""
_SYSTEM = tuple(map(Path, ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr")))
_NO_FILES = ("/dev", "/proc", "/sys")


class VolumeDirectories:
    """The directories of all volumes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self) -> None:
        """Make the directory that holds them. Raises `OSError`."""
        self._root.mkdir(mode=0o700, exist_ok=True)

    def make(self, volume_id: str) -> None:
        """Make a volume. Raises `OSError`."""
        directory = self._root / volume_id
        directory.mkdir(exist_ok=True)
        # Whoever works in a sandbox that has it may write; others do not get through the directory above.
        directory.chmod(0o777)

    def remove(self, volume_id: str) -> None:
        """Remove a volume with what is in it. Raises `OSError`."""
        remove_tree(self._root / volume_id)

    def source(self, mount: Mount) -> Path:
        """Return the directory to mount, made if it is a subpath that is not there. Raises `DriverError`, `OSError`."""
        directory = self._root / mount.volume_id
        if not directory.is_dir():
            raise DriverError(f"volume {mount.volume_id} is gone")
        for name in Path(mount.subpath).parts:
            directory = directory / name
            # A link could lead out of the volume, for which it is not meant.
            if directory.is_symlink():
                raise BadRequest(f"volumes: subpath {mount.subpath!r} leads over a symbolic link")
            with contextlib.suppress(FileExistsError):
                directory.mkdir()
                directory.chmod(0o777)
        return directory


def link_into_home(home: Path, path: str, source: Path) -> None:
    """Let a path in a sandbox's home lead to a volume. Raises `BadRequest`, `OSError`."""
    link = home / path.removeprefix(HOME)
    if not link.parent.resolve().is_relative_to(home.resolve()):
        raise BadRequest(f"volumes: {path} leads out of the sandbox's home")
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()  # of an earlier start
    elif link.exists():
        raise BadRequest(f"volumes: {path} is there already")
    link.symlink_to(source)


def check_mount_path(path: str, field: str, needed: Iterable[Path]) -> None:
    """Raise `BadRequest` when something mounted at an absolute path would hide what sandboxes run from."""
    real = Path(path)
    if any(real.is_relative_to(each) for each in _NO_FILES):
        raise BadRequest(f"{field}: nothing can be mounted in {path}")
    ours = (Path(sys.prefix), Path(sys.base_prefix), Path(toolbox.__file__).parent)
    for each in (*_SYSTEM, *ours, *needed):
        if each.is_relative_to(real):
            raise BadRequest(f"{field}: {path} holds what sandboxes need to run")


class MountPoints:
    """Directories made on this machine because something is mounted there in sandboxes, and whose they are."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._users: dict[str, set[str]] = {}

    def open(self) -> None:
        """Remember what an earlier control plane made. Raises `OSError`, `msgspec.MsgspecError`."""
        with contextlib.suppress(FileNotFoundError):
            self._users = msgspec.json.decode(self._file.read_bytes(), type=dict[str, set[str]])

    def claim(self, sandbox_id: str, paths: Iterable[str]) -> None:
        """Make the directories that are missing, and keep them until the sandbox lets go. Raises `OSError`."""
        with self._lock:
            missing = []
            for path in paths:
                for each in (path, *map(str, Path(path).parents)):
                    if each in self._users or not os.path.lexists(each):
                        self._users.setdefault(each, set()).add(sandbox_id)
                        missing.append(each)
            if missing:
                self._save()
            for each in sorted(missing):
                Path(each).mkdir(mode=0o755, exist_ok=True)

    def release(self, sandbox_id: str) -> None:
        """Let go of a sandbox's directories; those nobody else has are removed if they are empty. Raises `OSError`."""
        self._keep(lambda user: user != sandbox_id)

    def release_all_but(self, kept: Collection[str]) -> None:
        """Let go of the directories of all sandboxes that do not run. Raises `OSError`."""
        self._keep(lambda user: user in kept)

    def _keep(self, wanted: Callable[[str], bool]) -> None:
        with self._lock:
            users = {path: set(filter(wanted, ids)) for path, ids in self._users.items()}
            if users == self._users:
                return
            # A mount in a sandbox would be undone with its directory: only those that nobody has.
            for path in sorted((path for path, ids in users.items() if not ids), reverse=True):
                with contextlib.suppress(OSError):
                    Path(path).rmdir()
            self._users = {path: ids for path, ids in users.items() if ids}
            self._save()

    def _save(self) -> None:
        store_secret(self._file, msgspec.json.encode(self._users).decode())

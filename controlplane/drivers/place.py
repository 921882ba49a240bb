"""Where the process driver keeps a sandbox on disk."""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import msgspec

from controlplane.keys import store_secret
from toolbox.children import tree
from toolbox.config import ConfigError
from toolbox.web.auth import Auth

_MAX_SOCKET_PATH = 107
_SOCKET_NAME = 42
"""Length of `/{id}.sock`."""
_MAX_TEMPORARY = 60
"""Bytes of a temporary directory's path: programs keep sockets there. Chromium adds 44, and does not start without."""
_LINK_NAME = 13
"""Characters of a sandbox's id that name the short way to its temporary directory."""
_LOG_TAIL = 256 * 1024


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A process, never mistaken for a later one with the same pid."""

    pid: int
    start_ticks: int
    boot: str

    def find(self) -> tree.Stat | None:
        """Return the process if it still runs."""
        found = tree.read_stat(self.pid)
        if found is None or found.start_ticks != self.start_ticks or found.state in "ZX" or self.boot != boot_id():
            return None
        return found


def boot_id() -> str:
    """Return what names this run of the machine: pids and start times repeat after a reboot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Place:
    """The directories and files of one sandbox. All calls block."""

    def __init__(self, root: Path, socket: Path, link: Path) -> None:
        self.root = root
        self.socket = socket
        self._link = link
        self.home = root / "home"
        self.temporary = root / "tmp"
        self.state = root / "state"
        self.token_file = root / "token"
        self.log = root / "daemon.log"
        self._identity = root / "daemon.json"

    def make(self) -> None:
        """Create the directories, and a token that only this sandbox's daemon accepts. Raises `OSError`."""
        self.root.mkdir(mode=0o700)
        for directory in (self.home, self.temporary, self.state):
            directory.mkdir(mode=0o700)
        store_secret(self.token_file, Auth.generate_token())

    def temporary_path(self) -> Path:
        """Return the path of the temporary directory that the sandbox is told: short, for sockets. Raises `OSError`."""
        if len(os.fsencode(self.temporary)) <= max(_MAX_TEMPORARY, len(os.fsencode(self._link))):
            return self.temporary
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self.temporary)
        return self._link

    def remove(self) -> None:
        """Remove everything. Raises `OSError`."""
        self.socket.unlink(missing_ok=True)
        self._link.unlink(missing_ok=True)
        remove_tree(self.root)

    def give_to(self, uid: int, gid: int) -> None:
        """Make a user the owner of all files of the sandbox. Raises `OSError`."""
        for top in (self.home, self.temporary):
            for _, directories, files, descriptor in os.fwalk(top):
                os.fchown(descriptor, uid, gid)
                for name in (*directories, *files):
                    os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)

    def token(self) -> str:
        """Return the sandbox's token. Raises `OSError`."""
        return self.token_file.read_text().strip()

    def log_tail(self) -> str:
        """Return the end of what the daemon wrote; nothing if it never ran. Raises `OSError`."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _LOG_TAIL))
                return file.read(_LOG_TAIL).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def remember(self, pid: int) -> None:
        """Record the daemon's process, for a control plane that comes after us. Raises `OSError`."""
        found = tree.read_stat(pid)
        if found is not None:
            identity = Identity(pid=pid, start_ticks=found.start_ticks, boot=boot_id())
            store_secret(self._identity, msgspec.json.encode(identity).decode())

    def forget(self) -> None:
        """The daemon has ended: remove what only lives with it."""
        self._identity.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        self._link.unlink(missing_ok=True)

    def remembered(self) -> tree.Stat | None:
        """Return the recorded daemon's process if it still runs."""
        try:
            identity = msgspec.json.decode(self._identity.read_bytes(), type=Identity)
        except (OSError, msgspec.MsgspecError):
            return None
        return identity.find()


def remove_tree(directory: Path) -> None:
    """Remove a directory with all in it, whatever its modes; nothing happens when it is not there. Raises `OSError`."""
    if directory.exists():
        shutil.rmtree(directory, onerror=_make_removable)


def _make_removable(_function: object, path: str, _error: object) -> None:
    """Remove what a sandbox made read-only: open the directory it is in and try again."""
    parent = Path(path).parent
    for directory in (parent, Path(path)):
        if directory.is_dir() and not directory.is_symlink():
            directory.chmod(stat.S_IRWXU)
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


class Places:
    """The directory that holds all sandboxes, and those that hold their sockets and the short ways to them."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir / "sandboxes"
        near = state_dir / "run"
        fits = len(os.fsencode(near)) + _SOCKET_NAME <= _MAX_SOCKET_PATH
        # A socket's path is short by the kernel's rule; a state directory need not be.
        digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
        self._short = Path(tempfile.gettempdir()) / f"toolboxd-{os.getuid()}-{digest}"
        self.sockets = near if fits else self._short
        self.images = state_dir / "images"
        self.name = f"toolboxd-{digest[:8]}"
        """What names things of this state directory where there are others."""

    def open(self) -> None:
        """Create the directories. Raises `ConfigError`."""
        try:
            for directory in (self.root, self.sockets, self._short, self.images):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = {directory: directory.lstat() for directory in (self.sockets, self._short)}
        except OSError as error:
            raise ConfigError(f"cannot keep sandboxes: {error}") from None
        for directory, status in found.items():
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise ConfigError(f"somebody else can write to {directory}")

    def close(self) -> None:
        """Remove the directories of sockets and short ways if they are empty."""
        for directory in {self.sockets, self._short}:
            with contextlib.suppress(OSError):
                directory.rmdir()

    def of(self, sandbox_id: str) -> Place:
        """Return the place of one sandbox."""
        link = self._short / sandbox_id[:_LINK_NAME]
        return Place(self.root / sandbox_id, self.sockets / f"{sandbox_id}.sock", link)

    def image(self, ref: str) -> Path:
        """Return the file of an image."""
        return self.images / f"{ref}.tar"

    def remove_image(self, ref: str) -> None:
        """Remove an image, made or half made. Raises `OSError`."""
        for file in (self.image(ref), self.images / f"{ref}.tar.part"):
            file.unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """Return the ids of all sandboxes that have something on disk."""
        return [entry.name for entry in self.root.iterdir() if entry.is_dir()]

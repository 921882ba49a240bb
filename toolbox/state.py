"""The state directory: the one place on disk that a server writes for itself."""

import json
import os
import stat
from pathlib import Path

from toolbox.config import ConfigError

LAYOUT = 1
"""Raised whenever what is kept changes its place or form."""


class StateDir:
    """A state directory whose layout this version understands."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> "StateDir":
        """Create the directory, or check that its layout is ours. Raises `ConfigError`."""
        marker = path / "layout.json"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(path)
            if not marker.exists():
                marker.write_text(json.dumps({"layout": LAYOUT}) + "\n")
            layout = json.loads(marker.read_text())["layout"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"cannot use the state directory {path}: {error}") from None
        if layout != LAYOUT:
            raise ConfigError(f"the state directory {path} has layout {layout}, this version reads {LAYOUT}")
        return cls(path)

    def directory(self, *names: str) -> Path:
        """Return a directory below, created if need be. Raises `ConfigError`."""
        path = self.path.joinpath(*names)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot use the state directory {path}: {error}") from None
        return path


def _check_owner(path: Path) -> None:
    """Raise `ConfigError` where anybody could have made the directory (as in `/tmp`), and somebody else has."""
    above, here = path.parent.stat(), path.lstat()
    if above.st_mode & stat.S_IWOTH and (stat.S_ISLNK(here.st_mode) or here.st_uid != os.geteuid()):
        raise ConfigError(f"the state directory {path} belongs to somebody else")

"""What children inherit: variables, shell, working directory."""

import os
import pwd
import re
import shutil
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from toolbox.children.tree import MARKER
from toolbox.errors import BadRequest

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PREFERRED_SHELLS = ("/usr/bin/zsh", "/bin/zsh", "/usr/bin/bash", "/bin/bash")


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise `BadRequest` for a name no shell can set, or a value no process can be given."""
    for name, value in variables.items():
        if not _NAME.match(name):
            raise BadRequest(f"invalid environment variable name: {name!r}")
        if "\0" in value:
            raise BadRequest(f"invalid value of environment variable {name}: it contains NUL")


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


class Environment:
    """The variables that children start with: the daemon's own without its secrets, changed by `/env`."""

    def __init__(
        self,
        work_dir: Path,
        *,
        hide: Iterable[str] = (),
        user: str | None = None,
        shell: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.work_dir = work_dir
        self._shell = shell
        hidden = {*hide, MARKER}
        self._variables = {name: value for name, value in os.environ.items() if name not in hidden}
        if user is not None:
            entry = pwd.getpwnam(user)
            self._variables |= {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
        elif not _has_name(os.getuid()):
            # Programs that ask who they are (Python's getpass, and libraries by it) look here first, or fail.
            self._variables = {"USER": str(os.getuid()), "LOGNAME": str(os.getuid()), **self._variables}
        self._variables |= variables or {}

    @property
    def home(self) -> str:
        """The home directory, `$HOME`."""
        return self._variables.get("HOME", "/")

    def child(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the variables of a new child, `extra` over the base."""
        return {**self._variables, **extra} if extra else dict(self._variables)

    def update(self, set_: Mapping[str, str], unset: Iterable[str], unset_value_prefix: str) -> None:
        """Change what later children inherit: remove, then remove by value, then set. Raises `BadRequest`."""
        check_variables(set_)
        check_variables(dict.fromkeys(unset, ""))
        kept = {name: value for name, value in self._variables.items() if name not in set(unset)}
        if unset_value_prefix:
            kept = {name: value for name, value in kept.items() if not value.startswith(unset_value_prefix)}
        self._variables = {**kept, **set_}

    def directory(self, cwd: str | None) -> str:
        """Return `cwd` as an absolute path; relative ones start from the work dir."""
        return os.path.join(self.work_dir, cwd) if cwd else str(self.work_dir)  # noqa: PTH118 -- keeps `..` and slashes

    @cached_property
    def shell(self) -> str:
        """The shell that runs commands: the configured one, the best of `/etc/shells`, `$SHELL`, or `sh`."""
        if self._shell is not None:
            return str(self._shell)
        try:
            listed = set(Path("/etc/shells").read_text().split())
        except OSError:
            listed = set()
        for path in _PREFERRED_SHELLS:
            if path in listed and os.access(path, os.X_OK):
                return path
        own = self._variables.get("SHELL", "")
        return own if os.access(own, os.X_OK) else shutil.which("sh") or "/bin/sh"

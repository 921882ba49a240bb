"""Which Python runs the user's code: the configured one, the sandbox's, or else the daemon's own."""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from toolbox.children.environment import Environment
from toolbox.children.probe import ask
from toolbox.children.process import Children

_PROBE = """
import importlib.util, json, os, site, sys

def stamp(place):
    try:
        found = os.stat(place)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_ino]

places = {sys.executable, *sys.path, site.getusersitepackages(), *getattr(site, "getsitepackages", list)()} - {""}
print(json.dumps({"executable": sys.executable, "stamps": {place: stamp(place) for place in places}}))
sys.exit(sys.version_info < (3, 9) or importlib.util.find_spec("ipykernel") is None)
"""


class Python(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter."""

    path: str
    origin: str
    """configured, sandbox (the `python3` of its PATH) or daemon."""

    def __str__(self) -> str:
        return f"{self.path} ({self.origin})"


class _Lack(msgspec.Struct, frozen=True, kw_only=True):
    """What an interpreter that has no ipykernel was like."""

    executable: str
    stamps: dict[str, tuple[int, int] | None]
    """Of the interpreter and of each place for modules, whether it is there or not: time of change and inode."""

    def holds(self, path: str) -> bool:
        """Tell whether it is still so for the interpreter called by `path`. Blocks."""
        # A program that chooses an interpreter may choose another one next time.
        same = os.path.realpath(path) == os.path.realpath(self.executable)
        return same and all(_stamp(place) == stamp for place, stamp in self.stamps.items())


def _stamp(place: str) -> tuple[int, int] | None:
    try:
        found = os.stat(place)  # noqa: PTH116 -- as the probe does
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


class Pythons:
    """Finds the interpreter for each use.

    Programs run in the sandbox's `python3`, where the user's packages are. Kernels do too if it has ipykernel, and in
    the daemon's own interpreter otherwise. `configured` settles it for both.
    """

    def __init__(self, children: Children, environment: Environment, configured: Path | None) -> None:
        self._children = children
        self._environment = environment
        self._configured = str(configured) if configured else None
        self._with_ipykernel: set[str] = set()
        self._without: tuple[str, Mapping[str, str], _Lack] | None = None

    async def for_programs(self, env: Mapping[str, str]) -> Python:
        """Return the interpreter of a program that runs with the variables `env`."""
        if self._configured is not None:
            return Python(path=self._configured, origin="configured")
        found = await asyncio.to_thread(shutil.which, "python3", path=env.get("PATH", os.defpath))
        return Python(path=found, origin="sandbox") if found is not None else _own()

    async def for_kernels(self) -> Python:
        """Return the interpreter of a kernel.

        That it was once found to have ipykernel is remembered; that it has not, until a place for its modules changes.
        """
        env = self._environment.child()
        found = await self.for_programs(env)
        if found.origin != "sandbox" or found.path in self._with_ipykernel:
            return found
        if self._without is not None:
            path, before, lack = self._without
            if (path, before) == (found.path, env) and await asyncio.to_thread(lack.holds, path):
                return _own()
        if await self._has_ipykernel(found.path, env):
            self._with_ipykernel.add(found.path)
            return found
        return _own()

    async def _has_ipykernel(self, path: str, env: Mapping[str, str]) -> bool:
        self._without = None
        with os.fdopen(os.memfd_create("probe"), "rb") as output:
            code = await ask(self._children, [path, "-c", _PROBE], env, output=output.fileno())
            output.seek(0)
            said = await asyncio.to_thread(output.read)
        if code == 1:
            with suppress(msgspec.MsgspecError):
                self._without = path, env, msgspec.json.decode(said, type=_Lack)
        return code == 0


def _own() -> Python:
    return Python(path=sys.executable, origin="daemon")

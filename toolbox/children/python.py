"""Which Python runs the user's code: the configured one, the sandbox's, or else the daemon's own."""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from toolbox.children.environment import Environment
from toolbox.children.probe import ask
from toolbox.children.process import Children

_PROBE = """
import importlib.util, sys
sys.exit(sys.version_info < (3, 9) or importlib.util.find_spec("ipykernel") is None)
"""


class Python(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter."""

    path: str
    origin: str
    """configured, sandbox (the `python3` of its PATH) or daemon."""

    def __str__(self) -> str:
        return f"{self.path} ({self.origin})"


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

    async def for_programs(self, env: Mapping[str, str]) -> Python:
        """Return the interpreter of a program that runs with the variables `env`."""
        if self._configured is not None:
            return Python(path=self._configured, origin="configured")
        found = await asyncio.to_thread(shutil.which, "python3", path=env.get("PATH", os.defpath))
        return Python(path=found, origin="sandbox") if found is not None else _own()

    async def for_kernels(self) -> Python:
        """Return the interpreter of a kernel. That it was once found to have ipykernel is remembered."""
        env = self._environment.child()
        found = await self.for_programs(env)
        if found.origin != "sandbox" or found.path in self._with_ipykernel:
            return found
        if await ask(self._children, [found.path, "-c", _PROBE], env) != 0:
            return _own()
        self._with_ipykernel.add(found.path)
        return found


def _own() -> Python:
    return Python(path=sys.executable, origin="daemon")

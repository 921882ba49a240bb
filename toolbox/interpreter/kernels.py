"""Starts kernels, and keeps spare ones of Python warm once one was used."""

import asyncio
import contextlib
import fcntl
import importlib
import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from toolbox.children.environment import Environment
from toolbox.children.process import Children
from toolbox.children.python import Pythons
from toolbox.errors import ToolboxError, Unavailable
from toolbox.incarnation import Incarnation
from toolbox.interpreter.jupyter import JupyterKernel
from toolbox.interpreter.kernel import Kernel
from toolbox.interpreter.languages import PYTHON, Languages, command
from toolbox.interpreter.python import PythonKernel
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A kernel for a context, and the directory that it must go to first if it was a spare one."""

    kernel: Kernel
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class _Spare:
    kernel: PythonKernel
    python: str
    env: Mapping[str, str]
    life: int


class Kernels:
    """Kernels by language. Leaving ends the spare ones; those given out are their contexts'."""

    def __init__(
        self,
        children: Children,
        environment: Environment,
        pythons: Pythons,
        incarnation: Incarnation,
        *,
        directory: Path,
        spares: int,
    ) -> None:
        self.languages = Languages(environment, pythons)
        self._children = children
        self._environment = environment
        self._pythons = pythons
        self._incarnation = incarnation
        self._directory = directory
        self._wanted = spares
        self._spares: list[_Spare] = []
        self._connections: Any = None
        self._tasks = TaskSet()
        self._refilling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._clear)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        spares, self._spares = self._spares, []
        await asyncio.gather(*(spare.kernel.close() for spare in spares), return_exceptions=True)
        if self._connections is not None:
            await asyncio.to_thread(self._connections.close)
        await asyncio.to_thread(self._clear)  # kernels of a killed daemon that were still ending when this one started

    def _clear(self) -> None:
        """Remove what a daemon that was killed has left, but nothing of one that lives and was given this directory."""
        for path in self._directory.iterdir():
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails for a `Place` in use
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(descriptor)

    async def claim(self, language: str, cwd: str) -> Claimed:
        """Return a kernel for a context, which may not be ready yet. Raises `BadRequest`, `Unavailable`."""
        env = self._environment.child()
        if language != PYTHON:
            return Claimed(await self._start_other(language, cwd, env))
        python = (await self._pythons.for_kernels()).path
        claimed = self._take_spare(python, env, cwd) or Claimed(await self._start_python(python, cwd, env))
        self._refill()
        return claimed

    def _take_spare(self, python: str, env: Mapping[str, str], cwd: str) -> Claimed | None:
        life = self._incarnation.number
        while self._spares:
            spare = self._spares.pop(0)
            if spare.kernel.child.exit is None and (spare.python, spare.env, spare.life) == (python, env, life):
                return Claimed(spare.kernel, cwd)
            self.discard(spare.kernel)
        return None

    def discard(self, kernel: Kernel) -> None:
        """End a kernel that nobody needs, while the caller goes on."""
        self._tasks.start(kernel.close(), "end a kernel")

    def _refill(self) -> None:
        if self._refilling is None or self._refilling.done():
            self._refilling = self._tasks.start(self._keep_spares(), "spare kernels")

    async def _keep_spares(self) -> None:
        """Start what spare kernels are missing, one after another: the machine has other things to do."""
        while len(self._spares) < self._wanted:
            env, life = self._environment.child(), self._incarnation.number
            try:
                python = (await self._pythons.for_kernels()).path
                kernel = await self._start_python(python, str(self._environment.work_dir), env)
            except ToolboxError as error:
                log.warning("no spare kernel: %s", error.message)
                return
            try:
                await kernel.ready()
            except BaseException as error:
                await asyncio.shield(self._tasks.start(kernel.close(), "end a kernel"))
                if not isinstance(error, ToolboxError):
                    raise
                log.warning("no spare kernel: %s", error.message)
                return
            self._spares.append(_Spare(kernel, python, env, life))

    async def _start_python(self, python: str, cwd: str, env: Mapping[str, str]) -> PythonKernel:
        messaging, place = await self._place()
        try:
            return PythonKernel(
                self._children,
                self._connect(messaging),
                place,
                python,
                cwd=cwd,
                env={**env, "PWD": cwd},
                spool=self._directory,
            )
        except BaseException:
            await asyncio.to_thread(place.remove)
            raise

    async def _start_other(self, language: str, cwd: str, env: Mapping[str, str]) -> JupyterKernel:
        spec, directory = await self.languages.find(language)
        messaging, place = await self._place()
        try:
            return JupyterKernel(
                self._children,
                self._connect(messaging),
                place,
                command(spec, directory, place.connection_file),
                cwd=cwd,
                env={**env, "PWD": cwd, **spec.env},
                spool=self._directory,
                interrupt_by_message=spec.interrupt_mode == "message",
            )
        except BaseException:
            await asyncio.to_thread(place.remove)
            raise

    async def _place(self) -> tuple[ModuleType, Any]:
        """Return the module that speaks Jupyter's protocol, and a place for a new kernel. Raises `Unavailable`."""
        try:
            messaging = await asyncio.to_thread(importlib.import_module, "toolbox.interpreter.messaging")
        except ImportError as error:
            raise Unavailable(f"kernels need the extra `interpreter` of sandbox-toolbox: {error}") from None
        user = self._children.user
        owner = (user.pw_uid, user.pw_gid) if user is not None else None
        directory = self._directory / secrets.token_hex(8)
        try:
            return messaging, await asyncio.to_thread(messaging.Place, directory, owner)
        except OSError as error:
            raise Unavailable(f"no kernel can be started: {(error.strerror or 'error').lower()}") from None

    def _connect(self, messaging: ModuleType) -> Any:
        if self._connections is None:
            self._connections = messaging.Connections()
        return self._connections

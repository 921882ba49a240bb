"""Contexts: each has a kernel of its own and runs one piece of code after another."""

import asyncio
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Self

from toolbox.children.environment import Environment, check_variables
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError
from toolbox.incarnation import Incarnation
from toolbox.interpreter.kernel import Kernel
from toolbox.interpreter.kernels import Kernels
from toolbox.interpreter.languages import PYTHON
from toolbox.interpreter.models import InterpreterContext, Message
from toolbox.interpreter.run import Outcome, Run
from toolbox.lifetime import Registry, TaskSet

DEFAULT = "default"
INTERRUPT_SECONDS = 5.0
"""How long an interrupted run may take to end before its kernel is killed."""
_DEATH = "its variables are lost, the next run starts anew"


class Context:
    """A context. Its kernel is started when it is made (the default one's with its first run), and again if it dies."""

    def __init__(self, context_id: str, cwd: str, language: str) -> None:
        self.id = context_id
        self.cwd = cwd
        self.language = language
        self.created = datetime.now(UTC)
        self.lock = asyncio.Lock()
        """Held by the run whose turn it is; others wait in the order they came."""
        self.runs: list[Run] = []
        """What runs, and what waits."""
        self.kernel: Kernel | None = None
        self.life = 0
        """In which life of the daemon the kernel has run last (see `Incarnation`)."""
        self.enter: str | None = None
        """The directory that the kernel must go to with its first run, if it was a spare one."""
        self.deleted = False

    def info(self) -> InterpreterContext:
        """Return what clients are told."""
        return InterpreterContext(
            id=self.id, cwd=self.cwd, created_at=self.created, active=not self.deleted, language=self.language
        )


class Contexts:
    """All contexts. Leaving the daemon ends their kernels."""

    def __init__(self, kernels: Kernels, environment: Environment, incarnation: Incarnation, *, limit: int) -> None:
        self._kernels = kernels
        self._environment = environment
        self._incarnation = incarnation
        self._limit = limit
        self._default = Context(DEFAULT, str(environment.work_dir), PYTHON)
        self._contexts: Registry[Context] = Registry("context", self._end)
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end(self._default)
        await self._contexts.__aexit__(None, None, None)
        await self._tasks.close()

    def all(self) -> list[InterpreterContext]:
        """Return all but the default one."""
        return [context.info() for context in self._contexts]

    async def create(self, cwd: str | None, language: str | None) -> InterpreterContext:
        """Make a context and start its kernel.

        Raises `BadRequest` for a directory or language there is not, `Conflict` when there are too many, `Unavailable`
        when the kernel cannot be started.
        """
        if cwd and "\0" in cwd:
            raise BadRequest("invalid cwd: it contains NUL")
        directory = self._environment.directory(cwd)
        if not await asyncio.to_thread(os.path.isdir, directory):
            raise BadRequest(f"cwd is not a directory: {directory}")
        context = Context(str(uuid.uuid4()), directory, (language or PYTHON).lower())
        if len(self._contexts) >= self._limit:
            raise Conflict(f"there are {self._limit} contexts already, as many as are allowed: delete one")
        self._contexts.add(context.id, context)
        try:
            await self._claim(context)
        except BaseException:
            self._contexts.remove(context.id)
            raise
        return context.info()

    async def delete(self, context_id: str) -> None:
        """End a context, what runs in it too. Raises `NotFound`, and `BadRequest` for the default one."""
        if context_id == DEFAULT:
            raise BadRequest("the default context cannot be deleted")
        context = self._contexts.get(context_id)
        self._contexts.remove(context_id)
        # A task, so that it is done even if the caller goes away.
        await asyncio.shield(self._tasks.start(self._end(context), f"end context {context_id}"))

    def interrupt(self, context_id: str) -> bool:
        """Interrupt what runs in a context, if anything does; what waits goes on. Raises `NotFound`."""
        context = self._find(context_id)
        if not context.runs:
            return False
        context.runs[0].interrupt(Outcome.INTERRUPTED)
        return True

    def run(self, context_id: str | None, code: str, *, env: Mapping[str, str], timeout: float) -> Run:
        """Have code run when its turn comes. Raises `NotFound`, and `BadRequest` for what cannot be run."""
        if not code.strip():
            raise BadRequest("code is required")
        if timeout < 0:
            raise BadRequest("timeout must be greater than or equal to 0")
        check_variables(env)
        context = self._find(context_id or DEFAULT)
        if env and context.language != PYTHON:
            raise BadRequest("envs are for contexts of python: set them in the code")
        run = Run(code, env=env, timeout=timeout)
        context.runs.append(run)
        self._tasks.start(self._take_turn(context, run), f"run in context {context.id}")
        return run

    def _find(self, context_id: str) -> Context:
        return self._default if context_id == DEFAULT else self._contexts.get(context_id)

    async def _end(self, context: Context) -> None:
        context.deleted = True
        for run in context.runs:
            run.interrupt(Outcome.DELETED)
        kernel, context.kernel = context.kernel, None
        if kernel is not None:
            await kernel.close()

    async def _claim(self, context: Context) -> Kernel:
        life = self._incarnation.number
        claimed = await self._kernels.claim(context.language, context.cwd)
        if context.deleted:
            self._kernels.discard(claimed.kernel)
            raise NotFound(f"context not found: {context.id}")
        context.kernel, context.enter, context.life = claimed.kernel, claimed.cwd, life
        return claimed.kernel

    async def _take_turn(self, context: Context, run: Run) -> None:
        outcome = Outcome.DELETED
        try:
            async with context.lock:
                outcome = run.stop.result() if run.stop.done() else await self._perform(context, run)
        finally:
            context.runs.remove(run)
            run.finish(outcome)

    async def _perform(self, context: Context, run: Run) -> Outcome:
        try:
            kernel = await self._ready_kernel(context, run)
        except ToolboxError as error:
            if context.deleted:
                return Outcome.DELETED
            run.add(_error("KernelError", error.message))
            return Outcome.COMPLETED
        if run.stop.done():
            return run.stop.result()
        cwd, context.enter = context.enter, None
        last, context.life = context.life, self._incarnation.number
        run.resume = kernel.resume
        work = self._tasks.start(
            kernel.execute(run, cwd=cwd, reseed=last != context.life), f"code in context {context.id}"
        )
        try:
            await self._watch(kernel, run, work)
            if work.done():
                return _outcome(run, interrupted=work.result())
        finally:
            work.cancel()
        return await self._bury(context, kernel, run)

    async def _ready_kernel(self, context: Context, run: Run) -> Kernel:
        kernel = context.kernel
        if kernel is not None and kernel.child.exit is not None:
            run.add(Message(type="control", text="restarted", value=_cause(kernel)))
            await self._forget(context, kernel)
            kernel = None
        if kernel is None:
            kernel = await self._claim(context)
        try:
            await kernel.ready()
        except ToolboxError:
            await self._forget(context, kernel)
            raise
        return kernel

    async def _watch(self, kernel: Kernel, run: Run, work: "asyncio.Task[bool]") -> None:
        """Return when the run has ended, or its kernel; after a stop, kill one that goes on."""
        try:
            async with asyncio.timeout(run.timeout or None):
                await asyncio.wait((work, run.stop, kernel.child.ended), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            run.interrupt(Outcome.TIMED_OUT)
        if work.done() or kernel.child.ended.done() or run.stop.result() is Outcome.DELETED:
            return
        try:
            async with asyncio.timeout(INTERRUPT_SECONDS):
                await kernel.interrupt()
                await asyncio.wait((work, kernel.child.ended), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            run.restarted = True
            await kernel.child.kill_tree(0)

    async def _bury(self, context: Context, kernel: Kernel, run: Run) -> Outcome:
        """Tell of a kernel that has ended before its run, and return how the run ended."""
        if run.stop.done():
            if run.restarted:
                run.add(Message(type="control", text="restarted", value=_cause(kernel)))
            await self._forget(context, kernel)
            return run.stop.result()
        words = (await kernel.last_words()).strip()
        await self._forget(context, kernel)
        text = f"the kernel has ended: {_cause(kernel)}; {_DEATH}"
        run.add(_error("KernelDied", text, words))
        return Outcome.COMPLETED

    @staticmethod
    async def _forget(context: Context, kernel: Kernel) -> None:
        if context.kernel is kernel:
            context.kernel = None
            await kernel.close()


def _outcome(run: Run, *, interrupted: bool) -> Outcome:
    """Return how a run has ended that was not killed."""
    why = run.stop.result() if run.stop.done() else None
    if why is not None and why is not Outcome.INTERRUPTED:
        return why
    return Outcome.INTERRUPTED if interrupted else Outcome.COMPLETED


def _cause(kernel: Kernel) -> str:
    end = kernel.child.exit
    return "unknown" if end is None else end.cause or f"exit code {end.code}"


def _error(name: str, text: str, more: str = "") -> Message:
    return Message(type="error", name=name, value=text, traceback="\n".join(filter(None, (more, f"{name}: {text}\n"))))

"""Runs native git."""

import asyncio
import logging
import os
import re
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from toolbox.children.environment import Environment
from toolbox.children.process import Child, Children, Exit
from toolbox.children.spool import OutputPipe, Spool
from toolbox.errors import BadRequest, PayloadTooLarge, ToolboxError, Unavailable
from toolbox.git.credentials import Login, redact
from toolbox.git.errors import Killed, failure
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

STALL_SECONDS = 120
"""How long an HTTP remote may send nothing; unless `GIT_HTTP_LOW_SPEED_TIME` says otherwise."""
_OUTPUT_LIMIT = 256 * 1024 * 1024
_ERRORS_LIMIT = 64 * 1024
_OUTPUT_GRACE = 0.5
_PROGRESS_SECONDS = 2.0
_INHERITED = re.compile(r"GIT_(SSH|SSL|HTTP|CONFIG|PROXY|ASKPASS|EXEC_PATH|TEMPLATE_DIR|ALLOW_PROTOCOL)")
"""Variables of git that callers may set by `/env`; others name a repository, or make git chatter."""
_DISPLAYS = {"DISPLAY", "WAYLAND_DISPLAY", "SSH_ASKPASS", "LANGUAGE"}
"""Would let ssh or gpg open a dialogue that nobody answers, or git speak another language."""

_SETTINGS = (
    ("safe.directory", "*"),  # the sandbox is the boundary: whose files they are does not matter
    ("maintenance.auto", "false"),  # would go on behind the back of the request
    ("gc.auto", "0"),
    ("core.quotePath", "false"),  # in messages
)


@dataclass(frozen=True, slots=True)
class Output:
    """What git printed on its way to a good end."""

    code: int
    out: bytes
    errors: str


class Native:
    """Starts git. What outlives a request, a process tree to be ended, is owned here."""

    def __init__(self, children: Children, environment: Environment, spool_dir: Path) -> None:
        self._children = children
        self._environment = environment
        self._spool_dir = spool_dir
        self._tasks = TaskSet()
        # A repository is looked for upwards, but not above the work dir.
        self._ceiling = str(environment.work_dir.parent)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    async def run(
        self,
        *args: str,
        cwd: str,
        data: bytes | None = None,
        login: Login | None = None,
        env: Mapping[str, str] | None = None,
        progress: str = "",
        accept: Collection[int] = (0,),
    ) -> Output:
        """Run git to its end, with `data` as its standard input.

        `progress` is the name under which what it prints about its progress goes to the log. Raises the `ToolboxError`
        that an exit code not in `accept` stands for; `Killed` when a signal ended it; `Unavailable` without git;
        `PayloadTooLarge` for output that is. Cancelling ends the whole process tree first.
        """
        if any("\0" in text for text in (*args, *(env or {}).values())):
            raise BadRequest("a name or text cannot contain NUL")
        with _pipe(Spool(self._spool_dir, _OUTPUT_LIMIT)) as out, _pipe(_Errors(self._spool_dir, progress)) as errors:
            try:
                child = self._spawn(args, cwd, data, login, env or {}, out.write_end, errors.write_end)
            finally:
                out.close_write_end()
                errors.close_write_end()
            exit_ = await self._end_of(child)
            await out.finish(_OUTPUT_GRACE)
            await errors.finish(_OUTPUT_GRACE)
            said = redact(await errors.spool.text())
            said = login.hide_in(said) if login else said
            if exit_.code is None or exit_.code not in accept:
                raise _failed(exit_, said, await _content(out.spool, 4096))
            return Output(exit_.code, await _content(out.spool), said)

    async def _end_of(self, child: Child) -> Exit:
        try:
            exit_ = await child.wait()
            if exit_.code is None:
                # What it had started, a transport or a filter, may not notice.
                await asyncio.shield(self._tasks.start(child.kill_tree(), f"kill tree of {child.pid}"))
        except asyncio.CancelledError:
            # Git removes its locks and what it has half made when it is asked to end; wait for that, come what may.
            ending = self._tasks.start(child.kill_tree(), f"kill tree of {child.pid}")
            while not ending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([ending])
            raise
        return exit_

    def _spawn(
        self,
        args: Sequence[str],
        cwd: str,
        data: bytes | None,
        login: Login | None,
        env: Mapping[str, str],
        out: int,
        errors: int,
    ) -> Child:
        settings = list(_SETTINGS)
        descriptors: tuple[int, ...] = ()
        with ExitStack() as stack:
            if login is not None:
                descriptors = (stack.enter_context(_memory_file(login.record)),)
                settings += login.settings(*descriptors)
            stdin = subprocess.DEVNULL if data is None else stack.enter_context(_memory_file(data))
            try:
                return self._children.spawn(
                    ["git", *args],
                    cwd=cwd,
                    env={**self._variables(settings), **env},
                    stdin=stdin,
                    stdout=out,
                    stderr=errors,
                    pass_fds=descriptors,
                )
            except FileNotFoundError as error:
                if error.filename == cwd:
                    raise
                raise Unavailable("git is not installed in this sandbox") from None

    def _variables(self, settings: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Return the environment: no prompts, no pager, no repository but that of the directory."""
        base = self._environment.child()
        variables = {
            name: value
            for name, value in base.items()
            if name not in _DISPLAYS and (not name.startswith("GIT_") or _INHERITED.match(name))
        }
        variables.setdefault("GIT_ASKPASS", "")  # set and empty: no program, not even the one of the configuration
        variables.setdefault("GIT_HTTP_LOW_SPEED_LIMIT", "1")
        variables.setdefault("GIT_HTTP_LOW_SPEED_TIME", str(STALL_SECONDS))
        variables |= {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_EDITOR": ":",
            "GIT_PAGER": "cat",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_CEILING_DIRECTORIES": self._ceiling,
            "LC_ALL": "C.UTF-8",
        }
        count = variables.get("GIT_CONFIG_COUNT", "")
        start = int(count) if count.isdecimal() else 0
        for number, (name, value) in enumerate(settings, start):
            variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return variables | {"GIT_CONFIG_COUNT": str(start + len(settings))}


@contextmanager
def _pipe(spool: Spool) -> Iterator[OutputPipe]:
    """Give a pipe that fills `spool`, for as long as both are needed."""
    pipe = OutputPipe(spool)
    try:
        yield pipe
    finally:
        pipe.close()
        spool.close()


@contextmanager
def _memory_file(data: bytes) -> Iterator[int]:
    """Give the descriptor of a nameless file in memory that holds `data`."""
    descriptor = os.memfd_create("input")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


async def _content(spool: Spool, limit: int = _OUTPUT_LIMIT) -> bytes:
    """Return what git printed. Raises `PayloadTooLarge`, and `OSError` when the disk was too full to keep it."""
    if spool.failure is not None:
        raise spool.failure
    if spool.cut:
        raise PayloadTooLarge(f"git printed more than {_OUTPUT_LIMIT} bytes")
    return b"".join([chunk async for chunk in spool.chunks()])[:limit]


def _failed(exit_: Exit, errors: str, out: bytes) -> ToolboxError:
    if exit_.code is None:
        return Killed(f"git was ended: {exit_.cause}")
    # Some say what is wrong on standard output.
    return failure(errors or redact(out.decode("utf-8", "replace")), code=exit_.code)


class _Errors(Spool):
    """Standard error. If it has a name, its progress goes to the log: each step in the end, and now and then before."""

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(directory, _ERRORS_LIMIT)
        self._name = name
        self._due = time.monotonic() + _PROGRESS_SECONDS

    def append(self, data: bytes) -> None:
        """Add bytes, and log the last progress in them."""
        super().append(data)
        if not self._name:
            return
        lines = re.split(rb"[\r\n]+", data)
        steps = [line for line in lines if line.endswith(b"done.")]
        if not steps and time.monotonic() > self._due:
            steps = [line for line in lines if b"%" in line][-1:]
        for step in steps:
            self._due = time.monotonic() + _PROGRESS_SECONDS
            text = redact(step.decode("utf-8", "replace"))
            log.info("git progress", extra={"fields": {"operation": self._name, "progress": text}})

"""One persistent shell that is fed commands, and reports each one's exit code by itself.

The shell reads its script from a FIFO that only we write: one line a command, written when the one before has ended.
A line sources the command's text with its standard streams on FIFOs of that command, then reports `$?` on the shell's
own standard output. So a command can close or redirect what it likes, and `cd`, variables, functions and options last.
The shell keeps script and report open under descriptors that what it runs does not inherit.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolbox.children.environment import Environment
from toolbox.children.journal import STDERR, STDOUT
from toolbox.children.process import Child, Children, Exit
from toolbox.lifetime import TaskSet
from toolbox.session.capture import Capture
from toolbox.session.command import Command

DELETE_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL for what a deleted session runs (the reference daemon's default)."""


@dataclass(slots=True)
class _Running:
    """The command the shell is at: its files, its captures."""

    command: Command
    name: str
    captures: tuple[Capture, ...]


class Shell:
    """The process behind a session. `ended` is called once, with how it ended."""

    def __init__(self, name: str, children: Children, environment: Environment, ended: Callable[[Exit], None]) -> None:
        self._name = name
        self._children = children
        self._environment = environment
        self._ended = ended
        self._tasks = TaskSet()
        self._feeding = TaskSet()
        self._next: Command | None = None
        self._queue: asyncio.Queue[Command] = asyncio.Queue()
        self._done = asyncio.Event()
        self._running: _Running | None = None
        self._captures: set[Capture] = set()
        self._report = b""
        self._word = secrets.token_hex(8)
        self._number = 0
        self._directory = Path()
        self._script = self._reports = -1
        self._child: Child | None = None

    async def start(self) -> None:
        """Start the shell in the work dir. Raises `OSError`."""
        self._directory = await asyncio.to_thread(self._make_directory)
        try:
            self._child = self._spawn()
        except OSError:
            await self.close()
            raise
        self._feeding.start(self._feed(), "session commands")
        self._tasks.start(self._watch(self._child), "session shell")

    def _make_directory(self) -> Path:
        directory = self._children.scratch.make("session")
        try:
            os.mkfifo(directory / "script", 0o600)
            self._children.scratch.own(directory / "script")
        except OSError:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return directory

    def _spawn(self) -> Child:
        # Read-write, so that opening does not wait for the shell and the shell never sees an end.
        self._script = os.open(self._directory / "script", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._reports, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reports, False)
        asyncio.get_running_loop().add_reader(self._reports, self._on_report)
        try:
            return self._children.spawn(
                [self._environment.shell, str(self._directory / "script")],
                cwd=str(self._environment.work_dir),
                env=self._environment.child(),
                stdout=write_end,
                label=f"session {self._name}",
            )
        finally:
            os.close(write_end)

    def submit(self, command: Command) -> None:
        """Run `command` after those before it."""
        self._queue.put_nowait(command)

    async def _feed(self) -> None:
        while True:
            command = self._next = await self._queue.get()
            self._done.clear()
            name = f"{self._number}"
            self._number += 1
            try:
                await self._begin(name, command)
            except OSError as error:  # a full disk, no descriptors: this command is not run, those after it may be
                command.journal.append(STDERR, f"the command cannot be started: {error.strerror}\n".encode())
                command.finish(Exit())
                await asyncio.to_thread(self._remove_files, name)
                continue
            await self._done.wait()

    async def _begin(self, name: str, command: Command) -> None:
        """Let the shell run `command`. Raises `OSError` when it does not get that far."""
        await asyncio.to_thread(self._prepare, name, command)
        captures: list[Capture] = []
        try:
            for end, stream in (("out", STDOUT), ("err", STDERR)):
                descriptor = self._open(f"{name}.{end}", os.O_RDONLY)
                captures.append(Capture(descriptor, stream, command.journal, self._tasks))
            standard_input = "/dev/null"
            if command.keeps_input:
                command.open_input(self._open(f"{name}.in", os.O_RDWR))
                standard_input = self._path(f"{name}.in")
        except OSError:
            for capture in captures:
                capture.close()
            raise
        # Those of earlier commands stay while something left behind still writes.
        self._captures = {each for each in self._captures if not each.closed} | set(captures)
        self._running = _Running(command, name, tuple(captures))
        command.begin()
        base = self._path(name)
        line = f". {base}.sh <{standard_input} >{base}.out 2>{base}.err\n"
        os.write(self._script, (line + self._reporting(name)).encode())

    def _reporting(self, name: str) -> str:
        # A function of the user's may be called printf.
        prefix = "builtin" if self._environment.shell.endswith(("bash", "zsh")) else "command"
        return f"{prefix} printf '%s\\n' \"{self._word} {name} $?\"\n"

    def _prepare(self, name: str, command: Command) -> None:
        base = self._path(name)
        fifos = [f"{base}.out", f"{base}.err", *([f"{base}.in"] if command.keeps_input else [])]
        for fifo in fifos:
            os.mkfifo(fifo, 0o600)
        with open(f"{base}.sh", "wb") as script:  # noqa: PTH123
            script.write(command.text.encode("utf-8", "surrogatepass") + b"\n")
        self._children.scratch.own(*fifos, script.name)

    def _path(self, name: str) -> str:
        # No Path: it interns every name, and the interpreter's table of those grows with names that were there once.
        return f"{self._directory}/{name}"

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._path(name), flags | os.O_NONBLOCK | os.O_CLOEXEC)

    def _on_report(self) -> None:
        try:
            data = os.read(self._reports, 65536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._reports)
            return
        *lines, self._report = (self._report + data).split(b"\n")
        for line in lines:
            match line.split():
                case [word, name, code] if word == self._word.encode() and code.isdigit():
                    self._reported(name.decode(), int(code))
        self._report = self._report[-4096:]

    def _reported(self, name: str, code: int) -> None:
        running = self._running
        if running is not None and running.name == name:
            self._running = None
            self._tasks.start(self._complete(running, Exit(code=code)), "end of a session command")

    async def _complete(self, running: _Running, end: Exit) -> None:
        for capture in running.captures:
            await capture.drain()
        running.command.finish(end)
        await asyncio.to_thread(self._remove_files, running.name)
        self._done.set()

    def _remove_files(self, name: str) -> None:
        for suffix in (".sh", ".in", ".out", ".err"):
            with contextlib.suppress(OSError):
                os.unlink(self._path(f"{name}{suffix}"))  # noqa: PTH108

    async def _watch(self, child: Child) -> None:
        """When the shell has ended, so has the command it was at; those that wait are never run."""
        end = await child.wait()
        self._ended(end)  # first: from now on nothing is submitted
        self._on_report()
        await self._feeding.close()
        running, self._running = self._running, None
        if running is not None:
            await self._complete(running, end)
        if self._next is not None and self._next.state == "queued":
            self._next.finish(Exit())
        while not self._queue.empty():
            self._queue.get_nowait().finish(Exit())

    async def end(self, grace: float = DELETE_GRACE) -> None:
        """End the shell and all that it started."""
        if self._child is not None:
            await self._child.kill_tree(grace)

    async def close(self) -> None:
        """Release everything; the shell must have ended."""
        await self._feeding.close()
        await self._tasks.close()
        loop = asyncio.get_running_loop()
        for capture in self._captures:
            capture.close()
        if self._reports >= 0:
            loop.remove_reader(self._reports)
        for descriptor in (self._script, self._reports):
            if descriptor >= 0:
                os.close(descriptor)
        self._script = self._reports = -1
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

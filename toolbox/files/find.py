"""Lines that contain a text, found by ripgrep where there is one, else by ourselves."""

import asyncio
import errno
import os
import shutil
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

from toolbox import paths
from toolbox.children.environment import Environment
from toolbox.children.process import Child, Children
from toolbox.errors import ToolboxError
from toolbox.files.lines import Line, RipgrepLines, lines_below, lines_in
from toolbox.files.models import FoundLine
from toolbox.files.search import below, in_shifts
from toolbox.files.threads import FileThreads
from toolbox.lifetime import TaskSet

_READ_BYTES = 256 * 1024
_SORTED_BYTES = 2 * 1024 * 1024
"""Output of ripgrep that is sorted here, after a search on all processors; of more, ripgrep does it, on one."""
_NO_MATCH = 1
_OPTIONS = (
    *("--no-config", "--no-messages", "--no-ignore", "--hidden", "--no-mmap"),
    *("--fixed-strings", "--text", "--encoding=none"),
    *("--null", "--line-number", "--with-filename", "--no-heading", "--color=never"),
)


class RipgrepFailed(ToolboxError):
    """The search did not come to its end."""


class Finder:
    """Searches file contents. What outlives its request, a process to be ended, is owned here."""

    def __init__(
        self, children: Children, environment: Environment, threads: FileThreads, *, program: str | None = None
    ) -> None:
        self._children = children
        self._environment = environment
        self._threads = threads
        self._program = _find_ripgrep() if program is None else program
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    async def find(self, root: str, name: str, text: str) -> AsyncGenerator[list[FoundLine], None]:
        """Yield the lines below `root` that contain `text`, in lexical order of the files.

        `name` is the shown path of `root`. Only regular files are searched, and only those without a NUL in their
        first 512 bytes; links are not followed; what cannot be read, and a root that does not exist, are passed over.
        Raises `RipgrepFailed` if ripgrep was ended by somebody else.
        """
        is_directory = await self._threads.run(_is_directory, root)
        if is_directory is None or "\n" in text:
            return
        directory, start = (root, "") if is_directory else (paths.parent(root), paths.base_name(root))
        lines = self._lines(directory, start, text.encode())
        async with aclosing(lines):
            async for batch in lines:
                yield [_found(line, name if start else below(name, line.path)) for line in batch]

    async def _lines(self, directory: str, start: str, text: bytes) -> AsyncGenerator[list[Line], None]:
        if self._program and b"\0" not in text:
            try:
                ripgrep = self._ripgrep(directory, start, text)
                async with aclosing(ripgrep):
                    async for batch in ripgrep:
                        yield batch
            except FileNotFoundError:
                pass  # the directory is gone, or the program: the slow way finds out
            else:
                return
        found = lines_in(f"{directory}/{start}", start, text) if start else lines_below(directory, text)
        slow = in_shifts(self._threads, found)
        async with aclosing(slow):
            async for batch in slow:
                yield batch

    async def _ripgrep(self, directory: str, start: str, text: bytes) -> AsyncGenerator[list[Line], None]:
        """Yield sorted lines. Raises `FileNotFoundError` before the first, if ripgrep cannot be used here."""
        few: list[Line] = []
        size = 0
        unsorted = self._run(directory, start, text)
        async with aclosing(unsorted):
            async for batch in unsorted:
                few += batch
                size += sum(len(line.content) + len(line.path) for line in batch)
                if size > _SORTED_BYTES:
                    break
        if size <= _SORTED_BYTES:
            few.sort(key=_place)
            yield few
            return
        few.clear()
        in_order = self._run(directory, start, text, "--sort=path")
        async with aclosing(in_order):
            try:
                async for batch in in_order:
                    yield batch
            except FileNotFoundError:
                raise RipgrepFailed("the search failed on its way") from None

    async def _run(self, directory: str, start: str, text: bytes, *options: str) -> AsyncGenerator[list[Line], None]:
        argv = [self._program, *_OPTIONS, *options, "-e", os.fsdecode(text), "--", f"./{start}"]
        binary = _BinaryFiles(directory, self._threads)
        parser = RipgrepLines()
        process = _Process(self._children, argv, directory, self._environment.child())
        try:
            async for data in process.output():
                if lines := await binary.without(parser.feed(data)):
                    yield lines
            await process.succeeded()
        finally:
            process.close(self._tasks)


class _Process:
    """Ripgrep, its output read as it comes."""

    def __init__(self, children: Children, argv: list[str], cwd: str, env: dict[str, str]) -> None:
        self._output, write_end = os.pipe2(os.O_CLOEXEC)
        # What it has to say against us; nothing, if it could start its work.
        self._errors = os.memfd_create("errors")
        self._child: Child | None = None
        self._transport: asyncio.ReadTransport | None = None
        try:
            self._child = children.spawn(argv, cwd=cwd, env=env, stdout=write_end, stderr=self._errors)
        except PermissionError as error:
            raise FileNotFoundError(errno.ENOENT, "cannot be started", argv[0]) from error
        finally:
            os.close(write_end)
            if self._child is None:
                os.close(self._output)
                os.close(self._errors)

    async def output(self) -> AsyncGenerator[bytes, None]:
        """Yield what it prints, to the end; the many small pieces in which that comes are put together."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(_READ_BYTES)
        pipe, self._output = os.fdopen(self._output, "rb", 0), -1
        self._transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        pieces: list[bytes] = []
        size = 0
        while piece := await reader.read(_READ_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size >= _READ_BYTES:
                yield b"".join(pieces)
                pieces, size = [], 0
        yield b"".join(pieces)

    async def succeeded(self) -> None:
        """Wait for its end. Raises `FileNotFoundError` if it never began to search, `RipgrepFailed` if it was ended."""
        assert self._child is not None  # noqa: S101 -- started
        exit_ = await self._child.wait()
        if exit_.code is None:
            raise RipgrepFailed(f"the search was ended: {exit_.cause}")
        if exit_.code > _NO_MATCH and os.lseek(self._errors, 0, os.SEEK_END):
            raise FileNotFoundError(errno.ENOENT, "cannot be used")

    def close(self, tasks: TaskSet) -> None:
        """Close our ends and see to it that the process goes."""
        if self._transport is not None:
            self._transport.close()
        if self._output >= 0:
            os.close(self._output)
        os.close(self._errors)
        if self._child is not None and self._child.exit is None:
            tasks.start(self._child.kill_tree(grace=0), f"kill tree of {self._child.pid}")


class _BinaryFiles:
    """Takes out the lines of binary files; ripgrep has its own idea of those."""

    def __init__(self, directory: str, threads: FileThreads) -> None:
        self._directory = directory
        self._threads = threads
        self._known: tuple[str, bool] = ("", False)

    async def without(self, lines: list[Line]) -> list[Line]:
        """Return the lines of text files."""
        files = dict.fromkeys(line.path for line in lines)
        # A file's lines come together, possibly continued by the next piece of output.
        unknown = [path for path in files if path != self._known[0]]
        if unknown:
            binary = await self._threads.run(self._look, unknown)
        else:
            binary = set()
        if self._known[1]:
            binary.add(self._known[0])
        if lines:
            last = lines[-1].path
            self._known = last, last in binary
        return [line for line in lines if line.path not in binary] if binary else lines

    def _look(self, files: list[str]) -> set[str]:
        return {path for path in files if _is_binary(f"{self._directory}/{path}")}


def _is_binary(path: str) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
    except OSError:
        return False  # it has been searched, so it was there
    try:
        return b"\0" in os.pread(file, 512, 0)
    except OSError:
        return False
    finally:
        os.close(file)


def _is_directory(path: str) -> bool | None:
    """Tell whether `path` is a directory, as opposed to a regular file; None for anything else, links included."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return True if stat.S_ISDIR(mode) else False if stat.S_ISREG(mode) else None


def _place(line: Line) -> tuple[bytes, int]:
    """Return the key that sorts by name, directory by directory: NUL comes before anything in a name."""
    return os.fsencode(line.path).replace(b"/", b"\0"), line.number


def _found(line: Line, path: str) -> FoundLine:
    content = line.content.decode("utf-8", "replace")
    return FoundLine(file=paths.escape(path), line=line.number, content=content, truncated=line.cut)


def _find_ripgrep() -> str:
    """Return ripgrep: the one installed beside our Python (package `ripgrep`), or that of the PATH; empty for none."""
    beside = os.path.join(os.path.dirname(sys.executable), "rg")
    return beside if os.access(beside, os.X_OK) else shutil.which("rg") or ""

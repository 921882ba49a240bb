"""Terminals by id: a shell each, what it printed last, and any number of viewers."""

import asyncio
import errno
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Self

import msgspec

from toolbox.children.environment import Environment, check_variables
from toolbox.children.process import Children, Exit
from toolbox.children.terminal import Size, Terminal, open_terminal
from toolbox.errors import BadRequest, Gone, NotFound, ToolboxError, Unavailable
from toolbox.lifetime import Registry, TaskSet
from toolbox.pty.models import PtySessionInfo
from toolbox.pty.scrollback import Scrollback

REPLAY_BYTES = 256 * 1024
"""Output kept of each terminal, and how far the slowest viewer may be behind before the shell is held."""
CHUNK_BYTES = 32 * 1024
DEFAULT_SIZE = Size(80, 24)
KEPT_AFTER_END = 16
"""Ended terminals whose last output and exit can still be had by offset."""
_TERM = "xterm-256color"
_MAX_ID = 128
_RESERVED = ("create-connect", ".", "..")
_CLOSE_GRACE = 1.0
_NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG)
_EXIT_REASONS = {130: "Ctrl+C", 137: "SIGKILL", 143: "SIGTERM"}


def check_id(session_id: str) -> None:
    """Raise `BadRequest` for an id that could be taken for something else than a name."""
    if len(session_id) > _MAX_ID or "/" in session_id or not session_id.isprintable() or session_id in _RESERVED:
        raise BadRequest(f"invalid PTY session ID: {session_id[:_MAX_ID]!r}")


def exit_reason(end: Exit) -> str | None:
    """Return in the contract's words why a shell ended; None for exit code 0."""
    if end.code is None and end.signal is None:
        return "unknown"
    if end.oom:
        return end.cause
    code = end.shell_code
    if code == 0:
        return None
    return _EXIT_REASONS.get(code) or (f"signal {code - 128}" if code > 128 else "non-zero exit")  # noqa: PLR2004


class Session:
    """One terminal. As the `Output` of its shell it keeps the latest bytes and holds the shell for slow viewers."""

    def __init__(self, session_id: str, cwd: str, variables: Mapping[str, str], size: Size, *, lazy: bool) -> None:
        self.id = session_id
        self.cwd = cwd
        self.variables = {"TERM": _TERM, **variables}
        self.size = size
        self.lazy = lazy
        self.created = datetime.now(UTC)
        self.terminal: Terminal | None = None
        self.exit: Exit | None = None
        """How the shell ended, once all it printed has been read."""
        self.scrollback = Scrollback(REPLAY_BYTES)
        self.viewers: set[Viewer] = set()

    @property
    def ended(self) -> bool:
        """Tell whether the shell has run and ended."""
        return self.terminal is not None and self.terminal.child.exit is not None

    def info(self) -> PtySessionInfo:
        """Return what clients are told."""
        return PtySessionInfo(
            id=self.id,
            cwd=self.cwd,
            envs=self.variables,
            cols=self.size.cols,
            rows=self.size.rows,
            created_at=self.created,
            active=self.terminal is not None and not self.ended,
            lazy_start=self.lazy,
            process_id=self.terminal.child.pid if self.terminal else msgspec.UNSET,
        )

    def start(self, children: Children, environment: Environment) -> Terminal:
        """Start the shell. Raises `BadRequest` for a working directory it cannot have, `Unavailable`."""
        try:
            self.terminal = open_terminal(
                children,
                [environment.shell, "-i", "-l"],
                cwd=self.cwd,
                env=environment.child(self.variables),
                size=self.size,
                output=self,
            )
        except OSError as error:
            message = f"failed to start PTY session in {self.cwd}: {(error.strerror or 'error').lower()}"
            if error.filename == self.cwd and error.errno in _NO_DIRECTORY:
                raise BadRequest(message) from None
            raise Unavailable(message) from error
        return self.terminal

    def room(self) -> memoryview:
        """Return where output goes: what a viewer has not got yet is never overwritten."""
        return self.scrollback.room(min((viewer.offset for viewer in self.viewers), default=self.scrollback.end))

    def grow(self, count: int) -> None:
        """Count output that was read."""
        self.scrollback.grow(count)

    def flush(self) -> None:
        """Wake the viewers."""
        for viewer in self.viewers:
            viewer.wake()

    def resize(self, size: Size) -> None:
        """Change the size, now or for the start."""
        self.size = size
        if self.terminal is not None:
            self.terminal.resize(size)

    def end(self, end: Exit) -> None:
        """The shell has ended and all it printed is here."""
        self.exit = end
        self.flush()


class Viewer:
    """One client of a terminal, at an offset of its output. A context: leaving it lets the shell go on without."""

    def __init__(self, session: Session, offset: int) -> None:
        self.session = session
        self.offset = offset
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None
        session.viewers.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def read(self) -> bytes:
        """Return the next output; empty when the shell has ended and all was read, or the viewer was closed."""
        while not self._closed:
            if data := self.session.scrollback.read(self.offset, CHUNK_BYTES):
                self.offset += len(data)
                self._release()
                return data
            if self.session.exit is not None:
                break
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return b""

    async def write(self, data: bytes) -> None:
        """Type `data`."""
        if self.session.terminal is not None:
            await self.session.terminal.write(data)

    def wake(self) -> None:
        """There is something to read."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """Read no more."""
        self._closed = True
        self.session.viewers.discard(self)
        self._release()
        self.wake()

    def _release(self) -> None:
        if self.session.terminal is not None and self.session.terminal.paused:
            self.session.terminal.resume()


class Terminals:
    """All terminals. One leaves when its shell has ended; leaving the daemon ends the rest."""

    def __init__(self, children: Children, environment: Environment) -> None:
        self._children = children
        self._environment = environment
        self._sessions: Registry[Session] = Registry("PTY session", self._close)
        self._ended: dict[str, Session] = {}
        self._tasks = TaskSet()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sessions.__aexit__(None, None, None)
        await self._tasks.close()

    async def _close(self, session: Session) -> None:
        if session.terminal is not None:
            # An interactive shell ignores SIGTERM; a hang-up makes it end its jobs and itself.
            session.terminal.hang_up()
            await session.terminal.child.kill_tree(_CLOSE_GRACE)

    def create(
        self, session_id: str, *, cwd: str | None, variables: Mapping[str, str], size: Size, lazy: bool = False
    ) -> Session:
        """Make a terminal and, unless `lazy`, start its shell. A side of 0 means the default.

        Raises `BadRequest` for a bad id, variable or directory, `Conflict` for a taken id, `Unavailable`.
        """
        check_id(session_id)
        check_variables(variables)
        if cwd and "\0" in cwd:
            raise BadRequest("invalid cwd: it contains NUL")
        size = Size(size.cols or DEFAULT_SIZE.cols, size.rows or DEFAULT_SIZE.rows)
        session = Session(session_id, self._environment.directory(cwd), variables, size, lazy=lazy)
        self._sessions.add(session_id, session)
        if not lazy:
            try:
                self._start(session)
            except BaseException:
                self._sessions.remove(session_id)
                raise
        self._ended.pop(session_id, None)
        return session

    def _start(self, session: Session) -> None:
        terminal = session.start(self._children, self._environment)
        self._tasks.start(self._watch(session, terminal), f"terminal {session.id}")

    async def _watch(self, session: Session, terminal: Terminal) -> None:
        await terminal.child.wait()
        if self._retire(session):
            while len(self._ended) >= KEPT_AFTER_END:
                del self._ended[next(iter(self._ended))]
            self._ended[session.id] = session
        session.end(await terminal.finish())

    def _retire(self, session: Session) -> bool:
        """Take a session off the list; False if it is not there, or its id belongs to another by now."""
        listed = any(each is session for each in self._sessions)
        if listed:
            self._sessions.remove(session.id)
        return listed

    def get(self, session_id: str) -> Session:
        """Return a terminal. Raises `NotFound`."""
        return self._sessions.get(session_id)

    def resize(self, session_id: str, size: Size) -> Session:
        """Change the size of a terminal and return it. Raises `Gone` when there is none (any more)."""
        try:
            session = self._sessions.get(session_id)
        except NotFound as error:
            raise Gone(error.message) from None
        if session.ended:
            raise Gone(f"PTY session has ended: {session_id}")
        session.resize(size)
        return session

    async def delete(self, session_id: str) -> None:
        """End a terminal with all its processes. Raises `NotFound`, and `ToolboxError` if the shell does not die."""
        session = self._sessions.get(session_id)
        if session.terminal is not None:
            # A task, so that it is done even if the caller goes away.
            killing = self._tasks.start(session.terminal.child.kill_tree(grace=0), f"kill terminal {session_id}")
            if await asyncio.shield(killing) is None:
                raise ToolboxError(f"the shell of PTY session {session_id} does not die")
        self._retire(session)
        if self._ended.get(session_id) is session:
            del self._ended[session_id]

    def view(self, session_id: str, offset: int | None = None) -> Viewer:
        """Attach a viewer, which starts the shell of a lazy terminal.

        Without an offset all that is kept is replayed. With one, output goes on there, or at the oldest byte kept if
        that is later; the latest terminals that have ended can then be read to their end too. Raises `NotFound`,
        `BadRequest` for an offset that was not reached yet, and what starting raises.
        """
        try:
            session = self._sessions.get(session_id)
        except NotFound:
            if offset is None or session_id not in self._ended:
                raise
            session = self._ended[session_id]
        kept = session.scrollback
        if offset is not None and offset > kept.end:
            raise BadRequest(f"offset {offset} is beyond the output so far: {kept.end}")
        viewer = Viewer(session, max(offset or 0, kept.start))
        if session.terminal is None:
            try:
                self._start(session)
            except BaseException:
                viewer.close()
                raise
        return viewer

"""The sessions of the sandbox, by the ids that clients gave them."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from toolbox.children.environment import Environment
from toolbox.children.journal import Journal, JournalStore
from toolbox.children.process import Children, Exit
from toolbox.errors import BadRequest, Gone, NotFound
from toolbox.lifetime import Registry
from toolbox.session.command import Command
from toolbox.session.entrypoint import ENTRYPOINT, Entrypoint
from toolbox.session.models import SessionInfo
from toolbox.session.shell import DELETE_GRACE, Shell

MOST_COMMANDS = 10_000
"""Kept of one session; each takes a few kB of memory beside its output, which is on disk."""
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,128}\Z")


def check_id(session_id: str) -> None:
    """Raise `BadRequest` for an id that is no plain name, or the reserved one."""
    if session_id == ENTRYPOINT:
        raise BadRequest(f"the session id {ENTRYPOINT} is reserved")
    if not _NAME.match(session_id) or session_id in (".", ".."):
        raise BadRequest("invalid session id: 1 to 128 characters, no slash, backslash or control character")


class Session:
    """A shell and its last commands, oldest first. It can be read on after the shell has ended."""

    def __init__(self, session_id: str, children: Children, environment: Environment) -> None:
        self.id = session_id
        self.commands: dict[str, Command] = {}
        self.end: Exit | None = None
        self.deleted = False
        self._shell = Shell(session_id, children, environment, self._on_end)

    async def start(self) -> None:
        """Start the shell. Raises `OSError`."""
        await self._shell.start()

    def _on_end(self, end: Exit) -> None:
        self.end = end

    def submit(self, command: Command) -> None:
        """Run a command after those before it. Raises `Gone` when the shell has ended."""
        if self.end is not None:
            raise Gone(f"session has ended with exit code {self.end.shell_code}", code="SESSION_ENDED")
        self.commands[command.id] = command
        self._shell.submit(command)
        while len(self.commands) > MOST_COMMANDS and (oldest := next(iter(self.commands.values()))).exit is not None:
            oldest.journal.abandon()
            del self.commands[oldest.id]

    def command(self, command_id: str) -> Command:
        """Return a command. Raises `NotFound`."""
        try:
            return self.commands[command_id]
        except KeyError:
            raise NotFound(f"command not found: {command_id}") from None

    @property
    def info(self) -> SessionInfo:
        """What the API tells about it."""
        return SessionInfo(
            session_id=self.id,
            commands=[command.info for command in self.commands.values()],
            status="running" if self.end is None else "ended",
        )

    async def close(self, grace: float = DELETE_GRACE) -> None:
        """End everything in the session and forget its output."""
        self.deleted = True
        await self._shell.end(grace)
        for command in self.commands.values():
            if command.exit is None:
                command.finish(Exit())
        await self._shell.close()
        for command in self.commands.values():
            command.journal.drop_all()


class Sessions:
    """Creates, finds and deletes sessions; the entrypoint's is among them where there is an entrypoint."""

    def __init__(
        self,
        children: Children,
        environment: Environment,
        directory: Path,
        *,
        log_limit: int,
        total_log_limit: int,
        entrypoint: Sequence[str] = (),
        entrypoint_waits: bool = False,
    ) -> None:
        self._children = children
        self._environment = environment
        self._log_limit = log_limit
        self._store = JournalStore(directory, total_log_limit)
        self._sessions: Registry[Session] = Registry("session", lambda session: session.close(grace=1.0))
        self._entrypoint = Entrypoint(entrypoint, children, environment) if entrypoint else None
        self._entrypoint_waits = entrypoint_waits

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        await self._sessions.__aenter__()
        if not self._entrypoint_waits:
            await self.start_entrypoint()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._entrypoint is not None:
            await self._entrypoint.close()
        await self._sessions.__aexit__(None, None, None)
        await self._store.__aexit__()

    def __len__(self) -> int:
        return len(self._sessions)

    def _journal(self) -> Journal:
        return Journal(self._store, self._log_limit)

    async def start_entrypoint(self) -> None:
        """Start the entrypoint, if there is one and it has not been started."""
        if self._entrypoint is not None and self._entrypoint.command is None:
            await self._entrypoint.start(self._journal())

    async def create(self, session_id: str) -> None:
        """Start a session. Raises `BadRequest`, `Conflict` when the id is taken, `OSError`."""
        check_id(session_id)
        session = Session(session_id, self._children, self._environment)
        self._sessions.add(session_id, session)
        try:
            await session.start()
        except BaseException:
            self._sessions.remove(session_id)
            raise

    def all(self) -> list[SessionInfo]:
        """Return every session but the entrypoint's."""
        return [session.info for session in self._sessions]

    def info(self, session_id: str) -> SessionInfo:
        """Return a session. Raises `NotFound`."""
        if session_id == ENTRYPOINT:
            return SessionInfo(session_id=ENTRYPOINT, commands=[self.entrypoint().info])
        return self._sessions.get(session_id).info

    def entrypoint(self) -> Command:
        """Return the entrypoint's only command. Raises `NotFound` when there is none, or none yet."""
        if self._entrypoint is None or self._entrypoint.command is None:
            raise NotFound("session not found: no entrypoint has been started")
        return self._entrypoint.command

    def command(self, session_id: str, command_id: str) -> Command:
        """Return a command of a session. Raises `NotFound`."""
        if session_id == ENTRYPOINT:
            command = self.entrypoint()
            if command.id != command_id:
                raise NotFound(f"command not found: {command_id}")
            return command
        return self._sessions.get(session_id).command(command_id)

    def submit(self, session_id: str, text: str, *, keeps_input: bool, echo: bool) -> Command:
        """Run a command in a session, after those before it.

        Raises `NotFound`, `BadRequest` for a blank command, `Gone` when the session's shell has ended.
        """
        if session_id == ENTRYPOINT:
            raise BadRequest("nothing can be run in the entrypoint's session")
        session = self._sessions.get(session_id)
        if not text.strip():
            raise BadRequest("command must not be blank")
        observed = self._children.observe(("session command",), text)
        command = Command(text, self._journal(), keeps_input=keeps_input, echo=echo, observed=observed)
        session.submit(command)
        return command

    async def wait(self, session_id: str, command: Command) -> None:
        """Return when the command has ended. Raises `Gone` when its session is deleted first."""
        session = self._sessions.get(session_id)
        await command.wait()
        if session.deleted:
            raise Gone("the session was deleted while the command ran", code="SESSION_ENDED")

    def send_input(self, session_id: str, command_id: str, text: str) -> None:
        """Write a line to a running command. Raises `NotFound`, `Gone`, `Conflict`, `BadRequest`."""
        if session_id == ENTRYPOINT:
            raise BadRequest("the entrypoint takes no input")
        line = text if text.endswith("\n") else text + "\n"
        self.command(session_id, command_id).write(line.encode("utf-8", "replace"))

    async def delete(self, session_id: str) -> None:
        """End a session with all that runs in it, and forget it. Raises `NotFound`, `BadRequest`."""
        if session_id == ENTRYPOINT:
            raise BadRequest("the entrypoint's session cannot be deleted")
        session = self._sessions.get(session_id)
        self._sessions.remove(session_id)
        await asyncio.shield(self._store.tasks.start(session.close(), f"delete session {session_id}"))

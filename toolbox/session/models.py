"""Wire models of `/process/session`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import msgspec

from toolbox.web.wire import Model, Text

if TYPE_CHECKING:
    from toolbox.session.command import Command


def moment(seconds: float | None) -> str | msgspec.UnsetType:
    """Return a time of day in seconds as RFC 3339, or leave it out."""
    return msgspec.UNSET if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class CreateSessionRequest(Model):
    """A name for a new session."""

    session_id: Text


class ExecuteSessionRequest(Model):
    """A command line for the session's shell."""

    command: Text
    run_async: bool = False
    async_: bool = msgspec.field(name="async", default=False)
    """The older name of `runAsync`."""
    suppress_input_echo: bool = False


class ExecuteSessionResponse(Model):
    """The command's id and, if it was waited for, how it ended and what it printed."""

    cmd_id: str
    output: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    exit_code: int | None = None


class CommandInfo(Model):
    """One command of a session. `exitCode` is absent until it has ended."""

    id: str
    command: str
    exit_code: int | msgspec.UnsetType = msgspec.UNSET
    status: str = "queued"
    """queued, running or exited."""
    cause: str | msgspec.UnsetType = msgspec.UNSET
    """Why it died, when it did not exit by itself."""
    started_at: str | msgspec.UnsetType = msgspec.UNSET
    ended_at: str | msgspec.UnsetType = msgspec.UNSET
    output_start: int = 0
    """Offset of the first byte of output still kept; more than 0 when old output was dropped."""
    output_end: int = 0
    """Offset after the last byte printed so far."""

    @classmethod
    def of(cls, command: "Command") -> Self:
        """Return what is known of `command`."""
        return cls(
            id=command.id,
            command=command.text,
            exit_code=msgspec.UNSET if command.exit_code is None else command.exit_code,
            status=command.state,
            cause=(command.exit.cause if command.exit else None) or msgspec.UNSET,
            started_at=moment(command.started_at),
            ended_at=moment(command.ended_at),
            output_start=command.journal.start,
            output_end=command.journal.end,
        )


class SessionInfo(Model):
    """A session and its commands, oldest first."""

    session_id: str
    commands: list[CommandInfo]
    status: str = "running"
    """running, or ended once its shell has."""


class InputRequest(Model):
    """Text for the standard input of a running command; a line end is added if it has none."""

    data: Text


class LogsQuery(Model):
    """Which part of a command's output: from an offset on, and whether to go on with what is still to come."""

    follow: bool = False
    offset: int = 0


class LogsResponse(Model):
    """What a command printed."""

    output: str = ""
    stdout: str = ""
    stderr: str = ""

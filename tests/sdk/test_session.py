"""The sessions of the published Python SDKs, sync and async, against a real server."""

import asyncio
import inspect
import uuid
from typing import Any

import pytest
from daytona import (
    AsyncDaytona,  # noqa: F401 -- imported first: the package loads its parts lazily
    DaytonaConflictError,
    DaytonaError,
    DaytonaNotFoundError,
    SessionExecuteRequest,
)

from tests.sdk.clients import Sdk, scenario

TRICKY = b"a\1\1\1b\2\2\2c\1\1\1\1\2"


class Session:
    """A session of a sandbox, through either SDK."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.id = f"s-{uuid.uuid4().hex[:8]}"

    async def create(self) -> "Session":
        """Create it."""
        await self.process.create_session(self.id)
        return self

    async def run(self, command: str, **fields: Any) -> Any:
        """Run a command."""
        return await self.process.execute_session_command(self.id, SessionExecuteRequest(command=command, **fields))

    async def follow(self, command_id: str) -> tuple[str, str]:
        """Follow a command to its end, with the SDK's own demultiplexer."""
        out: list[str] = []
        err: list[str] = []
        follow = self.process.wrapped.get_session_command_logs_async
        await follow(self.id, command_id, out.append, err.append)
        return "".join(out), "".join(err)


@scenario
async def test_what_lasts_and_what_comes_back(sdk: Sdk, box: Any) -> None:
    session = await Session(box.process).create()
    await session.run("cd /tmp; export A=1; f() { echo f$1; }")
    answer = await session.run("pwd; f $A; echo err >&2; exit_code() { return 5; }; exit_code")
    assert (answer.exit_code, answer.stdout, answer.stderr) == (5, "/tmp\nf1\n", "err\n")
    command = await box.process.get_session_command(session.id, answer.cmd_id)
    assert (command.id, command.exit_code) == (answer.cmd_id, 5)
    logs = await box.process.get_session_command_logs(session.id, answer.cmd_id)
    assert (logs.stdout, logs.stderr) == ("/tmp\nf1\n", "err\n")
    found = await box.process.get_session(session.id)
    assert [each.id for each in found.commands][-1] == answer.cmd_id
    assert session.id in [each.session_id for each in await box.process.list_sessions()]
    await box.process.delete_session(session.id)
    with pytest.raises(DaytonaNotFoundError):
        await box.process.get_session(session.id)


@scenario
async def test_input_to_a_running_command(sdk: Sdk, box: Any) -> None:
    session = await Session(box.process).create()
    command = await session.run("read a; read b; echo $b$a; exit 3", run_async=True, suppress_input_echo=True)
    assert command.exit_code is None
    await box.process.send_session_command_input(session.id, command.cmd_id, "one")
    await box.process.send_session_command_input(session.id, command.cmd_id, "two\n")
    while (await box.process.get_session_command(session.id, command.cmd_id)).exit_code is None:
        pass
    logs = await box.process.get_session_command_logs(session.id, command.cmd_id)
    assert logs.stdout == "twoone\n"
    with pytest.raises(DaytonaError) as caught:
        await box.process.send_session_command_input(session.id, command.cmd_id, "late")
    assert (caught.value.status_code, caught.value.code) == (410, "COMMAND_ALREADY_COMPLETED")
    with pytest.raises(DaytonaError) as caught:
        await session.run("echo x")
    assert (caught.value.status_code, caught.value.code) == (410, "SESSION_ENDED")


@scenario
async def test_typed_errors(sdk: Sdk, box: Any) -> None:
    session = await Session(box.process).create()
    with pytest.raises(DaytonaConflictError):
        await box.process.create_session(session.id)
    with pytest.raises(DaytonaNotFoundError):
        await box.process.get_session_command(session.id, "nope")
    with pytest.raises(DaytonaNotFoundError):
        await box.process.delete_session("nope")
    with pytest.raises(DaytonaNotFoundError):
        await box.process.get_entrypoint_session()


def test_following_to_the_last_byte(sdk: Sdk, box: Any) -> None:
    async def prepare() -> tuple[Session, str]:
        session = await Session(box.process).create()
        script = "".join(f"\\\\{byte:03o}" for byte in TRICKY)
        command = await session.run(
            f'for n in 1 2 3; do echo $n; sleep 0.05; done; printf "{script}"; seq 1 20000 >&2; printf end',
            run_async=True,
        )
        return session, str(command.cmd_id)

    session, command = sdk.run(prepare())
    follow = session.follow(command)
    assert inspect.iscoroutine(follow)
    # In the sync SDK too this method is a coroutine.
    out, err = sdk.run(follow) if sdk.is_async else asyncio.run(follow)
    assert out == "1\n2\n3\n" + TRICKY.decode() + "end"
    assert err == "".join(f"{n}\n" for n in range(1, 20001))

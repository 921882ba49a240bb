"""The sandbox's own command, given after `--` on the daemon's command line, seen as a session of its own."""

import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Sequence

from toolbox.children.environment import Environment
from toolbox.children.journal import STDERR, STDOUT, Journal
from toolbox.children.process import Child, Children, Exit
from toolbox.lifetime import TaskSet
from toolbox.session.capture import Capture
from toolbox.session.command import Command

log = logging.getLogger(__name__)

ENTRYPOINT = "entrypoint"
COMMAND_ID = "entrypoint_command"


class Entrypoint:
    """Runs the entrypoint beside the daemon, keeps its output, and passes it on to the daemon's own stdout and stderr.

    The daemon goes on when the entrypoint ends, and ends it when it goes itself.
    """

    def __init__(self, argv: Sequence[str], children: Children, environment: Environment) -> None:
        self.command: Command | None = None
        self._argv = argv
        self._children = children
        self._environment = environment
        self._tasks = TaskSet()
        self._captures: list[Capture] = []

    async def start(self, journal: Journal) -> None:
        """Start it; that it cannot start is logged and stands as its exit code 127."""
        command = self.command = Command(
            shlex.join(self._argv), journal, keeps_input=False, echo=False, identity=COMMAND_ID
        )
        command.begin()
        self._tasks.start(self._pass_on(journal), "entrypoint output")
        pipes = {stream: os.pipe2(os.O_CLOEXEC) for stream in (STDOUT, STDERR)}
        for stream, (read_end, _) in pipes.items():
            os.set_blocking(read_end, False)
            self._captures.append(Capture(read_end, stream, journal, self._tasks))
        try:
            child = self._children.spawn(
                self._argv,
                cwd=str(self._environment.work_dir),
                env=self._environment.child(),
                stdout=pipes[STDOUT][1],
                stderr=pipes[STDERR][1],
            )
        except OSError as error:
            log.error("the entrypoint cannot start: %s", error)  # noqa: TRY400 -- the reason is enough
            journal.append(STDERR, f"{self._argv[0]}: {error.strerror}\n".encode())
            command.finish(Exit(code=127))
        else:
            self._tasks.start(self._watch(child, command), "entrypoint")
        finally:
            for _, write_end in pipes.values():
                os.close(write_end)

    async def _watch(self, child: Child, command: Command) -> None:
        end = await child.wait()
        await asyncio.gather(*(capture.drain() for capture in self._captures))
        command.finish(end)
        log.info("the entrypoint ended", extra={"fields": {"exitCode": end.shell_code, "cause": end.cause}})

    async def _pass_on(self, journal: Journal) -> None:
        outputs = {STDOUT: sys.stdout, STDERR: sys.stderr}
        async for record in journal.records():
            await asyncio.to_thread(_write, outputs[record.stream].fileno(), record.data)

    async def close(self) -> None:
        """Release everything."""
        await self._tasks.close()
        for capture in self._captures:
            capture.close()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

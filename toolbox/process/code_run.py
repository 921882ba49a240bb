"""Runs a program given as text: Python, JavaScript, TypeScript. Charts of Python come beside its output.

The text reaches the interpreter by a descriptor, and charts come back in a file of memory that the program's children
do not inherit: neither is in the arguments, on the disk or in the output, and nobody can hold up the answer.
"""

import asyncio
import logging
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

import charts
from charts.models import Chart, read_chart
from toolbox.children.environment import Environment, check_variables
from toolbox.children.process import Child, Children
from toolbox.children.python import Pythons
from toolbox.errors import BadRequest
from toolbox.process.execute import Commands, Outcome
from toolbox.process.node import Nodes, Runner

log = logging.getLogger(__name__)

CHARTS_LIMIT = 64 * 1024 * 1024
"""Bytes of charts kept of one program, as JSON."""
_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_COMPANION = Path(__file__).with_name("companion.py")
_FRAME_HEADER = 8


@dataclass(slots=True, kw_only=True)
class ProgramOutcome:
    """A program that has ended, and the charts it drew."""

    command: Outcome
    charts: list[Chart] = field(default_factory=list)


class Programs:
    """Runs programs as `commands` runs command lines, each language with what the sandbox has for it."""

    def __init__(self, commands: Commands, children: Children, environment: Environment, pythons: Pythons) -> None:
        self._commands = commands
        self._children = children
        self._environment = environment
        self._pythons = pythons
        self._nodes = Nodes(children, environment)

    @asynccontextmanager
    async def run(
        self, language: str, code: str, *, argv: Sequence[str], env: Mapping[str, str], timeout: float
    ) -> AsyncIterator[ProgramOutcome]:
        """Run a program with exactly these arguments and yield its outcome, as `Commands.run` does.

        Raises `BadRequest` for an unknown language, a bad variable or a NUL in an argument, `NotInstalled` when nothing
        runs the language.
        """
        check_variables(env)
        if any("\0" in word for word in argv):
            raise BadRequest("invalid argv: it contains NUL")
        variables = self._environment.child(env)
        match language:
            case "python":
                running = self._python(code, argv, variables, timeout)
            case "javascript":
                running = self._node(await self._nodes.for_javascript(variables), code, argv, variables, timeout)
            case "typescript":
                running = self._node(await self._nodes.for_typescript(variables), code, argv, variables, timeout)
            case _:
                raise BadRequest(f"unsupported language: {language}")
        async with running as outcome:
            yield outcome

    @asynccontextmanager
    async def _python(
        self, code: str, argv: Sequence[str], env: Mapping[str, str], timeout: float
    ) -> AsyncIterator[ProgramOutcome]:
        python = await self._pythons.for_programs(env)
        drawn = os.memfd_create("charts")

        def spawn(output: int) -> Child:
            with _memory("program") as program:
                call = f"start({program}, {str(_COMPANION)!r}, {drawn}, {str(charts.HOOK)!r}, {CHARTS_LIMIT})"
                start = f"{self._bootstrap}\n{call}\n".encode()
                _fill(program, start + _utf8(code))
                # -u: what was printed is there when the program is killed, in the order of stdout and stderr.
                command = [python.path, "-u", "-c", f"exec(__import__('os').read({program},{len(start)}),{{}})"]
                return self._spawn([*command, *argv], ["python3", "-", *argv], env, output, pass_fds=(program, drawn))

        try:
            async with self._commands.watch(spawn, python.path, timeout) as outcome:
                found = await asyncio.to_thread(_read_charts, drawn) if os.fstat(drawn).st_size else []
                yield ProgramOutcome(command=outcome, charts=found)
        finally:
            os.close(drawn)

    @asynccontextmanager
    async def _node(
        self, runner: Runner, code: str, argv: Sequence[str], env: Mapping[str, str], timeout: float
    ) -> AsyncIterator[ProgramOutcome]:
        label = [os.path.basename(runner.command[0]), "-", *argv]  # noqa: PTH119
        if runner.from_file:
            directory = await asyncio.to_thread(self._write_script, code)
            # From there nothing finds the modules of the work dir.
            modules = filter(None, (f"{self._environment.work_dir}/node_modules", env.get("NODE_PATH")))
            env = {**env, "NODE_PATH": os.pathsep.join(modules)}

        def spawn(output: int) -> Child:
            if runner.from_file:
                return self._spawn([*runner.command, f"{directory}/main.ts", *argv], label, env, output)
            with _memory("program") as program:
                _fill(program, _utf8(code))
                os.lseek(program, 0, os.SEEK_SET)
                return self._spawn([*runner.command, *argv], label, env, output, stdin=program)

        try:
            async with self._commands.watch(spawn, runner.command[0], timeout) as outcome:
                yield ProgramOutcome(command=outcome)
        finally:
            if runner.from_file:
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))

    def _spawn(
        self,
        command: Sequence[str],
        label: Sequence[str],
        env: Mapping[str, str],
        output: int,
        *,
        stdin: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Child:
        return self._children.spawn(
            command,
            cwd=str(self._environment.work_dir),
            env=env,
            **({} if stdin is None else {"stdin": stdin}),
            stdout=output,
            stderr=output,
            pass_fds=pass_fds,
            label=shlex.join(label),
        )

    @cached_property
    def _bootstrap(self) -> str:
        return _BOOTSTRAP.read_text()  # once

    def _write_script(self, code: str) -> Path:
        """Write a TypeScript program to a directory of its own that the workload user can read, and return that."""
        directory = self._children.scratch.make("program")
        script = directory / "main.ts"
        script.write_bytes(b"process.argv.splice(1, 1); " + _utf8(code))  # the arguments as on standard input
        self._children.scratch.own(script)
        return directory


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@contextmanager
def _memory(name: str) -> Iterator[int]:
    descriptor = os.memfd_create(name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.pwrite(descriptor, view, len(content) - len(view)) :]


def _read_charts(drawn: int) -> list[Chart]:
    """Return the charts that the bootstrap has written, in order, and log what it complains of.

    Of what the program itself may have written there nothing gets through that is not a chart.
    """
    found = []
    place, size = 0, min(os.fstat(drawn).st_size, CHARTS_LIMIT)
    while place + _FRAME_HEADER <= size:
        length = int.from_bytes(os.pread(drawn, _FRAME_HEADER, place))
        place += _FRAME_HEADER
        if place + length > size:
            log.warning("a chart was cut off")
            break
        content = os.pread(drawn, length, place)
        place += length
        try:
            if content.startswith(b'"'):
                log.warning("charts: %s", msgspec.json.decode(content))
            else:
                found.append(read_chart(content))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("not a chart: %s", error)
    return found

"""What clients do under load. Each operation checks every byte and exit code of its answer, and counts itself."""

import asyncio
import base64
import hashlib
import io
import uuid
from collections import Counter
from random import Random
from typing import Any

from daytona import (
    AsyncDaytona,  # noqa: F401 -- imported first: the package loads its parts lazily
    FileDownloadRequest,
    FileUpload,
    SessionExecuteRequest,
)
from PIL import Image

from tests.sdk.clients import Either

WEIGHTS = {
    "execute": 30,
    "file": 22,
    "files": 10,
    "session": 18,
    "follow": 4,
    "kernel": 10,
    "terminal": 10,
    "screen": 2,
}
"""How often each thing is done."""
ONLY_ASYNC = ("follow", "terminal")
"""What the sync SDK does in other words, and alone in its thread."""
BACKGROUND = "xsetroot -mod 13 7 -fg red -bg blue"
"""What gives the screen pixels that can be checked."""
_FILES = 20
_MOST_FILE = 64 * 1024
_BIG_FILE, _BIG_SHARE = 4 * 1024 * 1024, 0.02


class Wrong(Exception):
    """An answer is not what it must be."""


def check(what: str, got: object, expected: object) -> None:
    """Raise `Wrong` if two values differ."""
    if got != expected:
        raise Wrong(f"{what}: got {got!r:.300}, expected {expected!r:.300}")


def sha256(data: bytes) -> str:
    """Return the digest in hex."""
    return hashlib.sha256(data).hexdigest()


class User:
    """One client at work in a sandbox, with a session, a terminal and a kernel of its own."""

    def __init__(self, sandbox: Any, random: Random, *, screen: str, is_async: bool) -> None:
        self.done: Counter[str] = Counter()
        self._sandbox = sandbox
        self._random = random
        self._pixels = screen
        self._name = f"user-{uuid.UUID(int=random.getrandbits(128)).hex[:12]}"
        self._weights = {kind: WEIGHTS[kind] for kind in WEIGHTS if is_async or kind not in ONLY_ASYNC}
        self._commands = self._runs = 0
        self._context: Any = None
        self._pty: Any = None
        self._printed = bytearray()
        self._arrived = asyncio.Event()

    async def begin(self) -> None:
        """Open session, context and, in the async SDK, a terminal."""
        await self._sandbox.fs.create_folder(self._name, "755")
        await self._sandbox.process.create_session(self._name)
        self._context = await self._sandbox.code_interpreter.create_context()
        if "terminal" in self._weights:
            process = self._sandbox.process
            self._pty = Either(await process.create_pty_session(id=self._name, on_data=self._on_data))
            await self._pty.wait_for_connection()
            # Without the echo of what is typed, every byte that comes is one that a program printed.
            await self._type("PS1= exec bash --norc --noprofile --noediting\nstty -echo; echo rea''dy\n", b"ready\r\n")

    async def end(self) -> None:
        """Close what `begin` opened."""
        if self._pty is not None:
            await self._pty.kill()
            await self._pty.disconnect()
        await self._sandbox.code_interpreter.delete_context(self._context)
        await self._sandbox.process.delete_session(self._name)
        await self._sandbox.fs.delete_file(self._name, recursive=True)

    async def step(self) -> None:
        """Do the next thing. Raises `Wrong`, and what the SDK raises."""
        (kind,) = self._random.choices(list(self._weights), list(self._weights.values()))
        self.done[kind] += await getattr(self, f"_{kind}")()

    async def _execute(self) -> int:
        word, code = self._random.randbytes(self._random.randrange(1, 2000)).hex(), self._random.randrange(256)
        answer = await self._sandbox.process.exec(f'printf %s "$WORD"; exit {code}', env={"WORD": word})
        check("exit code", answer.exit_code, code)
        check("output", answer.result, word)
        return 1

    async def _file(self) -> int:
        most = _BIG_FILE if self._random.random() < _BIG_SHARE else _MOST_FILE
        content, path = self._random.randbytes(self._random.randrange(most)), f"{self._name}/file"
        await self._sandbox.fs.upload_file(content, path)
        check("file", sha256(await self._sandbox.fs.download_file(path)), sha256(content))
        return 2

    async def _files(self) -> int:
        contents = {f"{self._name}/{number}": self._random.randbytes(1000) for number in range(_FILES)}
        await self._sandbox.fs.upload_files([FileUpload(content, path) for path, content in contents.items()])
        answers = await self._sandbox.fs.download_files([FileDownloadRequest(path) for path in contents])
        check("files", {answer.source: answer.result for answer in answers}, contents)
        listed = [each.name for each in await self._sandbox.fs.list_files(self._name)]
        check("list", {str(number) for number in range(_FILES)} - set(listed), set())
        return 2 * _FILES + 1  # each file is one of its own, with an answer of its own

    async def _session(self) -> int:
        self._commands += 1
        word, code = self._random.randbytes(20).hex(), self._random.randrange(256)
        command = f"n=$((n + 1)); echo $n {word}; echo {word} >&2; (exit {code})"
        answer = await self._sandbox.process.execute_session_command(self._name, SessionExecuteRequest(command=command))
        check("exit code", answer.exit_code, code)
        check("stdout", answer.stdout, f"{self._commands} {word}\n")
        check("stderr", answer.stderr, f"{word}\n")
        return 1

    async def _follow(self) -> int:
        self._commands += 1
        lines = self._random.randrange(1, 5000)
        request = SessionExecuteRequest(command=f"n=$((n + 1)); seq 1 {lines}; echo e >&2", run_async=True)
        started = await self._sandbox.process.execute_session_command(self._name, request)
        out: list[str] = []
        err: list[str] = []
        await self._sandbox.process.get_session_command_logs_async(self._name, started.cmd_id, out.append, err.append)
        expected = "".join(f"{number}\n" for number in range(1, lines + 1))
        check("followed", sha256("".join(out).encode()), sha256(expected.encode()))
        check("followed stderr", "".join(err), "e\n")
        return 1

    async def _kernel(self) -> int:
        self._runs += 1
        word = self._random.randbytes(20).hex()
        code = f"n = globals().get('n', 0) + 1\nprint(n, '{word}')"
        answer = await self._sandbox.code_interpreter.run_code(code, context=self._context)
        check("error of a run", answer.error, None)
        check("run", answer.stdout, f"{self._runs} {word}\n")
        return 1

    async def _terminal(self) -> int:
        lines, code = self._random.randrange(1, 2000), self._random.randrange(256)
        printed = await self._type(f'seq 1 {lines}; (exit {code}); echo "end $?"\n', b"end ")
        expected = "".join(f"{number}\r\n" for number in range(1, lines + 1))
        check("terminal", sha256(printed), sha256(expected.encode()))
        check("exit code", await self._type("", b"\r\n"), str(code).encode())
        return 1

    async def _type(self, text: str, end: bytes) -> bytes:
        """Type, and return what is printed before `end`."""
        if text:
            await self._pty.send_input(text)
        while (at := self._printed.find(end)) < 0:
            self._arrived.clear()
            async with asyncio.timeout(120):
                await self._arrived.wait()
        printed = bytes(self._printed[:at])
        del self._printed[: at + len(end)]
        return printed

    def _on_data(self, data: bytes) -> None:
        self._printed += data
        self._arrived.set()

    async def _screen(self) -> int:
        check("screen", pixels(await self._sandbox.computer_use.screenshot.take_full_screen()), self._pixels)
        return 1


def pixels(answer: Any) -> str:
    """Return the digest of what a screenshot shows."""
    image = Image.open(io.BytesIO(base64.b64decode(answer.screenshot, validate=True)))
    return sha256(image.convert("RGB").tobytes())

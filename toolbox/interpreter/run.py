"""One run of code: what it has to say waits here for the client, in bounded space."""

import asyncio
import enum
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

from toolbox.children.spool import text_decoder
from toolbox.interpreter.models import Message

TEXT = 32 * 1024
"""Characters of one message of output; a published client takes no large frames."""
WAITING = 1024 * 1024
"""Characters that may wait for the client before the kernel is held."""
OVERFLOW = 16 * 1024 * 1024
"""Characters that may wait where the kernel cannot be held, or is being interrupted; what comes then is cut."""


class Outcome(enum.Enum):
    """How a run ended."""

    COMPLETED = enum.auto()
    """By itself, well or with an error."""
    INTERRUPTED = enum.auto()
    TIMED_OUT = enum.auto()
    DELETED = enum.auto()
    """With its context."""
    ABANDONED = enum.auto()
    """The client has gone."""


class _Text:
    """Output of one stream that waits."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.parts: list[str] = []

    def messages(self) -> list[Message]:
        text = "".join(self.parts)
        return [Message(type=self.stream, text=text[start : start + TEXT]) for start in range(0, len(text), TEXT)]


class Run:
    """Code, and the messages it has caused. Iterating yields them, at the speed of the client, until it has ended."""

    _numbers = itertools.count(1)

    def __init__(self, code: str, *, env: Mapping[str, str], timeout: float) -> None:
        self.number = next(self._numbers)
        self.code = code
        self.env = env
        self.timeout = timeout
        """Seconds from the start on, 0 for none."""
        self.outcome: Outcome | None = None
        self.restarted = False
        """The kernel had to be killed, and the context's state went with it."""
        self.stop: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        """Set to have it interrupted."""
        self.resume: Callable[[], None] | None = None
        """Called when there is room again."""
        self._waiting: deque[tuple[int, Message] | _Text] = deque()
        self._decoders = {name: text_decoder() for name in ("stdout", "stderr")}
        self._size = 0
        self._cut = 0
        self._news = asyncio.Event()

    @property
    def full(self) -> bool:
        """Tell whether the kernel should be held. Not while it is being interrupted: it could not react."""
        return self._size >= WAITING and not self.stop.done()

    def interrupt(self, why: Outcome) -> None:
        """Have it interrupted; the first reason counts."""
        if not self.stop.done():
            self.stop.set_result(why)
            self._relieve()

    def output(self, stream: str, data: bytes) -> None:
        """Add bytes that were printed."""
        self.text(stream, self._decoders[stream].decode(data))

    def text(self, stream: str, text: str) -> None:
        """Add text that was printed; what follows on the same stream is put together."""
        if not text or not self._has_room(len(text)):
            return
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(last, _Text) or last.stream != stream:
            last = _Text(stream)
            self._waiting.append(last)
        last.parts.append(text)
        self._news.set()

    def add(self, message: Message, size: int = 0) -> None:
        """Add a message of about `size` characters."""
        if self._has_room(size):
            self._waiting.append((size, message))
            self._news.set()

    def _has_room(self, size: int) -> bool:
        if size and self._size >= OVERFLOW:
            self._cut += size
            return False
        self._size += size
        return True

    def finish(self, outcome: Outcome) -> None:
        """Nothing comes any more."""
        for stream, decoder in self._decoders.items():
            self.text(stream, decoder.decode(b"", final=True))
        if self._cut:
            cut, self._size = self._cut, 0
            self.text("stderr", f"\n[... {cut} characters of output cut ...]\n")
        self.outcome = outcome
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            while self._waiting:
                waiting = self._waiting.popleft()
                if isinstance(waiting, _Text):
                    for message in waiting.messages():
                        yield message
                        self._size -= len(message.text)
                else:
                    yield waiting[1]
                    self._size -= waiting[0]
                self._relieve()
            if self.outcome is not None:
                return
            self._news.clear()
            await self._news.wait()

    def _relieve(self) -> None:
        if self.resume is not None and not self.full:
            self.resume()

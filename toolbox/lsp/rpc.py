"""JSON-RPC 2.0 as language servers speak it: requests of both sides at the same time, cancellation, notifications."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from toolbox.errors import RequestTimeout
from toolbox.lifetime import TaskSet
from toolbox.lsp.errors import RequestFailed, ServerEnded, ServerStopped
from toolbox.lsp.stdio import ServerProcess

log = logging.getLogger(__name__)

METHOD_NOT_FOUND = -32601
_CHANGED_MEANWHILE = (-32801, -32802)
"""ContentModified and ServerCancelled: the same request may well be answered when sent again."""
_TRIES = 3

Answer = Callable[[str, msgspec.Raw], Any]
"""Returns the result of a request of the server. Raises `LookupError` for a method we do not have."""
Notified = Callable[[str, msgspec.Raw], None]


class RpcError(msgspec.Struct):
    """The error of a response."""

    code: int
    message: str


class _Message(msgspec.Struct):
    id: int | str | None = None
    method: str | UnsetType = UNSET
    params: msgspec.Raw = msgspec.Raw(b"null")
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: RpcError | None = None


class ErrorAnswer(Exception):
    """The server answered with an error."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.message)
        self.error = error


class Client:
    """Our side of a conversation, from `start` to `close`."""

    def __init__(
        self, process: ServerProcess, answer: Answer, notified: Notified, over: Callable[[ServerEnded], None]
    ) -> None:
        self._process = process
        self._answer = answer
        self._notified = notified
        self._over = over
        self._numbers = itertools.count(1)
        self._waiting: dict[int | str | None, asyncio.Future[msgspec.Raw]] = {}
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(_Message).decode
        self._tasks = TaskSet()
        self._end: ServerEnded | None = None
        self.ended = asyncio.Event()

    @property
    def end(self) -> ServerEnded | None:
        """Why the conversation is over; None while it goes on."""
        return self._end

    def start(self) -> None:
        """Take what the server sends."""
        self._tasks.start(self._read(), "language server reader")

    async def close(self) -> None:
        """End the conversation: whoever still waits gets `ServerEnded`."""
        await self._tasks.close()
        self._finish(ServerStopped("the language server was stopped"))

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._process.receive())
        except ServerEnded as end:
            self._finish(end)
        except Exception:
            self._finish(ServerEnded("the conversation with the language server failed"))
            raise

    def _finish(self, end: ServerEnded) -> None:
        if self._end is None:
            self._end = end
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._end)
        self._waiting.clear()
        self._over(self._end)
        self.ended.set()

    def _take(self, body: bytes) -> None:
        try:
            message = self._decode(body)
        except msgspec.MsgspecError as error:
            raise ServerEnded(f"the language server sent what is no message: {error}") from None
        if message.method is UNSET:
            future = self._waiting.pop(message.id, None)
            if future is None or future.done():
                return
            if message.error is not None:
                future.set_exception(ErrorAnswer(message.error))
            else:
                future.set_result(message.result)
        elif message.id is None:
            self._notified(message.method, message.params)
        else:
            self._reply(message.id, message.method, message.params)

    def _reply(self, identity: int | str, method: str, params: msgspec.Raw) -> None:
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": identity}
        try:
            answer["result"] = self._answer(method, params)
        except LookupError:
            answer["error"] = {"code": METHOD_NOT_FOUND, "message": f"not known: {method}"}
        self._process.send(self._encode(answer))

    def notify(self, method: str, params: Any) -> None:
        """Send a notification. Raises `ServerEnded`."""
        self._check()
        self._process.send(self._encode({"jsonrpc": "2.0", "method": method, "params": params}))

    def send(self, method: str, params: Any) -> "Pending":
        """Send a request at once, so that it keeps its place among the notifications. Raises `ServerEnded`."""
        self._check()
        number = next(self._numbers)
        self._process.send(self._encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        return Pending(self, number, future, method, params)

    def _check(self) -> None:
        if self._end is not None:
            raise self._end

    def cancel(self, number: int) -> None:
        """Tell the server that nobody waits any more."""
        if self._waiting.pop(number, None) is not None and self._end is None:
            self.notify("$/cancelRequest", {"id": number})

    async def request(self, method: str, params: Any, seconds: float) -> msgspec.Raw:
        """Send a request and return its result; see `Pending.result`."""
        return await self.send(method, params).result(seconds)


class Pending:
    """A request that was sent."""

    def __init__(
        self, client: Client, number: int, future: "asyncio.Future[msgspec.Raw]", method: str, params: Any
    ) -> None:
        self._client = client
        self._number = number
        self._future = future
        self._method = method
        self._params = params

    async def result(self, seconds: float) -> msgspec.Raw:
        """Return the result.

        A caller that is cancelled, or out of time, cancels the request. Raises `RequestFailed`, `RequestTimeout`,
        `ServerEnded`.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._outcome()
        except TimeoutError:
            raise RequestTimeout(f"the language server did not answer {self._method} in {seconds:g} s") from None
        except ErrorAnswer as answer:
            raise RequestFailed(f"{self._method}: {answer.error.message}") from None
        finally:
            self._client.cancel(self._number)

    async def _outcome(self) -> msgspec.Raw:
        for _ in range(_TRIES - 1):
            try:
                return await self._future
            except ErrorAnswer as answer:
                if answer.error.code not in _CHANGED_MEANWHILE:
                    raise
            again = self._client.send(self._method, self._params)
            self._number, self._future = again._number, again._future  # noqa: SLF001 -- one of us
        return await self._future

"""A client of the interpreter that takes every message as it is."""

import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.conftest import Daemon

FIELDS = {"type", "text", "name", "value", "traceback"}
EXECUTE = "/process/interpreter/execute"
CONTEXT = "/process/interpreter/context"


@dataclass
class Ran:
    """What a run has sent."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    code: int | None = None
    reason: str | None = None

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of a type."""
        return [message for message in self.messages if message["type"] == kind]

    def text(self, stream: str = "stdout") -> str:
        """Return what was printed."""
        return "".join(message["text"] for message in self.of(stream))

    @property
    def printed(self) -> list[tuple[str, str]]:
        """Return what was printed on both streams, in order, each stretch in one piece."""
        stretches: list[tuple[str, str]] = []
        for message in self.messages:
            if message["type"] in ("stdout", "stderr"):
                if stretches and stretches[-1][0] == message["type"]:
                    stretches[-1] = (message["type"], stretches[-1][1] + message["text"])
                else:
                    stretches.append((message["type"], message["text"]))
        return stretches

    @property
    def error(self) -> dict[str, Any]:
        """Return the one error."""
        (error,) = self.of("error")
        return error

    @property
    def controls(self) -> list[str]:
        """Return what the control messages say."""
        return [message["text"] for message in self.of("control")]

    def value(self, mime: str = "text/plain") -> Any:
        """Return the one result."""
        (result,) = self.of("result")
        return result["data"][mime]


async def read(socket: aiohttp.ClientWebSocketResponse, ran: Ran) -> Ran:
    """Take the messages until the close."""
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            told = json.loads(message.data)
            assert told.keys() >= FIELDS
            ran.messages.append(told)
        elif message.type is aiohttp.WSMsgType.CLOSE:
            ran.code, ran.reason = message.data, message.extra
        else:
            return ran


async def run(daemon: Daemon, code: str, context: str | None = None, **fields: Any) -> Ran:
    """Run code and return all that came."""
    request = {"code": code, **({"contextId": context} if context else {}), **fields}
    async with daemon.http.ws_connect(EXECUTE, max_msg_size=4 * 1024 * 1024) as socket:
        await socket.send_str(json.dumps(request))
        return await read(socket, Ran())


async def create(daemon: Daemon, **fields: Any) -> str:
    """Make a context and return its id."""
    async with daemon.http.post(CONTEXT, json=fields) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["id"])

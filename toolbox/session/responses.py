"""How output leaves: at once, over a websocket, or as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from toolbox.children.journal import STDERR, STDOUT, Journal, Record
from toolbox.children.spool import text_decoder
from toolbox.lifetime import TaskSet
from toolbox.session.clients import Shape
from toolbox.session.command import Command
from toolbox.session.markers import MAX_FRAME, frames
from toolbox.session.models import LogsQuery
from toolbox.web import wire
from toolbox.web.streams import stream_json
from toolbox.web.websocket import Socket, Sockets

EVENT_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
KEEP_ALIVE_SECONDS = 15.0
_TEXT = "text/plain; charset=utf-8"


async def _plain(records: AsyncIterator[Record], stream: int | None = None) -> AsyncIterator[bytes]:
    async for record in records:
        if stream is None or record.stream == stream:
            for start in range(0, len(record.data), MAX_FRAME):
                yield record.data[start : start + MAX_FRAME]


async def _decoded(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    decoder = text_decoder()
    async for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def output_texts(journal: Journal, shape: Shape, offset: int = 0) -> Mapping[str, AsyncIterator[str]]:
    """Return the texts of what is there now, by field name: `output`, and apart for clients that know them."""
    end = journal.end

    def records() -> AsyncIterator[Record]:
        return journal.records(offset, end)

    if shape is Shape.COMBINED:
        return {"output": _decoded(_plain(records()))}
    texts = {"output": _decoded(frames(records()))}
    if shape is Shape.SPLIT:
        texts |= {name: _decoded(_plain(records(), stream)) for stream, name in EVENT_NAMES.items()}
    return texts


async def logs_response(request: web.Request, journal: Journal, query: LogsQuery, shape: Shape) -> web.StreamResponse:
    """Answer with what is there now. The headers tell which offsets are kept."""
    headers = {"X-Log-Start": str(journal.start), "X-Log-End": str(journal.end)}
    texts = output_texts(journal, shape, query.offset)
    if shape is Shape.SPLIT:
        return await stream_json(request, {}, texts, headers=headers)
    response = web.StreamResponse(headers={**headers, "Content-Type": _TEXT})
    await response.prepare(request)
    async for text in texts["output"]:
        await response.write(text.encode())
    await response.write_eof()
    return response


async def follow_socket(
    request: web.Request, command: Command, query: LogsQuery, shape: Shape, sockets: Sockets
) -> web.StreamResponse:
    """Send the output over a websocket until the command's last byte, then close with 1000."""
    journal = command.journal
    records = journal.records(query.offset, None if query.follow else journal.end)
    chunks = _plain(records) if shape is Shape.COMBINED else frames(records)
    async with Socket(request, sockets) as socket:
        await socket.while_open(_send_all(socket, chunks))
    return socket.response


async def _send_all(socket: Socket, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        await socket.send(chunk)


async def follow_events(request: web.Request, command: Command, query: LogsQuery) -> web.StreamResponse:
    """Send the output as server-sent events until the command has ended, then an `exit` event.

    The data of an event is a JSON string; its id is the offset after it, which `Last-Event-ID` resumes from.
    """
    last = request.headers.get("Last-Event-ID", "")
    offset = int(last) if last.isdigit() else query.offset
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    decoders = {stream: text_decoder() for stream in EVENT_NAMES}
    async for record in _with_pauses(command.journal.records(offset)):
        if record is None:
            await response.write(b":\n\n")
            continue
        text = decoders[record.stream].decode(record.data)
        end = record.offset + len(record.data)
        event = f"event: {EVENT_NAMES[record.stream]}\nid: {end}\ndata: ".encode()
        await response.write(event + wire.encode(text) + b"\n\n")
    exit_event = {"exitCode": command.exit_code, "cause": command.exit.cause if command.exit else None}
    await response.write(b"event: exit\ndata: " + wire.encode(exit_event) + b"\n\n")
    await response.write_eof()
    return response


async def _with_pauses(records: AsyncIterator[Record]) -> AsyncIterator[Record | None]:
    """Yield the records, and None whenever nothing came for a while: a comment keeps intermediaries awake."""

    async def following() -> Record | None:
        return await anext(records, None)

    async with TaskSet() as tasks:
        while True:
            step = tasks.start(following(), "server-sent events")
            while not (await asyncio.wait([step], timeout=KEEP_ALIVE_SECONDS))[0]:
                yield None
            record = step.result()
            if record is None:
                return
            yield record

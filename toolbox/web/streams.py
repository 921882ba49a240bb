"""Answers too large to be built in memory."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from aiohttp import web

from toolbox.web import wire
from toolbox.web.endpoint import JSON
from toolbox.web.idempotency import SINK

_IN_ONE_PIECE = 256 * 1024


async def stream_json(
    request: web.Request,
    fields: Mapping[str, Any] | msgspec.Struct,
    texts: Mapping[str, AsyncIterator[str]],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Send the JSON object `fields` with further string fields, `texts`, whose values come piece by piece.

    What fits in `_IN_ONE_PIECE` leaves as one answer with its length.
    """
    headers = {**(headers or {}), "Content-Type": JSON}
    sink = request.get(SINK)
    written = bytearray(wire.encode(fields)[:-1])
    response: web.StreamResponse | None = None
    separator = b"," if fields else b""
    for name, pieces in texts.items():
        written += separator + wire.encode(name) + b':"'
        separator = b","
        async for text in pieces:
            written += wire.encode(text)[1:-1]
            if len(written) >= _IN_ONE_PIECE:
                if response is None:
                    response = web.StreamResponse(status=status, headers=headers)
                    if sink is None:
                        await response.prepare(request)
                await (sink or response).write(bytes(written))
                written.clear()
        written += b'"'
    written += b"}"
    if response is None:
        return web.Response(body=bytes(written), status=status, headers=headers)
    await (sink or response).write(bytes(written))
    if sink is None:
        await response.write_eof()
    return response

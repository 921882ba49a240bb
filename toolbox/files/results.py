"""Results of a search as a JSON answer: all of them, sent while they are found, or one page."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import web

from toolbox.web import wire
from toolbox.web.endpoint import JSON

TRUNCATED = "X-Truncated"
"""Header of a page: `true` if there is more, to be asked for with an `offset` larger by what came."""
MAX_PAGE_BYTES = 32 * 1024 * 1024
_IN_ONE_PIECE = 1024 * 1024

Batches = AsyncGenerator[Sequence[Any], None]


async def send_results(
    request: web.Request, batches: Batches, *, offset: int, limit: int | None, name: str | None = None
) -> web.StreamResponse:
    """Answer with an array of what `batches` gives, or with an object whose field `name` is that array.

    With a `limit` the answer is a page: so many results, fewer if they are more than `MAX_PAGE_BYTES`, and the header
    `X-Truncated`. Without one nothing is held back, and memory stays bounded.
    """
    opening, closing = (b"[", b"]") if name is None else (b"{%b:[" % wire.encode(name), b"]}")
    async with aclosing(batches):
        if limit is not None:
            found, truncated = await _page(batches, offset, limit)
            headers = {"Content-Type": JSON, TRUNCATED: str(truncated).lower()}
            return web.Response(body=opening + b",".join(found) + closing, headers=headers)
        return await _send_all(request, batches, offset, opening, closing)


async def _page(batches: Batches, offset: int, limit: int) -> tuple[list[bytes], bool]:
    found: list[bytes] = []
    size = 0
    async for batch in batches:
        rest = batch[offset:]
        offset -= len(batch) - len(rest)
        for each in rest:
            if len(found) == limit or size > MAX_PAGE_BYTES:
                return found, True
            found.append(wire.encode(each))
            size += len(found[-1])
    return found, False


async def _send_all(
    request: web.Request, batches: Batches, offset: int, opening: bytes, closing: bytes
) -> web.StreamResponse:
    pending = bytearray(opening)
    response: web.StreamResponse | None = None
    comma = b""
    async for batch in batches:
        rest = batch[offset:]
        offset -= len(batch) - len(rest)
        if rest:
            pending += comma + wire.encode(rest)[1:-1]
            comma = b","
        if len(pending) > _IN_ONE_PIECE:
            if response is None:
                response = web.StreamResponse(headers={"Content-Type": JSON})
                await response.prepare(request)
            await response.write(bytes(pending))
            pending.clear()
    pending += closing
    if response is None:
        return web.Response(body=bytes(pending), headers={"Content-Type": JSON})
    await response.write(bytes(pending))
    await response.write_eof()
    return response

"""Uploads as request bodies: always read to their end, since a proxy in front may fail if we answer before."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import hdrs, web

from toolbox.errors import BadRequest, ToolboxError
from toolbox.files.multipart import MultipartReader, Truncated, boundary_of
from toolbox.files.uploads import OpenUpload, receive_file

_FILE = "file"

Read = Callable[[], Awaitable[bytes]]


def body_reader(request: web.Request) -> Read:
    """Return a function that reads the next bytes of the body. It raises `Truncated` for a malformed one."""
    read = request.content.readany

    async def next_bytes() -> bytes:
        try:
            return await read()
        except (web.RequestPayloadError, ValueError) as error:
            raise Truncated(f"the body cannot be read: {error}") from None

    return next_bytes


async def form_reader(request: web.Request, extra: Mapping[str, Any] | None = None) -> MultipartReader:
    """Return a reader of the request's form. Raises `BadRequest`, with `extra`, when it brings none."""
    boundary = boundary_of(request.headers.get(hdrs.CONTENT_TYPE, ""))
    read = body_reader(request)
    if boundary is None:
        await _drain(read)
        raise BadRequest("invalid multipart form", extra=extra)
    return MultipartReader(read, boundary)


async def receive_one(request: web.Request, open_upload: OpenUpload, path: str, *, raw: bool) -> None:
    """Store the form's part `file`, or with `raw` the body of another content type, at `path`.

    Raises `BadRequest` when there is no such part, and what `Upload` raises.
    """
    if raw and not request.headers.get(hdrs.CONTENT_TYPE, "").lower().startswith("multipart/"):
        read = body_reader(request)
        await _then_drain(receive_file(open_upload(path), read), read)
    else:
        reader = await form_reader(request)
        await _then_drain(_receive_part(reader, open_upload, path), reader.read_rest)


async def _receive_part(reader: MultipartReader, open_upload: OpenUpload, path: str) -> None:
    while (part := await reader.next_part()) is not None:
        if part.name == _FILE:
            await receive_file(open_upload(path), reader.read_chunk)
            return
    raise BadRequest("the form has no part named file")


async def _then_drain(work: Awaitable[object], read: Read) -> None:
    try:
        await work
    except (OSError, ToolboxError):  # and not when cancelled: nobody waits for an answer then
        await _drain(read)
        raise
    await _drain(read)


async def _drain(read: Read) -> None:
    with contextlib.suppress(Truncated):
        while await read():
            pass

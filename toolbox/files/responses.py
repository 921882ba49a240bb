"""How listings and forms of several files look in HTTP."""

import mimetypes
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from toolbox.errors import FileReadFailed, ToolboxError, from_os_error
from toolbox.files.listing import Listing
from toolbox.files.threads import FileThreads
from toolbox.web import wire
from toolbox.web.downloads import IN_ONE_PIECE, Download
from toolbox.web.endpoint import JSON
from toolbox.web.file_response import disposition, page_disposition
from toolbox.web.middleware import DAEMON_SOURCE, envelope
from toolbox.web.sending import Connection

_HTTP_1_1 = (1, 1)

OpenDownload = Callable[[str], Download]


async def send_listing(request: web.Request, listing: Listing, threads: FileThreads) -> web.StreamResponse:
    """Answer with a directory's entries; a long list is sent while it is made."""
    headers = {"Content-Type": JSON}
    piece = await threads.run(listing.more)
    if listing.finished:
        return web.Response(body=piece, headers=headers)
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(piece)
    while not listing.finished:
        await response.write(await threads.run(listing.more))
    await response.write_eof()
    return response


async def send_form(
    request: web.Request, requested: Sequence[str], open_download: OpenDownload, threads: FileThreads
) -> web.StreamResponse:
    """Answer with one form part per requested path: the file, or what is wrong with it.

    A file that changes while it is sent breaks the answer off before its end, so that no client takes it for whole.
    """
    boundary = "toolbox-" + secrets.token_hex(16)
    response = web.StreamResponse(headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
    if request.version >= _HTTP_1_1:
        response.enable_chunked_encoding()
    writer = await response.prepare(request)
    if writer is not None:
        form = _Form(request, writer, boundary.encode(), threads)
        for path in requested:
            await form.add(path, open_download)
        await form.finish()
    await response.write_eof()
    return response


class _Form:
    """A multipart form being sent. What is small is collected and sent together."""

    def __init__(
        self, request: web.Request, writer: AbstractStreamWriter, boundary: bytes, threads: FileThreads
    ) -> None:
        self._request = request
        self._writer = writer
        self._chunked = request.version >= _HTTP_1_1
        self._threads = threads
        self._boundary = boundary
        self._named = page_disposition if hdrs.ORIGIN in request.headers else disposition
        self._pending = bytearray()

    async def add(self, path: str, open_download: OpenDownload) -> None:
        """Send one file, or why it cannot be sent."""
        async with AsyncExitStack() as stack:
            try:
                download = await stack.enter_async_context(open_download(path))
            except ToolboxError as error:
                self._begin_error(path, error)
            except OSError as error:
                self._begin_error(path, from_os_error(error) or FileReadFailed(error.strerror or "not readable"))
            else:
                await self._add_file(path, download)
        self._pending += b"\r\n"
        if len(self._pending) > IN_ONE_PIECE:
            await self._flush()

    async def finish(self) -> None:
        """Send the end of the form."""
        self._pending += b"--%b--\r\n" % self._boundary
        await self._flush()

    async def _add_file(self, path: str, download: Download) -> None:
        kind = _part_type(path)
        self._begin("file", path, f"Content-Length: {download.size}\r\nContent-Type: {kind}\r\n")
        if download.content is not None:
            self._pending += download.content
            return
        await self._flush()
        # All of the file is one HTTP chunk, framed here, since its bytes never pass through the writer.
        connection = Connection(self._request, self._writer, self._threads)
        if self._chunked:
            connection.write(b"%x\r\n" % download.size)
        await connection.send(download, 0, download.size)
        if self._chunked:
            connection.write(b"\r\n")
        await self._threads.run(download.verify)

    def _begin_error(self, path: str, error: ToolboxError) -> None:
        self._begin("error", path, "Content-Type: application/json; charset=utf-8\r\n")
        method = self._request.method
        self._pending += wire.encode(envelope(error, method=method, path=path, source=DAEMON_SOURCE))

    def _begin(self, name: str, path: str, headers: str) -> None:
        named = self._named(f'form-data; name="{name}"', path)
        head = f"Content-Disposition: {named}\r\n{headers}\r\n"
        self._pending += b"--%b\r\n" % self._boundary + head.encode()

    async def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        await self._writer.write(pending)


def _part_type(path: str) -> str:
    kind = mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind

"""How downloads look in HTTP: one file with ranges and validators, or several as parts of one form."""

import email.utils
import mimetypes
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from toolbox import paths
from toolbox.errors import FileReadFailed, ToolboxError, from_os_error
from toolbox.files.downloads import IN_ONE_PIECE, Download
from toolbox.files.listing import Listing
from toolbox.files.sending import Connection
from toolbox.files.threads import FileThreads
from toolbox.web import wire
from toolbox.web.endpoint import JSON
from toolbox.web.middleware import DAEMON_SOURCE, envelope

_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)
_UNQUOTABLE = re.compile(r"[^\x20-\x7e]|[\"\\]")
_KEPT_IN_NAMES = "!#$&+-.^_`|~"
_HTTP_1_1 = (1, 1)

_FIXED = {
    "Content-Type": "application/octet-stream",
    "Accept-Ranges": "bytes",
    "Content-Description": "File Transfer",
    "Content-Transfer-Encoding": "binary",
    "Expires": "0",
    "Cache-Control": "must-revalidate",
    "Pragma": "public",
}

_MOST_PLAIN = 255

OpenDownload = Callable[[str], Download]


def disposition(kind: str, name: str) -> str:
    """Return a Content-Disposition value that names a file twice: roughly in ASCII, and exactly (RFC 5987).

    The rough name has no escapes and is short: published clients misread the one, and limit the header's length.
    """
    plain = _UNQUOTABLE.sub("_", re.sub(r"[\r\n\0]", "", name))[-_MOST_PLAIN:]
    return f"{kind}; filename=\"{plain}\"; filename*=utf-8''{quote(name, safe=_KEPT_IN_NAMES)}"


class RangeNotSatisfiable(ToolboxError):
    """The range asked for lies behind the file's end."""

    status = 416
    code = "RANGE_NOT_SATISFIABLE"


async def send_file(request: web.Request, download: Download, path: str, threads: FileThreads) -> web.StreamResponse:
    """Answer with an open file, or the range of it asked for, or that the client's copy is still good.

    Raises `RangeNotSatisfiable`, and `FileReadFailed` when the file changes on the way.
    """
    modified = email.utils.formatdate(download.modified_ns // 1_000_000_000, usegmt=True)
    headers = _FIXED | {
        "Content-Disposition": disposition("attachment", paths.base_name(path)),
        "Last-Modified": modified,
        "ETag": f'"{download.etag}"',
    }
    if _still_good(request, download):
        del headers["Content-Type"]
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    asked = _asked_range(request, download, modified)
    start, stop, status = (0, download.size, HTTPStatus.OK) if asked is None else (*asked, HTTPStatus.PARTIAL_CONTENT)
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{download.size}"
    headers["Content-Length"] = str(stop - start)
    if download.content is not None:
        return web.Response(body=download.content[start:stop], status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    writer = await response.prepare(request)
    if request.method != "HEAD" and writer is not None:
        await Connection(request, writer, threads).send_verified(download, start, stop - start)
    await response.write_eof()
    return response


def _still_good(request: web.Request, download: Download) -> bool:
    tags = request.if_none_match
    if tags is not None:
        return any(each.value in ("*", download.etag) for each in tags)
    since = request.if_modified_since
    return since is not None and download.modified_ns // 1_000_000_000 <= since.timestamp()


def _asked_range(request: web.Request, download: Download, modified: str) -> tuple[int, int] | None:
    """Return the start and stop of the one range asked for; what is malformed or multiple means the whole file."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    only_if = request.headers.get("If-Range")
    if found is None or not any(found.groups()) or (only_if not in (None, f'"{download.etag}"', modified)):
        return None
    first, last = found.groups()
    if first:
        start, stop = int(first), min(int(last) + 1 if last else download.size, download.size)
        if last and int(last) < int(first):
            return None
    else:
        start, stop = max(0, download.size - int(last)), download.size
    if start >= stop:
        headers = {"Content-Range": f"bytes */{download.size}"}
        raise RangeNotSatisfiable(f"the file has {download.size} bytes", headers=headers)
    return start, stop


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
        named = disposition(f'form-data; name="{name}"', path)
        head = f"Content-Disposition: {named}\r\n{headers}\r\n"
        self._pending += b"--%b\r\n" % self._boundary + head.encode("ascii")

    async def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        await self._writer.write(pending)


def _part_type(path: str) -> str:
    kind = mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind

"""One file as an answer: with ranges, validators and a name."""

import email.utils
import re
from http import HTTPStatus
from urllib.parse import quote

from aiohttp import web

from toolbox.errors import ToolboxError
from toolbox.threads import Threads
from toolbox.web.downloads import Download
from toolbox.web.sending import Connection

_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)
_UNQUOTABLE = re.compile(r"[^\x20-\x7e]|[\"\\]")
_UNQUOTABLE_IN_FORMS = re.compile(r"[\x00-\x1f\x7f\"\\]")
_KEPT_IN_NAMES = "!#$&+-.^_`|~"

_FIXED = {
    "Accept-Ranges": "bytes",
    "Content-Description": "File Transfer",
    "Content-Transfer-Encoding": "binary",
    "Expires": "0",
    "Cache-Control": "must-revalidate",
    "Pragma": "public",
}

_MOST_PLAIN = 255


def disposition(kind: str, name: str) -> str:
    """Return a Content-Disposition value that names a file twice: roughly in ASCII, and exactly (RFC 5987).

    The rough name has no escapes and is short: published clients misread the one, and limit the header's length.
    """
    plain = _UNQUOTABLE.sub("_", re.sub(r"[\r\n\0]", "", name))[-_MOST_PLAIN:]
    return f"{kind}; filename=\"{plain}\"; filename*=utf-8''{quote(name, safe=_KEPT_IN_NAMES)}"


def page_disposition(kind: str, name: str) -> str:
    """Return a Content-Disposition value for a form that a web page reads, to be sent as UTF-8.

    Browsers know `filename` alone in forms, and as UTF-8; so it is exact, but for quotes and in long names. Other
    clients fail for one that is not ASCII.
    """
    value = disposition(kind, name)
    exact = _UNQUOTABLE_IN_FORMS.sub("_", re.sub(r"[\r\n\0]", "", name))
    if exact.isascii() or len(exact.encode()) > _MOST_PLAIN:
        return value
    return f'{kind}; filename="{exact}"; filename*={value.partition("; filename*=")[2]}'


class RangeNotSatisfiable(ToolboxError):
    """The range asked for lies behind the file's end."""

    status = 416
    code = "RANGE_NOT_SATISFIABLE"


async def send_file(
    request: web.Request,
    download: Download,
    name: str,
    threads: Threads,
    *,
    content_type: str = "application/octet-stream",
) -> web.StreamResponse:
    """Answer with an open file, or the range of it asked for, or that the client's copy is still good.

    `name` is the one under which it is to be saved.

    Raises `RangeNotSatisfiable`, and `FileReadFailed` when the file changes on the way.
    """
    modified = email.utils.formatdate(download.modified_ns // 1_000_000_000, usegmt=True)
    headers = _FIXED | {
        "Content-Type": content_type,
        "Content-Disposition": disposition("attachment", name),
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

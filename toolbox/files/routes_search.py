"""Routes of `/files` that look through trees, change many files, watch them, or move them as one archive."""

from aiohttp import web

from toolbox import paths
from toolbox.files import search
from toolbox.files.archives import ARCHIVE_TYPES, receive_archive, send_archive
from toolbox.files.events import send_events
from toolbox.files.find import Finder
from toolbox.files.models import (
    ArchiveQuery,
    FoundLine,
    ReplaceRequest,
    ReplaceResult,
    SearchAnswer,
    SearchQuery,
    UnpackAnswer,
    UnpackQuery,
    WaitAnswer,
    WaitQuery,
    WatchQuery,
)
from toolbox.files.results import send_results
from toolbox.files.service import Files
from toolbox.web.endpoint import Routes
from toolbox.web.websocket import Sockets

routes = Routes("file-system")


@routes.get("/files/search", "SearchFiles")
async def search_files(request: web.Request, query: SearchQuery, files: Files) -> SearchAnswer | web.StreamResponse:
    """List files and directories whose base name matches a glob; with `limit`, one page and `X-Truncated`."""
    found = files.search(query.path, query.pattern)
    return await send_results(request, found, offset=query.offset, limit=query.limit, name="files")


@routes.get("/files/find", "FindInFiles")
async def find_in_files(
    request: web.Request, query: SearchQuery, files: Files, finder: Finder
) -> list[FoundLine] | web.StreamResponse:
    """List the lines that contain a text; with `limit`, one page and the header `X-Truncated`."""
    name = search.shown(paths.unescape(query.path))
    found = finder.find(files.resolve(query.path), name, query.pattern)
    return await send_results(request, found, offset=query.offset, limit=query.limit)


@routes.post("/files/replace", "ReplaceInFiles")
async def replace_in_files(body: ReplaceRequest, files: Files) -> list[ReplaceResult]:
    """Replace a text in files, each changed whole or not at all; tells for each how it went."""
    return [*await files.replace(body.files, body.pattern, body.new_value)]


@routes.get("/files/watch", "WatchFiles", produces="text/event-stream")
async def watch_files(request: web.Request, query: WatchQuery, files: Files, sockets: Sockets) -> web.StreamResponse:
    """Tell what happens in a directory: a message per event by websocket, else as server-sent events.

    The directory is watched from before the answer begins until the client leaves. `overflow` means that events were
    lost, because too many came at once or the client fetched them too slowly: it should then look for itself.
    """
    async with files.watch(query) as watch:
        return await send_events(request, sockets, watch)


@routes.get("/files/wait", "WaitForFile")
async def wait_for_file(query: WaitQuery, files: Files) -> WaitAnswer:
    """Wait until a file exists, has changed or is gone; 408 when the time is over."""
    return await files.wait(query)


@routes.get("/files/archive", "DownloadArchive", produces=ARCHIVE_TYPES)
async def download_archive(request: web.Request, query: ArchiveQuery, files: Files) -> web.StreamResponse:
    """Send what is in a directory as one tar archive, plain or compressed.

    Modes, owner ids, times and links are kept. An answer that breaks off before its end is not the whole archive.
    """
    async with files.archive(query.path, query.format) as archive:
        return await send_archive(request, archive)


@routes.post("/files/archive", "UploadArchive", consumes="application/x-tar")
async def upload_archive(request: web.Request, query: UnpackQuery, files: Files) -> UnpackAnswer:
    """Unpack a tar archive, plain or compressed with gzip or zstd, into a directory.

    A member that would lie outside of the directory, or be written through a link, is refused, and so are devices; at
    most 1,000,000 members and 64 GiB. Each file appears whole; what came before an error stays.
    """
    return await receive_archive(request, files.unpack(query.path, same_owner=query.same_owner), query.path)

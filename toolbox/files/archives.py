"""Archives as HTTP bodies."""

from aiohttp import web

from toolbox.files.archive import Archive
from toolbox.files.bodies import body_reader
from toolbox.files.models import UnpackAnswer
from toolbox.files.unpack import Unpacking
from toolbox.web.file_response import disposition

_TYPES = {"tar": "application/x-tar", "gz": "application/gzip", "zst": "application/zstd"}
ARCHIVE_TYPES = ", ".join(_TYPES.values())
"""What an archive may come as."""


async def send_archive(request: web.Request, archive: Archive) -> web.StreamResponse:
    """Answer with an archive, made while it is sent; what is wrong at its beginning is still a proper error."""
    headers = {
        "Content-Type": _TYPES[archive.name.rpartition(".")[2]],
        "Content-Disposition": disposition("attachment", archive.name),
    }
    piece = await archive.more()
    if archive.finished:
        return web.Response(body=piece, headers=headers)
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(piece)
    while not archive.finished:
        await response.write(await archive.more())
    await response.write_eof()
    return response


async def receive_archive(request: web.Request, unpacking: Unpacking, name: str) -> UnpackAnswer:
    """Unpack the body; it is read to its end in any case, since a proxy in front may fail otherwise."""
    read = body_reader(request)
    try:
        async with unpacking:
            while chunk := await read():
                await unpacking.write(chunk)
            return await unpacking.finish(name)
    except Exception:
        while await read():
            pass
        raise

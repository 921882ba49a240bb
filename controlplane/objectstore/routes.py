"""The operations of S3, path style, below `/s3`: what clients of build contexts and their tools use."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from aiohttp import ClientPayloadError, web
from multidict import CIMultiDict

from controlplane.objectstore import answers
from controlplane.objectstore.bodies import Body
from controlplane.objectstore.checksums import wanted_algorithms
from controlplane.objectstore.credentials import Issuer, Session
from controlplane.objectstore.errors import S3Error
from controlplane.objectstore.multipart import Uploads, part_number
from controlplane.objectstore.objects import (
    Objects,
    Piece,
    StoredObject,
    check_key,
    decode_position,
    encode_position,
)
from controlplane.objectstore.sigv4 import Message, Signer, read_claim
from toolbox.errors import ToolboxError
from toolbox.web.drain import STARTED
from toolbox.web.endpoint import Routes
from toolbox.web.middleware import REQUEST_ID, as_toolbox_error, timestamp

BUCKET = "contexts"
REGION = "us-east-1"
PREFIX = "/s3"
OPERATION = "objectStorage"
_MOST_XML = 1024 * 1024
_MOST_LISTED = 1000
_SEND_BYTES = 1024 * 1024

routes = Routes("object storage")


class Call:
    """One request of a client that was recognised."""

    def __init__(self, request: web.Request, bucket: str, key: str, session: Session, body: Body) -> None:
        self.request = request
        self.bucket = bucket
        self.key = key
        self.query = request.query
        self.session = session
        self.body = body

    async def receive(self, piece: Piece) -> None:
        """Take the body. Raises `S3Error` when it is not what it says."""
        await piece.receive(self.body.chunks())
        self.body.check_digest(piece.digests.sha256)
        piece.checksums = piece.digests.verify(_flat(self.request) | self.body.trailers)

    async def read(self) -> bytes:
        """Return a small body. Raises `S3Error`."""
        found = bytearray()
        async for data in self.body.chunks():
            found += data
            if len(found) > _MOST_XML:
                raise S3Error("EntityTooLarge", "The list of parts is too long.")
        self.body.check_digest(hashlib.sha256(found).hexdigest())
        return bytes(found)


class Storage:
    """What answers clients of S3."""

    def __init__(self, objects: Objects, uploads: Uploads, issuer: Issuer) -> None:
        self._objects = objects
        self._uploads = uploads
        self._issuer = issuer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, errors included."""
        try:
            call = self._recognise(request)
            return await self._operation(call)(call)
        except (web.RequestPayloadError, ClientPayloadError):
            return _failed(S3Error("IncompleteBody", "The body ended before it should."), request)
        except S3Error as error:
            return _failed(error, request)
        except (ToolboxError, OSError) as error:
            if STARTED in request:
                raise  # part of an object is out
            known = as_toolbox_error(error)
            code = (
                "InsufficientStorage" if known.status == S3Error("InsufficientStorage", "").status else "InternalError"
            )
            return _failed(S3Error(code, known.message), request)

    def _recognise(self, request: web.Request) -> Call:
        message = _message(request)
        claim = read_claim(message, region=REGION)
        token = message.header("x-amz-security-token")
        session = self._issuer.open(claim.access_key, token)
        signer = Signer(self._issuer.secret(token), claim)
        signer.verify_request(message)
        bucket, _, key = message.path.removeprefix(f"{PREFIX}/").partition("/")
        key = unquote(key, errors="surrogateescape")
        if bucket != BUCKET:
            raise S3Error("NoSuchBucket", "The specified bucket does not exist.")
        owned = f"{session.organization_id}/"
        if not (key or request.query.get("prefix", "")).startswith(owned):
            raise S3Error("AccessDenied", f"These credentials are for keys that begin with {owned}")
        if key:
            check_key(key)
        return Call(request, bucket, key, session, Body(message, request.content, signer))

    def _operation(self, call: Call) -> Callable[[Call], Awaitable[web.StreamResponse]]:
        words = {name for name in ("uploads", "uploadId", "partNumber", "list-type") if name in call.query}
        found = {
            ("GET", False, ("list-type",)): self._list,
            ("GET", True, ()): self._get,
            ("HEAD", True, ()): self._head,
            ("PUT", True, ()): self._put,
            ("DELETE", True, ()): self._delete,
            ("POST", True, ("uploads",)): self._create_upload,
            ("PUT", True, ("partNumber", "uploadId")): self._put_part,
            ("GET", True, ("uploadId",)): self._list_parts,
            ("POST", True, ("uploadId",)): self._complete,
            ("DELETE", True, ("uploadId",)): self._abort,
        }.get((call.request.method, bool(call.key), tuple(sorted(words))))
        if found is None or "x-amz-copy-source" in call.request.headers:
            raise S3Error("NotImplemented", "This operation of S3 is not served here.")
        return found

    async def _put(self, call: Call) -> web.StreamResponse:
        async with self._objects.piece(wanted_algorithms(_flat(call.request))) as piece:
            await call.receive(piece)
            stored = await self._objects.put(
                call.key,
                piece.path,
                etag=piece.digests.md5.hex(),
                size=piece.size,
                content_type=call.request.headers.get("Content-Type", ""),
                checksums=piece.checksums,
            )
            piece.keep()
        return web.Response(headers={"ETag": f'"{stored.etag}"', **stored.checksums})

    async def _head(self, call: Call) -> web.StreamResponse:
        stored = await self._stored(call)
        response = web.StreamResponse(headers=_described(stored))
        response.content_length = stored.size
        await response.prepare(call.request)
        return response

    async def _get(self, call: Call) -> web.StreamResponse:
        stored = await self._stored(call)
        start, stop = _range(call.request, stored.size)
        partial = (start, stop) != (0, stored.size)
        response = web.StreamResponse(status=206 if partial else 200, headers=_described(stored))
        response.content_length = stop - start
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        file = await asyncio.to_thread(_open_at, self._objects.path(stored), start)
        try:
            await response.prepare(call.request)
            while start < stop and (data := await asyncio.to_thread(file.read, min(_SEND_BYTES, stop - start))):
                start += len(data)
                await response.write(data)
            await response.write_eof()
        finally:
            await asyncio.to_thread(file.close)
        return response

    async def _stored(self, call: Call) -> StoredObject:
        found = await self._objects.find(call.key)
        if found is None:
            raise S3Error("NoSuchKey", "The specified key does not exist.")
        return found

    async def _delete(self, call: Call) -> web.StreamResponse:
        await self._objects.remove(call.key)
        return web.Response(status=204)

    async def _list(self, call: Call) -> web.StreamResponse:
        query = call.query
        if query["list-type"] != "2" or query.get("encoding-type", "url") != "url":
            raise S3Error("NotImplemented", "Only ListObjectsV2 is served here.")
        limit = min(_number(query.get("max-keys", str(_MOST_LISTED)), "max-keys"), _MOST_LISTED)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        token, start = query.get("continuation-token", ""), query.get("start-after", "")
        after = decode_position(token) if token else start
        page = await self._objects.page(prefix, after=after, delimiter=delimiter, limit=limit)
        text = answers.listed(
            call.bucket,
            prefix,
            page,
            limit=limit,
            token=token,
            next_token=encode_position(page.last),
            Delimiter=delimiter,
            StartAfter=start,
        )
        return _xml(text)

    async def _create_upload(self, call: Call) -> web.StreamResponse:
        upload = await self._uploads.create(call.key, call.request.headers.get("Content-Type", ""))
        return _xml(answers.initiated(call.bucket, upload))

    async def _put_part(self, call: Call) -> web.StreamResponse:
        upload = self._uploads.get(call.query["uploadId"], call.key)
        number = part_number(call.query["partNumber"])
        async with self._objects.piece(wanted_algorithms(_flat(call.request))) as piece:
            await call.receive(piece)
            part = await self._uploads.add(upload, number, piece, timestamp())
        return web.Response(headers={"ETag": f'"{part.etag}"', **part.checksums})

    async def _list_parts(self, call: Call) -> web.StreamResponse:
        upload = self._uploads.get(call.query["uploadId"], call.key)
        limit = min(_number(call.query.get("max-parts", str(_MOST_LISTED)), "max-parts"), _MOST_LISTED)
        after = _number(call.query.get("part-number-marker", "0"), "part-number-marker")
        later = [upload.parts[number] for number in sorted(upload.parts) if number > after]
        more = len(later) > limit
        return _xml(answers.parts(call.bucket, upload, later[:limit], more=more, limit=limit, after=after))

    async def _complete(self, call: Call) -> web.StreamResponse:
        upload = self._uploads.get(call.query["uploadId"], call.key)
        stored = await self._uploads.complete(upload, answers.read_parts(await call.read()))
        return _xml(answers.completed(call.bucket, stored, str(call.request.url.with_query(None))))

    async def _abort(self, call: Call) -> web.StreamResponse:
        await self._uploads.abort(self._uploads.get(call.query["uploadId"], call.key))
        return web.Response(status=204)


@routes.add("*", PREFIX + "/{tail:(?s:.*)}", OPERATION, hidden=True)
async def s3(storage: Storage, request: web.Request) -> web.StreamResponse:
    """Answer a client of S3."""
    return await storage.answer(request)


def _message(request: web.Request) -> Message:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    path, _, query = request.raw_path.partition("?")
    return Message(method=request.method, path=path, query=query, headers=headers)


def _flat(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _failed(error: S3Error, request: web.Request) -> web.StreamResponse:
    text = answers.error(error, resource=request.raw_path.partition("?")[0], request_id=request.get(REQUEST_ID, ""))
    response = web.Response(status=error.status, text=text, content_type=answers.CONTENT_TYPE)
    if request.body_exists and not request.content.is_eof():
        response.force_close()  # what is left of the body would be read as the next request
    return response


def _xml(text: str) -> web.Response:
    return web.Response(text=text, content_type=answers.CONTENT_TYPE)


def _described(stored: StoredObject) -> CIMultiDict[str]:
    changed = format_datetime(datetime.fromisoformat(stored.created_at), usegmt=True)
    return CIMultiDict(
        {
            "ETag": f'"{stored.etag}"',
            "Last-Modified": changed,
            "Content-Type": stored.content_type,
            "Accept-Ranges": "bytes",
            **stored.checksums,
        }
    )


def _range(request: web.Request, size: int) -> tuple[int, int]:
    """Return first byte and the one after the last that are wanted. Raises `S3Error`."""
    try:
        wanted = request.http_range
    except ValueError:
        return 0, size
    if wanted.start is None and wanted.stop is None:
        return 0, size
    start, stop, _ = wanted.indices(size)
    if start >= stop:
        raise S3Error("InvalidRange", "The requested range is not satisfiable.")
    return start, stop


def _open_at(path: Path, offset: int) -> IO[bytes]:
    file = path.open("rb", 0)
    file.seek(offset)
    return file


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise S3Error("InvalidArgument", f"{name} must be a number.")
    return int(text)

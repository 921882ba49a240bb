"""Objects that come in parts. Uploads under way end with the process: a client then hears NoSuchUpload."""

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from controlplane.objectstore.errors import S3Error
from controlplane.objectstore.objects import Objects, Piece, StoredObject, etag_of, join, remove_files

MOST_PARTS = 10_000
LEAST_PART_BYTES = 5 * 1024 * 1024
_MOST_UPLOADS = 1000
_IDLE_SECONDS = 24 * 3600
_QUOTES = re.compile(r'^"|"$')


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that has come."""

    number: int
    etag: str
    size: int
    path: Path
    checksums: dict[str, str]
    modified_at: str


class NamedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part as a client names it when it completes an upload."""

    number: int
    etag: str


class Upload:
    """An upload under way."""

    def __init__(self, key: str, content_type: str) -> None:
        self.id = secrets.token_urlsafe(24)
        self.key = key
        self.content_type = content_type
        self.parts: dict[int, Part] = {}
        self.used_at = time.monotonic()


class Uploads:
    """All uploads under way."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._uploads: dict[str, Upload] = {}

    async def create(self, key: str, content_type: str) -> Upload:
        """Begin an upload. Raises `S3Error` when there are too many."""
        await self._drop_idle()
        if len(self._uploads) >= _MOST_UPLOADS:
            raise S3Error("SlowDown", "There are too many uploads under way.")
        upload = Upload(key, content_type)
        self._uploads[upload.id] = upload
        return upload

    def get(self, upload_id: str, key: str) -> Upload:
        """Return an upload. Raises `S3Error`."""
        found = self._uploads.get(upload_id)
        if found is None or found.key != key:
            raise S3Error("NoSuchUpload", "The specified multipart upload does not exist.")
        found.used_at = time.monotonic()
        return found

    async def add(self, upload: Upload, number: int, piece: Piece, modified_at: str) -> Part:
        """Take a part, in place of one with the same number. Raises `S3Error` when the upload ended meanwhile."""
        self.get(upload.id, upload.key)
        piece.keep()
        part = Part(
            number=number,
            etag=piece.digests.md5.hex(),
            size=piece.size,
            path=piece.path,
            checksums=piece.checksums,
            modified_at=modified_at,
        )
        before = upload.parts.get(number)
        upload.parts[number] = part
        if before is not None:
            await asyncio.to_thread(remove_files, [before.path])
        return part

    async def complete(self, upload: Upload, named: Sequence[NamedPart]) -> StoredObject:
        """Make an object of the named parts. Raises `S3Error`."""
        parts = _chosen(upload, named)
        del self._uploads[upload.id]
        rest = [each.path for each in upload.parts.values() if each not in parts]
        try:
            joined = await asyncio.to_thread(join, [each.path for each in parts])
        except OSError as error:
            await asyncio.to_thread(remove_files, [each.path for each in upload.parts.values()])
            raise S3Error("InsufficientStorage", f"The object cannot be kept: {error.strerror}.") from None
        await asyncio.to_thread(remove_files, rest)
        return await self._objects.put(
            upload.key,
            joined,
            etag=etag_of([bytes.fromhex(each.etag) for each in parts]),
            size=sum(each.size for each in parts),
            content_type=upload.content_type,
            checksums={},
        )

    async def abort(self, upload: Upload) -> None:
        """Forget an upload and its parts."""
        self._uploads.pop(upload.id, None)
        await asyncio.to_thread(remove_files, [each.path for each in upload.parts.values()])

    async def _drop_idle(self) -> None:
        oldest = time.monotonic() - _IDLE_SECONDS
        for each in [each for each in self._uploads.values() if each.used_at < oldest]:
            await self.abort(each)


def part_number(text: str) -> int:
    """Return the number of a part. Raises `S3Error`."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_PARTS:
        return int(text)
    raise S3Error("InvalidArgument", f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive.")


def _chosen(upload: Upload, named: Sequence[NamedPart]) -> list[Part]:
    numbers = [each.number for each in named]
    if not named:
        raise S3Error("MalformedXML", "You must specify at least one part.")
    if numbers != sorted(set(numbers)):
        raise S3Error("InvalidPartOrder", "The list of parts was not in ascending order.")
    parts = []
    for each in named:
        part = upload.parts.get(each.number)
        if part is None or part.etag != _QUOTES.sub("", each.etag):
            raise S3Error("InvalidPart", f"Part {each.number} was not uploaded, or its entity tag is another.")
        parts.append(part)
    if any(each.size < LEAST_PART_BYTES for each in parts[:-1]):
        raise S3Error("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.")
    return parts

"""Objects: files on this machine, found by their keys."""

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import AsyncIterable, Collection, Sequence
from pathlib import Path
from typing import IO, Self

import msgspec

from controlplane.objectstore.checksums import Digests
from controlplane.objectstore.errors import S3Error
from controlplane.store import Collection as Documents
from controlplane.store import Repository
from toolbox.web.middleware import timestamp

MOST_KEY_BYTES = 1024
MOST_OBJECT_BYTES = 50 * 1024**3
_BATCH_BYTES = 1024 * 1024


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object as it is remembered."""

    id: str
    """Name of its file."""
    name: str
    """Its key."""
    organization_id: str
    """The first word of its key: S3's own credentials are good for that prefix alone."""
    created_at: str
    """When its content was put, RFC 3339 in UTC."""
    etag: str
    size: int
    content_type: str = "application/octet-stream"
    checksums: dict[str, str] = {}
    """Name of the header -> checksum that the client gave, verified."""


class Piece:
    """Content on its way in: a file without a name that clients know. Entered as a context; what is not kept goes."""

    def __init__(self, path: Path, algorithms: set[str]) -> None:
        self.path = path
        self.size = 0
        self.digests = Digests(algorithms)
        self.checksums: dict[str, str] = {}
        self._file: IO[bytes] | None = None
        self._kept = False
        self._over = False
        # A thread still writes when the request it writes for is cancelled.
        self._lock = threading.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._close)

    async def receive(self, chunks: AsyncIterable[bytes]) -> None:
        """Write all of `chunks`. Raises `S3Error` when there is too much or no room."""
        batch, waiting = [], 0
        async for data in chunks:
            batch.append(data)
            waiting += len(data)
            if self.size + waiting > MOST_OBJECT_BYTES:
                raise S3Error("EntityTooLarge", f"An object may have {MOST_OBJECT_BYTES} bytes.")
            if waiting >= _BATCH_BYTES:
                await self._write(batch)
                batch, waiting = [], 0
        await self._write(batch)

    def keep(self) -> None:
        """Let the file stay, where it is or under another name."""
        self._kept = True

    async def _write(self, batch: list[bytes]) -> None:
        try:
            await asyncio.to_thread(self._take, batch)
        except OSError as error:
            raise S3Error("InsufficientStorage", f"The object cannot be kept: {error.strerror}.") from None

    def _take(self, batch: list[bytes]) -> None:
        with self._lock:
            if self._over:
                return
            if self._file is None:
                self._file = self.path.open("wb", 0)
            for data in batch:
                self.digests.update(data)
                view = memoryview(data)
                while view:
                    view = view[self._file.write(view) :]
                self.size += len(data)

    def _close(self) -> None:
        with self._lock:
            self._over = True
            if self._file is not None:
                self._file.close()
            if not self._kept:
                self.path.unlink(missing_ok=True)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list of objects."""

    objects: list[StoredObject]
    prefixes: list[str]
    """What was rolled up at the delimiter."""
    last: str
    """Key or prefix after which the next page begins; empty: this is the last one."""


class Objects:
    """All objects."""

    def __init__(self, store: Repository, directory: Path) -> None:
        self._known: Documents[StoredObject] = store.collection("object", StoredObject)
        self._files = directory / "objects"
        self._incoming = directory / "incoming"
        self._changing = asyncio.Lock()
        """Held while something is put or tidied away: what comes in stays."""

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    def _open(self) -> None:
        # Uploads do not outlive the process that took them: their clients begin anew.
        shutil.rmtree(self._incoming, ignore_errors=True)
        for directory in (self._files, self._incoming):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def piece(self, algorithms: set[str]) -> Piece:
        """Return a place for content that comes in."""
        return Piece(self._incoming / secrets.token_hex(16), algorithms)

    async def find(self, key: str) -> StoredObject | None:
        """Return an object, None if there is none. From now on it counts as wanted for a while (see `tidy`)."""
        found = await self._known.find(_file_name(key))
        if found is not None:
            await asyncio.to_thread(_touch, [self.path(found)])
        return found

    def path(self, found: StoredObject) -> Path:
        """Return the file of an object."""
        return self._files / found.id

    async def put(
        self, key: str, piece: Path, *, etag: str, size: int, content_type: str, checksums: dict[str, str]
    ) -> StoredObject:
        """Give a piece its key, in place of what had it before."""
        made = StoredObject(
            id=_file_name(key),
            name=key,
            organization_id=key.partition("/")[0],
            created_at=timestamp(),
            etag=etag,
            size=size,
            content_type=content_type or "application/octet-stream",
            checksums=checksums,
        )
        async with self._changing:
            await asyncio.to_thread(os.replace, piece, self.path(made))
            await self._known.remove(made.id)
            await self._known.add(made)
        return made

    async def remove(self, key: str) -> None:
        """Remove an object; what is not there counts as removed."""
        await self._known.remove(_file_name(key))
        await asyncio.to_thread((self._files / _file_name(key)).unlink, missing_ok=True)

    async def tidy(self, keys: re.Pattern[str], *, keep: Collection[str], before: float) -> None:
        """Remove, of `keys`, what nobody put, found or listed since `before` (Unix time in seconds), but not `keep`."""
        for each in await self._known.all():
            if keys.fullmatch(each.name) and each.name not in keep:
                async with self._changing:
                    if await asyncio.to_thread(_wanted_at, self.path(each)) < before:
                        await self.remove(each.name)

    async def page(self, prefix: str, *, after: str, delimiter: str, limit: int) -> Page:
        """Return the objects whose keys begin with `prefix` and come after `after`, by their keys' bytes."""
        found = [each for each in await self._known.all() if each.name.startswith(prefix) and each.name > after]
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        last = ""
        await asyncio.to_thread(_touch, [self.path(each) for each in found])
        for each in sorted(found, key=lambda stored: stored.name.encode()):
            rest = each.name[len(prefix) :]
            rolled = prefix + rest.partition(delimiter)[0] + delimiter if delimiter and delimiter in rest else ""
            if rolled and (rolled in prefixes or rolled == after or after.startswith(rolled)):
                continue
            if len(objects) + len(prefixes) >= limit:
                return Page(objects=objects, prefixes=prefixes, last=last)
            if rolled:
                prefixes.append(rolled)
            else:
                objects.append(each)
            last = rolled or each.name
        return Page(objects=objects, prefixes=prefixes, last="")


def _touch(paths: Sequence[Path]) -> None:
    """Note that files are wanted: their time of change says when."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.utime(path)


def _wanted_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def etag_of(digests: Sequence[bytes]) -> str:
    """Return the entity tag of content that came whole (one MD5 digest)."""
    return hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest() + f"-{len(digests)}"


def join(pieces: Sequence[Path]) -> Path:
    """Append all pieces to the first one, and return it (long: for threads). Raises `OSError`."""
    first, *others = pieces
    with first.open("ab") as target:
        for each in others:
            with each.open("rb") as source:
                shutil.copyfileobj(source, target, _BATCH_BYTES)
            each.unlink()
    return first


def remove_files(paths: Sequence[Path]) -> None:
    """Remove files, as many as can be (for threads)."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def encode_position(key: str) -> str:
    """Return a continuation token."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def decode_position(token: str) -> str:
    """Return the key of a continuation token. Raises `S3Error`."""
    try:
        return base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except ValueError:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect.") from None


def check_key(key: str) -> None:
    """Raise `S3Error` for a key that cannot be."""
    if not key:
        raise S3Error("InvalidArgument", "The key is empty.")
    if len(key.encode("utf-8", "surrogateescape")) > MOST_KEY_BYTES:
        raise S3Error("KeyTooLongError", "Your key is too long.")
    if not key.isprintable():
        # Surrogates stand for what is not UTF-8; control characters cannot be in the XML of a list.
        raise S3Error("InvalidArgument", "The key has characters that cannot be listed.")


def _file_name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()

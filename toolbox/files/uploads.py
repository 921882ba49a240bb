"""Files on their way in: received in chunks, complete or not there at all."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from toolbox import paths
from toolbox.errors import (
    BadRequest,
    FileReadFailed,
    InsufficientStorage,
    InvalidPath,
    ToolboxError,
    from_os_error,
)
from toolbox.files.atomic import Replacement
from toolbox.files.models import UploadedFile
from toolbox.files.multipart import MultipartReader, Truncated
from toolbox.files.threads import FileThreads

_BATCH = 2 << 20
"""Bytes collected before a thread writes them; the next batch is collected meanwhile."""
_MAX_PATH_TEXT = 16 * 1024
_MAX_PARTS = 200_000
_ENTRY = re.compile(r"files\[(.*)\]\.(path|file)", re.DOTALL)

OpenUpload = Callable[[str], "Upload"]


class Upload:
    """One file being received, an async context: unless `finish` was reached, leaving it leaves nothing behind."""

    def __init__(self, threads: FileThreads, replacement: Replacement) -> None:
        self._threads = threads
        self._replacement = replacement
        self._chunks: list[bytes] = []
        self._collected = 0
        self._writing: asyncio.Future[None] | None = None
        self._touched = False
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        """Append `chunk`. Raises `OSError` or `InvalidPath`, possibly of an earlier chunk."""
        self._chunks.append(chunk)
        self._collected += len(chunk)
        self.size += len(chunk)
        if self._collected >= _BATCH:
            await self._settle()
            chunks, self._chunks, self._collected = self._chunks, [], 0
            self._touched = True
            self._writing = self._threads.start(self._replacement.write, chunks)

    async def finish(self) -> None:
        """Put the file in its place. Raises `OSError` or `InvalidPath`; the old file is then still there."""
        await self._settle()
        self._touched = True
        await self._threads.run(self._land, self._chunks)
        self._touched = False

    def _land(self, chunks: Sequence[bytes]) -> None:
        # One visit to a thread for all of a small file.
        try:
            self._replacement.write(chunks)
            self._replacement.commit()
        finally:
            self._replacement.discard()

    async def _settle(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await self._threads.settle(writing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._settle()
        except (OSError, ToolboxError):
            pass  # what went wrong with a file that is given up
        finally:
            if self._touched:
                await self._threads.run(self._replacement.discard)


class BulkUploadFailed(ToolboxError):
    """Not every file of a bulk upload arrived; `errors` says what went wrong, `files` which did."""

    status = 400

    def __init__(self, errors: Sequence[str], causes: Sequence[ToolboxError], files: Sequence[UploadedFile]) -> None:
        # A full or failing disk is not the client's fault: it decides the status.
        ours = next((each for each in causes if isinstance(each, InsufficientStorage | FileReadFailed)), None)
        cause = ours or causes[0]
        super().__init__("; ".join(errors), code=cause.code, extra={"errors": list(errors), "files": list(files)})
        if ours is not None:
            self.status = ours.status


class BulkUpload:
    """Receives a form of pairs: `files[N].path`, a destination, and `files[N].file`, its content, in that order."""

    def __init__(self, reader: MultipartReader, open_upload: OpenUpload) -> None:
        self._reader = reader
        self._open_upload = open_upload
        self._destinations: dict[str, str] = {}
        self._files: list[UploadedFile] = []
        self._errors: list[str] = []
        self._causes: list[ToolboxError] = []

    async def receive(self) -> list[UploadedFile]:
        """Store every file and read the body to its end. Raises `BulkUploadFailed`, after the same."""
        try:
            await self._receive_parts()
        except BadRequest as error:
            self._failed(f"reading part: {error}", error)
        with contextlib.suppress(Truncated):
            while await self._reader.read_rest():
                pass
        if self._errors:
            raise BulkUploadFailed(self._errors, self._causes, self._files)
        return self._files

    async def _receive_parts(self) -> None:
        parts = 0
        while (part := await self._reader.next_part()) is not None:
            parts += 1
            if parts > _MAX_PARTS:
                raise BadRequest(f"more than {_MAX_PARTS} parts in one form")
            if (found := _ENTRY.fullmatch(part.name)) is not None:
                key, kind = found.groups()
                await (self._receive_path(key) if kind == "path" else self._receive_file(key))

    async def _receive_path(self, key: str) -> None:
        text = await self._reader.read_text(_MAX_PATH_TEXT)
        if text is None:
            self._failed(f"path[{key}]: path too long", InvalidPath("path too long"))
        elif not (destination := text.strip()):
            self._failed(f"path[{key}]: empty path", InvalidPath("empty path"))
        else:
            # Bytes sent raw that are not UTF-8 mean themselves; the answer names them in the escaped form.
            valid = destination == paths.lossy(destination)
            self._destinations[key] = destination if valid else paths.escape(destination)

    async def _receive_file(self, key: str) -> None:
        destination = self._destinations.pop(key, None)
        if destination is None:
            self._failed(f"file[{key}]: missing .path metadata", BadRequest("missing .path metadata"))
            return
        try:
            size = await receive_file(self._open_upload(destination), self._reader.read_chunk)
        except Truncated as error:
            self._failed(f"{destination}: write: unexpected EOF", error)
            raise
        except (OSError, ToolboxError) as error:
            cause = error if isinstance(error, ToolboxError) else from_os_error(error)
            cause = cause or FileReadFailed(str(error))
            self._failed(f"{destination}: {cause.message}", cause)
        else:
            self._files.append(UploadedFile(path=destination, bytes=size))

    def _failed(self, text: str, cause: ToolboxError) -> None:
        self._errors.append(text)
        self._causes.append(cause)


async def receive_file(upload: Upload, read: Callable[[], Awaitable[bytes]]) -> int:
    """Store what `read` gives, up to its empty end, and return the size. Raises what `Upload` and `read` raise."""
    async with upload:
        while chunk := await read():
            await upload.write(chunk)
        await upload.finish()
        return upload.size

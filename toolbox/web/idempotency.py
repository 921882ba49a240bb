"""`Idempotency-Key`: the same request sent again gets the first one's answer, and is never carried out twice.

An answer is kept for an hour, on disk, also over a restart of the daemon. A request with a key goes on when its client
goes away, since the client is expected to ask again.
"""

import asyncio
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self

import msgspec
from aiohttp import web

from toolbox.errors import BadRequest, Conflict, ToolboxError
from toolbox.lifetime import TaskSet
from toolbox.web import wire
from toolbox.web.middleware import DAEMON_SOURCE, as_toolbox_error, envelope

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
KEPT_SECONDS = 3600.0
MAX_ENTRIES = 10_000
MAX_BYTES = 256 * 1024 * 1024
"""Of answers on disk; the oldest go first."""
_MAX_KEY = 255
_CHUNK = 256 * 1024
_HEADERS_KEPT = ("Content-Type", "X-Log-Start", "X-Log-End")


class _Record(msgspec.Struct):
    """A request with a key: what it was, and once it has been carried out, its answer."""

    fingerprint: str
    created: float
    status: int = 0
    """0 while it is being carried out."""
    headers: dict[str, str] = {}
    size: int = 0


class Answer:
    """Takes the place of the client's connection for an endpoint that is carried out under a key."""

    def __init__(self, body: Path) -> None:
        self._path = body
        self._file = -1

    async def write(self, data: bytes) -> None:
        """Add to the body. Raises `OSError`."""
        await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        if self._file < 0:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def close(self) -> None:
        """No more comes."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


SINK: web.RequestKey[Answer] = web.RequestKey("idempotency_sink", Answer)


class IdempotentCalls:
    """Carries out requests with keys, one at a time each, and keeps their answers in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, tuple[_Record, asyncio.Task[None]]] = {}
        self._tasks = TaskSet()
        self._pruned = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    async def call(
        self, request: web.Request, operation: str, run: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer a request that has a key.

        Raises `BadRequest` for a key no header should have, `Conflict` when it came before with another request, or
        when the daemon ended while it was carried out, so that nobody knows how that ended.
        """
        key = request.headers[HEADER]
        if not key.isprintable() or not 0 < len(key) <= _MAX_KEY:
            raise BadRequest(f"invalid {HEADER}: 1 to {_MAX_KEY} printable characters")
        fingerprint = hashlib.sha256(request.raw_path.encode() + b"\0" + await request.read()).hexdigest()
        name = hashlib.sha256(f"{operation}\0{key}".encode()).hexdigest()
        if name not in self._running:
            record = await asyncio.to_thread(self._load, name)
            if name not in self._running and record is None:  # nobody else began while we looked
                record = _Record(fingerprint, time.time())
                task = self._tasks.start(self._carry_out(name, record, request, run), f"idempotent {operation}")
                self._running[name] = (record, task)
        if name in self._running:
            record, task = self._running[name]
            self._check(record, fingerprint)
            await asyncio.shield(task)
        assert record is not None  # noqa: S101 -- loaded or made above
        self._check(record, fingerprint)
        if record.status == 0:
            raise Conflict("the daemon ended while this request was carried out: its outcome is not known")
        return await self._send(request, name, record)

    @staticmethod
    def _check(record: _Record, fingerprint: str) -> None:
        if record.fingerprint != fingerprint:
            raise Conflict(f"this {HEADER} was used for another request")

    def _load(self, name: str) -> _Record | None:
        try:
            record = msgspec.json.decode((self._directory / f"{name}.json").read_bytes(), type=_Record)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return record if time.time() - record.created < KEPT_SECONDS else None

    async def _carry_out(
        self, name: str, record: _Record, request: web.Request, run: Callable[[], Awaitable[web.StreamResponse]]
    ) -> None:
        try:
            # Before it begins: after a crash the record says that it may have happened.
            await asyncio.to_thread(self._begin, name, record)
            answer = request[SINK] = Answer(self._body(name))
            try:
                response = await run()
            except Exception as error:  # noqa: BLE001 -- an error is an answer too
                response = self._error_response(request, error)
            if isinstance(response, web.Response) and isinstance(response.body, bytes) and response.body:
                await answer.write(response.body)
            answer.close()
            record.status = response.status
            record.headers = {name: response.headers[name] for name in _HEADERS_KEPT if name in response.headers}
            await asyncio.to_thread(self._save, name, record)
        finally:
            del self._running[name]

    @staticmethod
    def _error_response(request: web.Request, error: Exception) -> web.Response:
        known = as_toolbox_error(error)
        if type(known) is ToolboxError:
            log.error("request failed", exc_info=error)
        body = wire.encode(envelope(known, method=request.method, path=request.path, source=DAEMON_SOURCE))
        return web.Response(body=body, status=known.status, content_type="application/json")

    def _body(self, name: str) -> Path:
        return self._directory / f"{name}.body"

    def _begin(self, name: str, record: _Record) -> None:
        if record.created - self._pruned > 1:
            self._pruned = record.created
            self._prune(record.created)
        self._body(name).unlink(missing_ok=True)
        self._save(name, record)

    def _save(self, name: str, record: _Record) -> None:
        body = self._body(name)
        record.size = body.stat().st_size if body.exists() else 0
        file = tempfile.NamedTemporaryFile(dir=self._directory, delete=False)  # noqa: SIM115 -- closed before it is renamed
        try:
            with file:
                file.write(msgspec.json.encode(record))
            Path(file.name).replace(self._directory / f"{name}.json")
        except OSError:  # a full disk
            Path(file.name).unlink()
            raise

    def _prune(self, now: float) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        entries = sorted((path.stat().st_mtime, path) for path in self._directory.glob("*.json"))
        total = sum(
            path.with_suffix(".body").stat().st_size for _, path in entries if path.with_suffix(".body").exists()
        )
        excess = len(entries) - MAX_ENTRIES + 1
        for number, (modified, path) in enumerate(entries):
            if now - modified < KEPT_SECONDS and number >= excess and total <= MAX_BYTES:
                break
            if path.stem in self._running:
                continue
            body = path.with_suffix(".body")
            total -= body.stat().st_size if body.exists() else 0
            path.unlink(missing_ok=True)
            body.unlink(missing_ok=True)

    async def _send(self, request: web.Request, name: str, record: _Record) -> web.StreamResponse:
        if record.size == 0:
            return web.Response(status=record.status)
        response = web.StreamResponse(status=record.status, headers=record.headers)
        response.content_length = record.size
        await response.prepare(request)
        async for chunk in self._chunks(name):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _chunks(self, name: str) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(os.open, self._body(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while chunk := await asyncio.to_thread(os.read, file, _CHUNK):
                yield chunk
        finally:
            os.close(file)

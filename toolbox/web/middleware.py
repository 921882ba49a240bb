"""Around every request: id, auth, errors as the contract's envelope, CORS, metrics, access log."""

import asyncio
import logging
import socket
import struct
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import HttpVersion11, hdrs, web

from toolbox.errors import MethodNotAllowed, NotFound, PayloadTooLarge, ToolboxError, from_os_error
from toolbox.telemetry.service import Telemetry
from toolbox.web import wire
from toolbox.web.auth import PUBLIC_PATHS, Auth
from toolbox.web.drain import STARTED, Drain
from toolbox.web.metrics import Metrics

log = logging.getLogger(__name__)
access = logging.getLogger("toolbox.access")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
LOGGED_PATH: web.RequestKey[str] = web.RequestKey("logged_path", str)
"""Set by a handler whose path holds a secret: what the log shows instead."""
DAEMON_SOURCE = "DAYTONA_DAEMON"
"""The `source` by which SDKs know errors of the daemon (as opposed to the sandboxes API, which sends none)."""
_MAX_REQUEST_ID = 128
_CLIENT_CLOSED = 499


def timestamp() -> str:
    """Return the time now as the contract writes it: RFC 3339, UTC, `Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def envelope(error: ToolboxError, *, method: str, path: str, source: str | None) -> dict[str, Any]:
    """Return the error body: the contract's `ErrorResponse`, with the error's own extra fields."""
    body: dict[str, Any] = {"statusCode": error.status, "message": error.message}
    if source is not None:
        body["source"] = source
    body |= {"code": error.code, "timestamp": timestamp(), "path": path, "method": method, "error": error.message}
    return body | dict(error.extra)


def as_toolbox_error(error: Exception) -> ToolboxError:
    """Return what `error` means on the wire; one that means nothing becomes a plain 500."""
    match error:
        case ToolboxError():
            return error
        case web.HTTPNotFound():
            return NotFound("no such route")
        case web.HTTPMethodNotAllowed():
            return MethodNotAllowed(f"method {error.method} is not allowed here")
        case web.HTTPRequestEntityTooLarge():
            return PayloadTooLarge(error.text or "request body too large")
        case web.HTTPException():
            known = ToolboxError(error.reason or "error", code=(error.reason or "error").upper().replace(" ", "_"))
            known.status = error.status
            return known
        case OSError():
            return from_os_error(error) or ToolboxError("internal error")
        case _:
            return ToolboxError("internal error")


class Pipeline:
    """The one middleware. `source` is the wire name of this server in error bodies (None: leave it out)."""

    __middleware_version__ = 1

    def __init__(
        self,
        auth: Auth,
        metrics: Metrics,
        *,
        source: str | None,
        telemetry: Telemetry | None = None,
        drain: Drain | None = None,
    ) -> None:
        self._auth = auth
        self._metrics = metrics
        self._source = source
        self._telemetry = telemetry
        self._drain = drain

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one request."""
        started = time.perf_counter()
        request[REQUEST_ID] = _request_id(request)
        status = _CLIENT_CLOSED
        telemetry = self._telemetry if request.path not in PUBLIC_PATHS else None
        span = telemetry.begin(request) if telemetry is not None else None
        try:
            response = await self._answer(request, handler)
            status = response.status
            return response
        finally:
            seconds = time.perf_counter() - started
            begun: web.StreamResponse | None = request.get(STARTED)
            if begun is not None and begun.status == HTTPStatus.SWITCHING_PROTOCOLS:
                status = begun.status  # a websocket's client may well be the one to leave first
            endpoint = getattr(request.match_info.handler, "endpoint", None)
            operation = endpoint.operation if endpoint else "unknown"
            self._metrics.observe(operation, status, seconds)
            if span is not None:
                span.finish(operation, status, request[REQUEST_ID])
            if access.isEnabledFor(logging.INFO) and request.path not in PUBLIC_PATHS:
                access.info("request", extra={"access": _access_fields(request, operation, status, seconds)})

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.method == hdrs.METH_OPTIONS and self._is_preflight(request):
                return _preflight_response(request)
            await self._auth.admit(request)
            return await (handler(request) if self._drain is None else self._drain.handle(request, handler))
        except Exception as error:  # noqa: BLE001 -- the boundary: every error becomes an answer
            return self._failed(request, error)

    def _failed(self, request: web.Request, error: Exception) -> web.StreamResponse:
        known = as_toolbox_error(error)
        response: web.StreamResponse | None = request.get(STARTED)
        client_left = response is not None and isinstance(error, ConnectionError)
        if type(known) is ToolboxError and not isinstance(error, ToolboxError | web.HTTPException) and not client_left:
            log.error("request failed", exc_info=error, extra={"fields": {"request": request[REQUEST_ID]}})
        if response is not None:
            # Part of the answer is out: the only truthful signal left is a connection that ends early.
            if request.transport is not None:
                if request.version < HttpVersion11 and response.content_length is None:
                    _end_with_reset(request.transport)
                request.transport.abort()
            return response
        return self.error_response(known, request)

    def error_response(self, error: ToolboxError, request: web.BaseRequest) -> web.Response:
        """Return the enveloped answer for `error`."""
        path = request.get(LOGGED_PATH, request.path)
        body = envelope(error, method=request.method, path=path, source=self._source)
        headers = {**error.headers, hdrs.CONTENT_TYPE: "application/json"}
        response = web.Response(body=wire.encode(body), status=error.status, headers=headers)
        if isinstance(error, PayloadTooLarge):
            response.force_close()
        return response

    def _is_preflight(self, request: web.Request) -> bool:
        method = _intended_method(request)
        return method != "" and self._auth.allows_page(request, method)

    async def finish_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the headers that every answer carries (an `on_response_prepare` signal)."""
        request[STARTED] = response
        headers = response.headers
        headers["X-Request-Id"] = request.get(REQUEST_ID, "")
        headers.popall(hdrs.SERVER, None)
        if isinstance(response, web.Response) and response.body is None:
            headers.popall(hdrs.CONTENT_TYPE, None)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and self._auth.allows_page(request, _intended_method(request)):
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            # It stands for all, since no page may call with cookies.
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "*"
            headers.add(hdrs.VARY, hdrs.ORIGIN)


def _end_with_reset(transport: asyncio.Transport) -> None:
    """Make the connection's end a reset: where a body lasts until the end, an ordinary one would look complete."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _intended_method(request: web.Request) -> str:
    """Return the request's method; of a preflight, the one that it asks about."""
    if request.method == hdrs.METH_OPTIONS:
        return request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD, "")
    return request.method


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    if given and len(given) <= _MAX_REQUEST_ID and given.isprintable():
        return given
    return str(uuid.uuid4())


def _preflight_response(request: web.Request) -> web.Response:
    asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, HEAD, POST, PUT, PATCH, DELETE",
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: asked,
        hdrs.ACCESS_CONTROL_MAX_AGE: "600",
    }
    return web.Response(status=204, headers=headers)


def _access_fields(request: web.Request, operation: str, status: int, seconds: float) -> dict[str, Any]:
    # The path only: query values may be secrets.
    return {
        "id": request[REQUEST_ID],
        "method": request.method,
        "path": request.get(LOGGED_PATH, request.path),
        "operation": operation,
        "status": status,
        "ms": round(seconds * 1000, 2),
    }

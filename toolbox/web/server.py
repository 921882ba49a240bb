"""The HTTP server around an aiohttp application: limits, path prefixes, errors below the application."""

import asyncio
import contextlib
import errno
import math
import os
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from yarl import URL

from toolbox.errors import BadRequest, ToolboxError
from toolbox.web.endpoint import MAX_JSON_BODY, Endpoint, Services, bind
from toolbox.web.middleware import Pipeline

MAX_HEADER = 64 * 1024
"""Longest request line and longest header field, in bytes (PTY environments ride in a header)."""
MAX_HEADER_FIELDS = 256
DRAIN_SECONDS = 1.0
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""Seconds of silence before a peer is asked, between two questions, and how many may stay unanswered."""
_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b'Content-Length: 68\r\n\r\n{"statusCode":503,"code":"SERVICE_UNAVAILABLE","message":"too busy"}'
)
"""The answer to a connection too many, whatever it would have asked."""
_OWN_TAIL = ("/proxy/", "/computeruse/vnc/", "/toolbox/", "/preview/", "/s3/")
"""Routes for which a trailing slash means something."""


def build_application(endpoints: Sequence[Endpoint], services: Services, pipeline: Pipeline) -> web.Application:
    """Return the application that serves `endpoints`. Raises `LookupError` for a service nobody provides."""
    app = web.Application(middlewares=[pipeline], client_max_size=MAX_JSON_BODY)
    app.on_response_prepare.append(pipeline.finish_headers)
    app.add_routes(bind(endpoints, services))
    return app


class Server:
    """Listens, serves one application, and stops in bounded time.

    `prefixes` are path prefixes of ours (`/{sandboxId}`, `/toolbox/{sandboxId}`) that are taken off before routing;
    `mount` says which path the whole of a host stands for (empty: none), by its Host header.
    """

    def __init__(
        self,
        app: web.Application,
        pipeline: Pipeline,
        *,
        prefixes: Sequence[str] = (),
        mount: Callable[[str], str] | None = None,
    ) -> None:
        self._runner = _Runner(app, pipeline, tuple(prefixes), mount)
        self._socket: str | None = None

    async def listen_tcp(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen and return the port (the one chosen, if `port` is 0). Raises `OSError`."""
        site = web.TCPSite(self._runner, host, port, backlog=1024, ssl_context=tls)
        await site.start()
        return int(self._runner.addresses[-1][1])

    async def listen_unix(self, path: str, mode: int | None = None) -> None:
        """Listen on a unix socket; one that nobody listens on any more is replaced. Raises `OSError`.

        `mode`: its permissions, where those that the umask leaves are not meant.
        """
        if await _is_served(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
        await web.UnixSite(self._runner, path, backlog=1024).start()
        self._socket = path
        if mode is not None:
            await asyncio.to_thread(os.chmod, path, mode)

    async def start(self) -> None:
        """Enter the application's contexts; listening comes after."""
        await self._runner.setup()

    async def stop(self) -> None:
        """Stop listening, close websockets, let running requests finish for `DRAIN_SECONDS`, leave all contexts."""
        if self._socket is not None:
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(os.unlink, self._socket)
        await self._runner.cleanup()


async def _is_served(path: str) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


class _Runner(web.AppRunner):
    def __init__(
        self,
        app: web.Application,
        pipeline: Pipeline,
        prefixes: tuple[str, ...],
        mount: Callable[[str], str] | None,
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            handler_cancellation=True,  # a client that goes away ends its request
            shutdown_timeout=DRAIN_SECONDS,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADER_FIELDS,
            auto_decompress=False,
        )
        self._pipeline = pipeline
        self._prefixes = prefixes
        self._mount = mount

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return _EnvelopeServer(plain, self._pipeline, self._prefixes, self._mount, self._kwargs)


class _EnvelopeServer(web.Server):
    """aiohttp's server with our protocol class and a request factory that strips path prefixes."""

    def __init__(
        self,
        plain: web.Server,
        pipeline: Pipeline,
        prefixes: tuple[str, ...],
        mount: Callable[[str], str] | None,
        options: dict[str, Any],
    ) -> None:
        super().__init__(plain.request_handler, request_factory=self._strip_prefix, **options)
        self.pipeline = pipeline
        self.open_connections = 0
        # The rest of the descriptors is for what connections ask for: were all taken, nothing could be answered.
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.most_connections = math.inf if descriptors == resource.RLIM_INFINITY else descriptors // 2
        self._plain_factory = plain.request_factory
        self._prefixes = prefixes
        self._mount = mount
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _EnvelopeProtocol(self, **self._options)

    def _strip_prefix(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        path = message.path
        mounted = self._mount(message.headers.get(hdrs.HOST, "")) if self._mount is not None else ""
        stripped = mounted + _origin_form(path) if mounted else self._route_path(path)
        if stripped != path:
            path, _, query = stripped.partition("?")
            message = message._replace(path=stripped, url=URL.build(path=path, query_string=query, encoded=True))
        return self._plain_factory(message, payload, protocol, writer, task)

    def _route_path(self, target: str) -> str:
        target = _origin_form(target)
        path, mark, query = target.partition("?")
        for prefix in self._prefixes:
            if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
                path = path[len(prefix) :] or "/"
                break
        if not path.startswith(_OWN_TAIL):
            # A base URL configured with a slash at its end makes doubled ones.
            path = "/" + "/".join(filter(None, path.split("/")))
        return path + mark + query


def _origin_form(target: str) -> str:
    if "://" in target and not target.startswith("/"):  # the absolute form: http://host/path
        return "/" + target.partition("://")[2].partition("/")[2]
    return target


class _EnvelopeProtocol(web.RequestHandler):
    """Answers what the application never sees (a malformed head) with the envelope too."""

    __slots__ = ("_pipeline", "_server")

    def __init__(self, manager: _EnvelopeServer, **options: Any) -> None:
        options.pop("handler_cancellation", None)
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self._pipeline = manager.pipeline
        self._server = manager

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.open_connections += 1
        if self._server.open_connections > self._server.most_connections:
            transport.write(_NO_ROOM)  # type: ignore[attr-defined]
            transport.close()
            return
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            # The system's own default finds out after two hours that a silent peer has vanished.
            for option, value in KEEP_ALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.open_connections -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # aiohttp queues the malformed rest of a body as if it were the next request: who reads the body would wait.
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            request = self._current_request
            if request is not None and not request.content.is_eof():
                # Soon, not now: a reader just woken by the chunk before would go back to waiting without a look.
                error = web.RequestPayloadError("malformed request body")
                self._loop.call_soon(request.content.set_exception, error)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 -- aiohttp's signature
    ) -> web.StreamResponse:
        error = BadRequest("malformed HTTP request") if status == 400 else ToolboxError("internal error")  # noqa: PLR2004
        if status not in (400, 500):
            error.status = status
        if status >= 500:  # noqa: PLR2004
            self.log_exception("error below the application", exc_info=exc)
        response = self._pipeline.error_response(error, request)
        response.force_close()
        return response

"""Requests passed on to another HTTP server: streamed both ways, nothing buffered, nothing kept."""

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import unquote_plus

import aiohttp
from aiohttp import hdrs, web
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from toolbox.errors import BadRequest, ToolboxError
from toolbox.web.auth import QUERY_KEY
from toolbox.web.server import MAX_HEADER, MAX_HEADER_FIELDS
from toolbox.web.tunnel import Tunnels

TRACE_HEADERS: web.RequestKey[Mapping[str, str]] = web.RequestKey("trace_headers", Mapping)
"""Headers by which the next server continues the trace of a request; set where traces are exported."""
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = (hdrs.CONTENT_TYPE, hdrs.SERVER, "X-Request-Id")
"""Response headers that the framework or the pipeline sets on every answer, relayed ones included."""
_RELAYED: web.ResponseKey[CIMultiDict[str]] = web.ResponseKey("relayed", CIMultiDict)
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SURROGATE = re.compile("[\udc80-\udcff]")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class BadGateway(ToolboxError):
    """The other server broke off, or answered what is not HTTP."""

    status = 502
    code = "BAD_GATEWAY"


class Unreachable(BadGateway):
    """Nobody listens there."""


class _Answer(aiohttp.ClientResponse):
    """An answer that knows the connection it came over even when the connection is gone."""

    _came_over: ResponseHandler | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self._came_over = connection.protocol
        return await super().start(connection)

    @property
    def is_cut(self) -> bool:
        """Whether a body that lasts until the connection ends was ended by a broken connection."""
        bounded = hdrs.CONTENT_LENGTH in self.headers or _is_chunked(self.headers) or self.content is EMPTY_PAYLOAD
        return not bounded and self._came_over is not None and isinstance(self._came_over.exception(), OSError)


def open_session(connector: aiohttp.BaseConnector, *, connect_seconds: float) -> aiohttp.ClientSession:
    """Return a pool of connections that adds nothing of its own to what passes."""
    return aiohttp.ClientSession(
        connector=connector,
        response_class=_Answer,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
        max_line_size=MAX_HEADER,
        max_field_size=MAX_HEADER,
        max_headers=MAX_HEADER_FIELDS,
    )


def target_of(request: web.BaseRequest) -> str:
    """Return path and query as they were asked for, byte for byte, without the credential that a query may hold."""
    target = request.raw_path
    if not target.isascii():
        raw = target.encode("utf-8", "surrogateescape")
        target = _NOT_ASCII.sub(lambda found: f"%{found[0][0]:02X}".encode(), raw).decode("ascii")
    path, mark, query = target.partition("?")
    if QUERY_KEY in query:
        query = "&".join(pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) != QUERY_KEY)
        mark = "?" if query else ""
    return path + mark + query


def url_of(origin: URL, target: str) -> URL:
    """Return the URL that asks a server for exactly `target`."""
    # All of it as the path: taken apart and put together again it might not be the same (`/a?`, `/a#b`).
    return origin.with_path(target, encoded=True)


def request_headers(request: web.BaseRequest, *, without: Collection[str] = ()) -> CIMultiDict[str]:
    """Return the headers to pass on: all but those of this hop and those named (in lower case).

    Raises `BadRequest` for a value that cannot be passed on.
    """
    try:
        # `Expect` was already answered by our own server: the body is on its way.
        headers = _end_to_end(request.headers, {"expect", *without})
    except ValueError as error:
        raise BadRequest(str(error)) from None
    for name, value in request.get(TRACE_HEADERS, {}).items():
        headers[name] = value
    upgrade = _wanted_upgrade(request)
    if upgrade is not None:
        headers[hdrs.UPGRADE] = upgrade
        headers[hdrs.CONNECTION] = "Upgrade"
    return headers


def _wanted_upgrade(request: web.BaseRequest) -> str | None:
    return request.headers.get(hdrs.UPGRADE) if "upgrade" in _named_in_connection(request.headers) else None


def _end_to_end(headers: CIMultiDictProxy[str], without: Collection[str] = ()) -> CIMultiDict[str]:
    named = _named_in_connection(headers)
    kept: CIMultiDict[str] = CIMultiDict()
    spelled: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower not in _HOP_BY_HOP and lower not in named and lower not in without:
            # Of a header repeated in another spelling, aiohttp's client would send the last only.
            kept.add(spelled.setdefault(lower, name), value if value.isprintable() else _sendable(name, value))
    return kept


def _sendable(name: str, value: str) -> str:
    """Return a value with strange bytes as it can be written. Raises `ValueError` for one that would split headers."""
    if _UNSAFE.search(value):
        raise ValueError(f"header {name!r} has a control character")
    if _SURROGATE.search(value):
        # Bytes that are not UTF-8, as older servers send them: aiohttp's writer would drop them.
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def _named_in_connection(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    values = headers.getall(hdrs.CONNECTION, ())
    return frozenset(name.strip().lower() for value in values for name in value.split(","))


def _is_chunked(headers: CIMultiDictProxy[str]) -> bool:
    return "chunked" in headers.get(hdrs.TRANSFER_ENCODING, "").lower()


class Relay:
    """Passes requests on and their answers back."""

    def __init__(self) -> None:
        self.tunnels = Tunnels()

    async def forward(
        self,
        request: web.Request,
        session: aiohttp.ClientSession,
        url: URL,
        headers: CIMultiDict[str],
        *,
        name: str,
        prefix: str = "",
    ) -> web.StreamResponse:
        """Ask `url` what `request` asks and answer with what it says; local redirects get `prefix`.

        `name` is what error messages call the other server. Raises `Unreachable`, `BadGateway`, `BadRequest` (a
        malformed body).
        """
        try:
            async with session.request(
                request.method,
                url,
                headers=headers,
                data=request.content.iter_any() if request.body_exists else None,
                allow_redirects=False,
            ) as answer:
                kept = _answer_headers(answer, name, prefix)
                if answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
                    if _wanted_upgrade(request) is None:
                        raise BadGateway(f"{name} changed the protocol unasked")
                    return await self.tunnels.carry(request, answer, kept, name=name)
                return await _relay(request, answer, kept)
        except aiohttp.ClientConnectorError:
            raise Unreachable(f"{name} does not answer") from None
        except aiohttp.ClientResponseError:
            raise BadGateway(f"{name} does not speak HTTP/1") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(request.content.exception(), web.RequestPayloadError):
                raise BadRequest("malformed request body") from None
            raise BadGateway(f"{name} broke off: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return what happened in words that name no URL (its query may hold secrets)."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "the connection ended early"


def _answer_headers(answer: aiohttp.ClientResponse, name: str, prefix: str) -> CIMultiDict[str]:
    try:
        # A length beside chunks is a lie that a client might believe (response smuggling).
        headers = _end_to_end(answer.headers, (hdrs.CONTENT_LENGTH.lower(),) if _is_chunked(answer.headers) else ())
    except ValueError as error:
        raise BadGateway(f"{name} answered what cannot be passed on: {error}") from None
    location = headers.get(hdrs.LOCATION, "")
    if prefix and location.startswith("/") and not location.startswith(("//", f"{prefix}/")):
        headers[hdrs.LOCATION] = prefix + location
    return headers


async def _relay(request: web.Request, answer: aiohttp.ClientResponse, headers: CIMultiDict[str]) -> web.StreamResponse:
    content = answer.content
    response: web.StreamResponse
    if content.is_eof() and content.exception() is None and answer.method != hdrs.METH_HEAD and not _is_cut(answer):
        # All of it is here (most calls): head and body leave in one write.
        response = web.Response(status=answer.status, reason=answer.reason, headers=headers, body=content.read_nowait())
        response[_RELAYED] = headers
        return response
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    response[_RELAYED] = headers
    await response.prepare(request)
    with _noticing_loss(answer):
        async for chunk in content.iter_any():
            await response.write(chunk)
    if _is_cut(answer):
        raise aiohttp.ClientPayloadError("the connection was reset")
    await response.write_eof()
    return response


@contextmanager
def _noticing_loss(answer: aiohttp.ClientResponse) -> Iterator[None]:
    """Fail the body when its connection is lost: after a malformed chunk aiohttp's reader would wait for ever."""
    connection, content = answer.connection, answer.content
    closed = connection.protocol.closed if connection is not None and connection.protocol is not None else None
    if closed is None:
        yield
        return

    def lost(_: "asyncio.Future[None]") -> None:
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("malformed body"))

    closed.add_done_callback(lost)
    try:
        yield
    finally:
        closed.remove_done_callback(lost)
        # The connection may live on in the pool; its end is then of no interest, but must be looked at.
        closed.remove_done_callback(_look_at)
        closed.add_done_callback(_look_at)


def _look_at(closed: "asyncio.Future[None]") -> None:
    if not closed.cancelled():
        closed.exception()


def _is_cut(answer: aiohttp.ClientResponse) -> bool:
    return isinstance(answer, _Answer) and answer.is_cut


async def keep_relayed_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Let a relayed answer have its own headers where ours were set (an `on_response_prepare` signal, the last)."""
    relayed = response.get(_RELAYED)
    if relayed is None:
        return
    for name in _OURS:
        if name in relayed or name == hdrs.CONTENT_TYPE:
            response.headers.popall(name, None)
            for value in relayed.getall(name, ()):
                response.headers.add(name, value)

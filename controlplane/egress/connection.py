"""One client of the egress proxy: its requests, one after another, plain or inside TLS that ends here."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

import h11

from controlplane.egress.outbound import Refusal, Target
from controlplane.egress.peer import Headers, Peer, end_to_end, splice, wanted_upgrade
from controlplane.egress.substitution import Substitution
from toolbox.errors import ToolboxError
from toolbox.lifetime import TaskSet

_IDLE_SECONDS = 90.0
"""How long a client may say nothing where a request is expected."""
_LINGER_SECONDS = 2.0
_FIRST_SECONDS = 5.0
"""How long a client may say nothing after CONNECT before it is left to hear from the server first."""
_TLS_HANDSHAKE = b"\x16"
_REQUEST = re.compile(rb"[A-Z]+(?: |\Z)")


class Rules(Protocol):
    """What decides about requests."""

    def authenticate(self, credentials: bytes | None) -> str:
        """Return the id of the sandbox that calls. Raises `Refusal`."""

    async def intercepts(self, sandbox_id: str, host: str) -> bool:
        """Tell whether a value may be sent to `host`. Raises `Refusal`."""

    async def substitution(self, sandbox_id: str, host: str) -> Substitution:
        """Return the values that may be sent to `host`. Raises `Refusal`."""

    async def certificate(self, host: str) -> ssl.SSLContext:
        """Return the TLS settings of a server that stands for `host`. Raises `OSError`."""

    async def connect(self, target: Target, *, tunnel: bool = False) -> Peer:
        """Return a connection to a server. Raises `Refusal`."""


class Connection:
    """A client's connection."""

    def __init__(self, client: Peer, rules: Rules) -> None:
        self._client = client
        self._rules = rules
        self._upstream: tuple[Target, Peer] | None = None
        """The server of the last request, kept for the next one."""
        self._reused = False

    async def serve(self) -> None:
        """Answer until one side ends it."""
        try:
            await self._answer_all(self._answer)
        except asyncio.CancelledError:
            self._client.abort()
            raise
        except (OSError, h11.ProtocolError):
            self._client.abort()
        finally:
            self._drop_upstream()
            await self._client.close()

    async def _answer_all(self, answer: Callable[[h11.Request], Awaitable[bool]]) -> None:
        while (request := await self._next_request()) is not None:
            try:
                if not await answer(request):
                    return
            except Refusal as refusal:
                await self._refuse(refusal)
                return
            except ToolboxError as error:
                await self._refuse(Refusal(HTTPStatus(error.status), error.message))
                return
            if self._client.http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                return
            self._client.http.start_next_cycle()

    async def _next_request(self) -> h11.Request | None:
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                event = await self._client.receive()
        except TimeoutError:
            return None
        except h11.RemoteProtocolError:
            await self._refuse(Refusal(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1.1"))
            return None
        return event if isinstance(event, h11.Request) else None

    async def _answer(self, request: h11.Request) -> bool:
        """Answer a request to the proxy; tell whether another may follow."""
        credentials = next((value for name, value in request.headers if name == b"proxy-authorization"), None)
        sandbox_id = self._rules.authenticate(credentials)
        asked = request.target.decode("ascii")
        if request.method == b"CONNECT":
            await self._connect(sandbox_id, Target.parse(asked, default_port=None, secure=True))
            return False
        scheme, _, rest = asked.partition("://")
        if scheme.lower() != "http":
            raise Refusal(HTTPStatus.BAD_REQUEST, "this is a proxy: http:// URLs, and CONNECT for all others")
        end = next((at for at, letter in enumerate(rest) if letter in "/?"), len(rest))
        target = Target.parse(rest[:end].rpartition("@")[2], default_port=80, secure=False)
        path = rest[end:] if rest[end:].startswith("/") else f"/{rest[end:]}"
        headers = [item for item in end_to_end(request) if item[0].lower() != b"host"]
        headers.insert(0, (b"Host", target.authority.encode()))
        values = await self._rules.substitution(sandbox_id, target.host)
        return await self._forward(request, path.encode(), headers, target, values)

    async def _connect(self, sandbox_id: str, target: Target) -> None:
        plain = Target(target.host, target.port, secure=False)
        if not await self._rules.intercepts(sandbox_id, target.host):
            server = await self._rules.connect(plain, tunnel=True)
            await self._accept()
            await self._tunnel(server)
            return
        context = await self._rules.certificate(target.host)
        self._client.pause()
        await self._accept()
        first = await self._client.peek(_FIRST_SECONDS)
        if first.startswith(_TLS_HANDSHAKE):
            self._client = await self._client.start_tls(context)
        else:
            self._client = self._client.again()
            if not _REQUEST.match(first):
                with suppress(Refusal):  # what is no HTTP gets no answer in HTTP
                    await self._tunnel(await self._rules.connect(plain, tunnel=True))
                return
            target = plain
        await self._answer_all(lambda request: self._answer_inside(sandbox_id, target, request))

    async def _tunnel(self, server: Peer) -> None:
        try:
            await splice(self._client, server)
        finally:
            server.abort()

    async def _accept(self) -> None:
        """Say that bytes can follow."""
        await self._client.receive()  # the end of the request
        await self._client.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))

    async def _answer_inside(self, sandbox_id: str, target: Target, request: h11.Request) -> bool:
        """Answer a request to `target` that came inside of a CONNECT."""
        headers = end_to_end(request)
        host = next((value.decode("latin-1") for name, value in headers if name.lower() == b"host"), None)
        if host is None:
            headers.insert(0, (b"Host", target.authority.encode()))
        values = Substitution({})
        # Behind one address there may be many: a server that is asked for another name gets no value.
        if host is None or _names(host, target):
            values = await self._rules.substitution(sandbox_id, target.host)
        return await self._forward(request, request.target, headers, target, values)

    async def _forward(
        self, request: h11.Request, path: bytes, headers: Headers, target: Target, values: Substitution
    ) -> bool:
        body = None
        if values.wants_body(headers):
            body = values.body(await self._read_body(), headers)
            headers = [item for item in headers if item[0].lower() not in (b"content-length", b"expect")]
            headers.append((b"Content-Length", str(len(body)).encode()))
        headers = values.headers(headers) + wanted_upgrade(request)
        server = await self._server(target)
        try:
            path, headers = server.base + values.target(path), headers + server.login
            return await self._exchange(server, request.method, path, headers, body)
        finally:
            if server.http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                server.http.start_next_cycle()
            else:
                self._drop_upstream()

    async def _exchange(self, server: Peer, method: bytes, path: bytes, headers: Headers, body: bytes | None) -> bool:
        try:
            await server.send(h11.Request(method=method, target=path, headers=headers))
        except h11.LocalProtocolError:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the request cannot be passed on") from None
        except OSError:
            if self._reused:
                raise
            raise Refusal(HTTPStatus.BAD_GATEWAY, "the server broke off") from None
        async with TaskSet() as tasks:
            tasks.start(self._send_body(server, body), "request body")
            switched = await self._send_answer(server)
        if switched:
            await splice(self._client, server)
        return not switched

    async def _send_body(self, server: Peer, body: bytes | None) -> None:
        """Pass on the body, then watch for the client to go away: that ends the request."""
        try:
            async for event in self._body_events() if body is None else _events(body):
                try:
                    await server.send(event)
                except (OSError, h11.LocalProtocolError):
                    break  # the server has enough; its answer is on the way, or the end of it
            await self._client.wait_gone()
        except (OSError, h11.RemoteProtocolError):
            pass  # half a request must not look like a whole one
        server.abort()

    async def _body_events(self) -> AsyncIterator[h11.Event]:
        while isinstance(event := await self._client.receive(), h11.Data | h11.EndOfMessage):
            yield event
            if isinstance(event, h11.EndOfMessage):
                return

    async def _send_answer(self, server: Peer) -> bool:
        """Pass on the answer; tell whether it changes the protocol."""
        begun = False
        try:
            while True:
                event = await server.receive()
                match event:
                    case h11.InformationalResponse():
                        await self._client.send(_passed_on(event))
                        if event.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                            return True
                    case h11.Response():
                        begun = True
                        await self._client.send(_passed_on(event))
                    case h11.Data():
                        await self._client.send(h11.Data(data=event.data))
                    case h11.EndOfMessage():
                        await self._client.send(event)
                        return False
                    case _:
                        raise h11.RemoteProtocolError("no answer")  # noqa: TRY301 -- as any other end
        except (OSError, h11.RemoteProtocolError):
            # A kept connection may end just as it is used again. Clients know that from servers, and what to do then.
            if begun or self._reused:
                raise
            raise Refusal(HTTPStatus.BAD_GATEWAY, "the server broke off") from None

    async def _read_body(self) -> bytes:
        if self._client.http.they_are_waiting_for_100_continue:
            await self._client.send(h11.InformationalResponse(status_code=100, headers=[]))
        body = bytearray()
        while isinstance(event := await self._client.receive(), h11.Data):
            body += event.data
        return bytes(body)

    async def _server(self, target: Target) -> Peer:
        kept = self._upstream
        self._reused = kept is not None and kept[0] == target and not kept[1].reader.at_eof()
        if kept is not None and self._reused:
            return kept[1]
        self._drop_upstream()
        server = await self._rules.connect(target)
        self._upstream = (target, server)
        return server

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream[1].abort()
            self._upstream = None

    async def _refuse(self, refusal: Refusal) -> None:
        if self._client.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._client.abort()
            return
        text = f"egress proxy: {refusal.text}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(text))),
            ("Connection", "close"),
            *refusal.headers,
        ]
        reason = refusal.status.phrase.encode()
        await self._client.send(h11.Response(status_code=refusal.status, headers=headers, reason=reason))
        with suppress(h11.LocalProtocolError):  # an answer to HEAD ends here
            await self._client.send(h11.Data(data=text))
            await self._client.send(h11.EndOfMessage())
        await self._linger()

    async def _linger(self) -> None:
        """Take in what is still coming for a moment: a connection closed before loses the answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                if self._client.writer.can_write_eof():
                    self._client.writer.write_eof()
                while await self._client.reader.read(65536):
                    pass


async def _events(body: bytes) -> AsyncIterator[h11.Event]:
    if body:
        yield h11.Data(data=body)
    yield h11.EndOfMessage()


def _passed_on(event: h11.Response | h11.InformationalResponse) -> h11.Response | h11.InformationalResponse:
    headers = end_to_end(event)
    if event.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        headers += wanted_upgrade(event)
    return type(event)(status_code=event.status_code, headers=headers, reason=event.reason)


def _names(host: str, target: Target) -> bool:
    try:
        named = Target.parse(host, default_port=target.port, secure=target.secure)
    except Refusal:
        return False
    return named.host == target.host

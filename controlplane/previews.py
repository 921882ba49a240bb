"""Previews: the programs that listen in sandboxes, seen from outside through the control plane's own port."""

import re
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from controlplane.doors import Doors
from controlplane.grants import Grants, Kind
from controlplane.keys import SandboxKeys
from controlplane.links import PREVIEW_PREFIX, Links
from controlplane.models import Record
from controlplane.sandboxes import Sandboxes
from controlplane.upstreams import Upstream
from toolbox.errors import NotFound, Unauthorized, Unavailable
from toolbox.web.auth import PREVIEW_HEADER, QUERY_KEY
from toolbox.web.middleware import LOGGED_PATH, REQUEST_ID
from toolbox.web.relay import Relay, Unreachable, request_headers, target_of

_COOKIE = "daytona-sandbox-auth-"
_OWN_WORDS = 4
_REPLACED = ("cookie", "x-request-id", PREVIEW_HEADER)


class Guest(NamedTuple):
    """Somebody who may see a port of a sandbox, and the secret they showed (empty: a public sandbox)."""

    record: Record
    port: int
    prefix: str
    """The path that the preview is under; empty where it has a host of its own."""
    secret: str = ""
    signed: bool = False
    by_query: bool = False


_GUEST: web.RequestKey[Guest] = web.RequestKey("guest", Guest)


class Previews:
    """Carries requests to ports of running sandboxes. They are no activity: a page left open may poll for ever."""

    def __init__(self, sandboxes: Sandboxes, grants: Grants, keys: SandboxKeys, links: Links, doors: Doors) -> None:
        self._sandboxes = sandboxes
        self._grants = grants
        self._keys = keys
        self._links = links
        self._doors = doors
        self._relay = Relay()

    async def close_tunnels(self, _: web.Application) -> None:
        """End every websocket with a close frame that says why (an `on_shutdown` signal)."""
        self._relay.tunnels.close_all()

    async def forward(self, port: int, name: str, request: web.Request) -> web.StreamResponse:
        """Answer `request` with what the program on `port` of a sandbox says; `name` is its id or a signed token.

        Raises `NotFound`, `Unauthorized`, `Conflict` (not running), `Unavailable` (the daemon does not answer),
        `BadGateway` (breaks off).
        """
        request[LOGGED_PATH] = f"{PREVIEW_PREFIX}{port}"  # the rest may begin with a signed token
        path, mark, query = target_of(request).partition("?")
        words = path.split("/", _OWN_WORDS)
        has_host = self._links.place(request.host) is not None
        guest = await self._admit(port, name, request, "" if has_host else "/".join(words[:_OWN_WORDS]))
        if len(words) <= _OWN_WORDS:  # the links of a page are relative to what comes after the last slash
            return _to_directory(request)
        upstream = await self._sandboxes.upstream(guest.record.id)
        request[_GUEST] = guest
        try:
            return await self._relay.forward(
                request,
                upstream.session,
                URL(f"{upstream.origin}/proxy/{port}/{words[_OWN_WORDS]}{mark}{query}", encoded=True),
                self._headers(request, guest, upstream),
                name=f"sandbox {guest.record.id}",
                prefix=guest.prefix,
            )
        except Unreachable as error:
            raise Unavailable(error.message) from None

    async def _admit(self, port: int, name: str, request: web.Request, prefix: str) -> Guest:
        """Return who comes, or raise `NotFound` or `Unauthorized`."""
        grant = await self._grants.find(Kind.PREVIEW, name)
        if grant is not None and grant.port == port:
            return Guest(await self._sandboxes.seen(grant.sandbox_id), port, prefix, secret=name, signed=True)
        try:
            record = await self._sandboxes.seen(name)
        except NotFound:
            # The name may be a token that has expired: it is not repeated.
            raise NotFound("there is no such sandbox, or the link has expired") from None
        guest = Guest(record, port, prefix)
        caller = await self._doors.caller_by(bearer := _bearer(request))
        if caller is not None and (caller.operator or caller.organization_id == record.organization_id):
            return guest._replace(secret=bearer)
        for token in (request.headers.get(PREVIEW_HEADER, ""), _cookie(request, guest)):
            if token and self._keys.opens_preview(record.id, port, token):
                return guest._replace(secret=token)
        token = request.query.get(QUERY_KEY, "")
        if token and self._keys.opens_preview(record.id, port, token):
            return guest._replace(secret=token, by_query=True)
        if record.public:
            return guest
        raise Unauthorized("a valid preview token is required")

    def _headers(self, request: web.Request, guest: Guest, upstream: Upstream) -> CIMultiDict[str]:
        headers = request_headers(request, without=_REPLACED)
        bearer = _bearer(request)
        if bearer and (bearer == guest.secret or self._doors.accepts(bearer)):
            headers.popall(hdrs.AUTHORIZATION, None)
        cookies = "; ".join(filter(None, map(_without_ours, request.headers.getall(hdrs.COOKIE, ()))))
        if cookies:
            headers[hdrs.COOKIE] = cookies
        headers.setdefault("X-Forwarded-Host", request.host)
        headers.setdefault("X-Forwarded-Proto", request.scheme)
        if request.remote:
            headers["X-Forwarded-For"] = ", ".join([*headers.getall("X-Forwarded-For", ()), request.remote])
        if guest.secret:
            # A browser repeats the page's address in Host, Origin and Referer.
            secret, shown = re.compile(re.escape(guest.secret), re.IGNORECASE), guest.record.id if guest.signed else ""
            headers = CIMultiDict((name, secret.sub(shown, value)) for name, value in headers.items())
        headers[PREVIEW_HEADER] = upstream.token
        headers["X-Request-Id"] = request[REQUEST_ID]
        return headers


async def finish_preview(request: web.Request, response: web.StreamResponse) -> None:
    """Set what a preview's answer needs beside the program's own headers (an `on_response_prepare` signal)."""
    guest = request.get(_GUEST)
    if guest is None:
        return
    headers = response.headers
    own, location = f"http://localhost:{guest.port}", headers.get(hdrs.LOCATION, "")
    if location == own or location.startswith(f"{own}/"):  # the address the program knows itself by
        headers[hdrs.LOCATION] = guest.prefix + (location.removeprefix(own) or "/")
    if guest.signed:
        headers.setdefault("Referrer-Policy", "same-origin")  # the token is in the page's own address
    if guest.by_query and not guest.prefix and response.status != HTTPStatus.SWITCHING_PROTOCOLS:
        # A page's own requests do not repeat the query. Paths share a host with other previews: no cookie there.
        secure = "; Secure" if request.scheme == "https" else ""
        cookie = f"{_COOKIE}{guest.record.id}={guest.secret}; Path=/; HttpOnly; SameSite=Lax{secure}"
        headers.add(hdrs.SET_COOKIE, cookie)


def _cookie(request: web.Request, guest: Guest) -> str:
    """Return the token in a browser's cookie, unless a page of another host makes the browser send it."""
    origin = request.headers.get(hdrs.ORIGIN)
    foreign = origin is not None and origin.partition("://")[2].lower() != request.host.lower()
    return "" if foreign or guest.prefix else request.cookies.get(_COOKIE + guest.record.id, "")


def _without_ours(cookies: str) -> str:
    return "; ".join(each for each in map(str.strip, cookies.split(";")) if each and not each.startswith(_COOKIE))


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _to_directory(request: web.Request) -> web.Response:
    path, mark, query = request.raw_path.partition("?")
    return web.Response(status=307, headers={hdrs.LOCATION: f"{path}/{mark}{query}"})

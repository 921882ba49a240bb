"""Who may call: a bearer token, or, bound to loopback without one, only pages and clients of this machine."""

import hmac
import secrets
from collections.abc import Iterator
from enum import Enum
from urllib.parse import urlsplit

from aiohttp import web

from toolbox.config import is_local_host
from toolbox.errors import BadRequest, Conflict, Forbidden, Unauthorized
from toolbox.web.signing import Signatures

QUERY_KEY = "DAYTONA_SANDBOX_AUTH_KEY"
"""What a browser's websocket carries, since it cannot set headers (TypeScript SDK)."""
PREVIEW_HEADER = "x-daytona-preview-token"
PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
INIT_PATH = "/init"


class Mode(Enum):
    """How callers are told apart."""

    TOKEN = "token"  # noqa: S105 -- a mode's name
    LOCAL = "local"
    """No token, loopback or unix socket only: requests that come from a foreign web page are refused."""
    INIT = "init"
    """Nothing works until `/init` brings the token."""
    NONE = "none"
    """Somebody in front of us authenticates."""


class Auth:
    """Checks the credential of every request."""

    def __init__(
        self,
        mode: Mode,
        token: str | None = None,
        *,
        allow_origins: frozenset[str] = frozenset(),
        signatures: Signatures | None = None,
    ) -> None:
        self.mode = mode
        self.by_init = mode is Mode.INIT
        """Whether the token comes, or came, by `/init`."""
        self._signatures = signatures
        self.allow_origins = allow_origins
        self._token = token.encode() if token else None

    @staticmethod
    def generate_token() -> str:
        """Return a new random token (256 bit, URL-safe)."""
        return secrets.token_urlsafe(32)

    async def admit(self, request: web.Request) -> None:
        """Let the request pass, or raise what `check` does; a server that has to look up who calls does it here."""
        self.check(request)

    def check(self, request: web.Request) -> None:
        """Let the request pass, or raise `Unauthorized` or `Forbidden`."""
        if self.mode is Mode.NONE or request.path in PUBLIC_PATHS:
            return
        if self.by_init and request.path == INIT_PATH:
            return  # who repeats it, the answer being lost, shows the token in the body: `adopt` looks at that
        if self.mode is Mode.INIT:
            raise Unauthorized("not yet in use: /init brings the token")
        if self._signatures is not None and self._signatures.concern(request, request.method):
            # A signed link is a credential of its own; who brings the token too needs none.
            if not any(map(self.accepts, credentials(request))):
                self._signatures.verify(request, request.method)
            return
        if self.mode is Mode.LOCAL:
            _refuse_foreign(request)
            return
        if not any(map(self.accepts, credentials(request))):
            raise Unauthorized("a valid token is required")

    def accepts(self, token: str | None) -> bool:
        """Tell whether `token` is the daemon's, in constant time."""
        expected = self._token
        return (
            hmac.compare_digest((token or "").encode(errors="surrogateescape"), expected or b"-")
            and expected is not None
        )

    def adopt(self, token: str | None) -> None:
        """Require `token` from now on, if none is required yet; the first caller wins.

        The same token again is fine. Raises `Conflict` for another one, and where all that a caller has to show is
        the token, `BadRequest` for none.
        """
        if not token:
            if self.by_init:
                raise BadRequest("a token is required")
        elif self.mode in (Mode.LOCAL, Mode.INIT):
            self._token = token.encode()
            self.mode = Mode.TOKEN
        elif self.mode is Mode.TOKEN and not self.accepts(token):
            raise Conflict("a token is already set")

    def allows_origin(self, origin: str | None) -> bool:
        """Tell whether pages of `origin` may call with a token (CORS)."""
        return origin is not None and self.mode is Mode.TOKEN and bool({origin, "*"} & self.allow_origins)

    def allows_page(self, request: web.BaseRequest, method: str) -> bool:
        """Tell whether the page that makes a request, or asks whether it may, can have the answer (CORS).

        A valid signed link works from every page.
        """
        origin = request.headers.get("Origin")
        if origin is None or self.allows_origin(origin):
            return origin is not None
        if self._signatures is None or not self._signatures.concern(request, method):
            return False
        try:
            self._signatures.verify(request, method)
        except Unauthorized:
            return False
        return True


def credentials(request: web.Request) -> Iterator[str]:
    """Yield the tokens a request brings: bearer, preview header, the query key of a browser's GET.

    One may be for the program behind `/proxy`, so the others count too.
    """
    authorization = request.headers.get("Authorization", "")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip()
    yield request.headers.get(PREVIEW_HEADER, "")
    if request.method == "GET":
        yield request.query.get(QUERY_KEY, "")


def _refuse_foreign(request: web.Request) -> None:
    page = _calling_page(request)
    if page is not None and not is_local_host(_host_of(page)):
        raise Forbidden("requests from foreign web pages are refused; start with a token to allow origins")
    # A name that resolves to 127.0.0.1 (DNS rebinding) still shows in Host. Unix sockets have no such risk.
    transport = request.transport
    over_tcp = transport is not None and isinstance(transport.get_extra_info("sockname"), tuple)
    hosts = request.headers.getall("Host", ("",))
    if over_tcp and not all(is_local_host(_host_of(f"//{host}")) for host in hosts):
        raise Forbidden("the Host header names another machine; start with a token to be reached by name")


def _calling_page(request: web.Request) -> str | None:
    """Return the address, or the origin, of the web page that makes a request; None when no page of another site does.

    Of what a page only shows (an image, a frame) browsers send no Origin, but they say that the page is of another
    site, and mostly which. A link that somebody follows to here is theirs to follow: the page never sees the answer.
    """
    origin = request.headers.get("Origin")
    if origin is None and request.headers.get("Sec-Fetch-Site") == "cross-site":
        followed = request.headers.get("Sec-Fetch-Dest") == "document" and request.method == "GET"
        return None if followed else request.headers.get("Referer", "")
    return origin


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None

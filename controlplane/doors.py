"""What opens the control plane: an API key or JWT everything of its organisation, a sandbox's own keys that sandbox."""

from collections.abc import Mapping

from aiohttp import web

from controlplane.accounts import Accounts
from controlplane.callers import Caller, act_as
from controlplane.keys import SandboxKeys
from controlplane.limits import FailedLogins, RateLimit
from controlplane.objectstore.routes import OPERATION as STORAGE_OPERATION
from controlplane.permissions import check_permitted
from controlplane.proxy import PREFIX
from controlplane.upstreams import Upstreams
from toolbox.errors import ToolboxError, Unauthorized
from toolbox.web.auth import PUBLIC_PATHS, QUERY_KEY, Auth, Mode, credentials
from toolbox.web.relay import target_of
from toolbox.web.signing import ROUTES, Signatures

ORGANIZATION_HEADER = "X-Daytona-Organization-ID"
API_PREFIX = "/api/"
PREVIEW_OPERATION = "preview"
PROXY_OPERATION = "proxy"
OPEN_OPERATIONS = frozenset({PREVIEW_OPERATION, STORAGE_OPERATION, "events", "getConfig"})
"""Previews, object storage and events look at credentials themselves; the configuration tells how to log in."""
LIMIT_HEADERS: web.RequestKey[Mapping[str, str]] = web.RequestKey("limit_headers", Mapping)


class Doors(Auth):
    """Checks the credential of every request; from then on the request acts for its caller."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        allow_origins: frozenset[str],
        keys: SandboxKeys,
        upstreams: Upstreams,
        limit: RateLimit,
    ) -> None:
        super().__init__(Mode.TOKEN, allow_origins=allow_origins)
        self._accounts = accounts
        self._keys = keys
        self._upstreams = upstreams
        self._limit = limit
        self._failed = FailedLogins()

    async def admit(self, request: web.Request) -> None:
        """Let the request pass, or raise `Unauthorized`, `Forbidden`, `TooManyRequests` or `Unavailable`."""
        act_as(None)  # a connection's next request may be somebody else's
        operation = operation_of(request)
        if operation in OPEN_OPERATIONS or request.path in PUBLIC_PATHS:
            return
        if operation == PROXY_OPERATION and self._opens_websocket(request):
            return
        try:
            # The published SDKs put the token to be revoked where the organisation goes.
            wanted = request.headers.get(ORGANIZATION_HEADER) if operation != "revokeSshAccess" else None
            caller = await self._accounts.identify(credentials(request), wanted or None)
        except Unauthorized:
            signatures = self._signatures_for(request, request.method)
            if signatures is None:
                if any(credentials(request)):
                    self._failed.count(request.remote)
                raise
            signatures.verify(request, request.method)
            return
        act_as(caller)
        if request.path.startswith(API_PREFIX):
            request[LIMIT_HEADERS] = self._limit.count(caller)
        check_permitted(caller, request.method, request.path)

    async def caller_by(self, token: str) -> Caller | None:
        """Return whose token it is, if it opens this server."""
        try:
            return await self._accounts.identify([token], None)
        except ToolboxError:  # it may be a token of somebody else's, for the program behind
            return None

    def accepts(self, token: str | None) -> bool:
        """Tell whether `token` is an API key of this server, which no program behind it is to see."""
        return bool(token) and self._accounts.knows(token or "")

    def allows_page(self, request: web.BaseRequest, method: str) -> bool:
        """Tell whether the page that calls, or asks whether it may, can have the answer (CORS).

        A program behind a preview decides for itself; a valid signed link works from every page.
        """
        if operation_of(request) == PREVIEW_OPERATION:
            return False
        if super().allows_page(request, method):
            return True
        signatures = self._signatures_for(request, method) if "Origin" in request.headers else None
        try:
            if signatures is not None:
                signatures.verify(request, method)
        except Unauthorized:
            return False
        return signatures is not None

    def _opens_websocket(self, request: web.Request) -> bool:
        upgrade = request.headers.get("Upgrade", "").lower()
        token = request.query.get(QUERY_KEY, "")
        if request.method != "GET" or upgrade != "websocket" or not token:
            return False
        return self._keys.opens_toolbox(request.match_info["sandbox"], token)

    def _signatures_for(self, request: web.BaseRequest, method: str) -> Signatures | None:
        """Return what verifies the request if it brings a signature to where one means something."""
        if operation_of(request) != PROXY_OPERATION or not isinstance(request, web.Request):
            return None
        sandbox_id = request.match_info["sandbox"]
        upstream = self._upstreams.get(sandbox_id)
        # The path as it came: what decodes to the signed one could be another to the daemon.
        path = target_of(request).partition("?")[0]
        if upstream is None or path != f"{PREFIX}{sandbox_id}{ROUTES.get(method)}" or "signature" not in request.query:
            return None
        return upstream.signatures


async def tell_limits(request: web.Request, response: web.StreamResponse) -> None:
    """Say in the headers how many calls are left (an `on_response_prepare` signal)."""
    for name, value in request.get(LIMIT_HEADERS, {}).items():
        response.headers.setdefault(name, value)


def operation_of(request: web.BaseRequest) -> str | None:
    """Return the name of the operation that a request asks for, None if there is none."""
    endpoint = getattr(request.match_info.handler, "endpoint", None) if isinstance(request, web.Request) else None
    return endpoint.operation if endpoint is not None else None

"""What opens the control plane: the API key everything, a sandbox's own keys what leads into that sandbox."""

from aiohttp import web

from controlplane.keys import SandboxKeys
from controlplane.objectstore.routes import OPERATION as STORAGE_OPERATION
from controlplane.proxy import PREFIX
from controlplane.upstreams import Upstreams
from toolbox.errors import Unauthorized
from toolbox.web.auth import QUERY_KEY, Auth, Mode
from toolbox.web.relay import target_of
from toolbox.web.signing import ROUTES, Signatures

PREVIEW_OPERATION = "preview"
PROXY_OPERATION = "proxy"
_BRINGS_ITS_OWN = frozenset({PREVIEW_OPERATION, STORAGE_OPERATION})
"""Operations that check credentials of their own kind."""


class Doors(Auth):
    """Checks the credential of every request.

    That of a preview is left to `Previews`, which knows what it opens; that of object storage to `Storage`.
    """

    def __init__(self, key: str, *, allow_origins: frozenset[str], keys: SandboxKeys, upstreams: Upstreams) -> None:
        super().__init__(Mode.TOKEN, key, allow_origins=allow_origins)
        self._keys = keys
        self._upstreams = upstreams

    def check(self, request: web.Request) -> None:
        """Let the request pass, or raise `Unauthorized`."""
        operation = _operation(request)
        if operation in _BRINGS_ITS_OWN:
            return
        if operation == PROXY_OPERATION and self._opens_websocket(request):
            return
        try:
            super().check(request)
        except Unauthorized:
            signatures = self._signatures_for(request, request.method)
            if signatures is None:
                raise
            signatures.verify(request, request.method)

    def allows_page(self, request: web.BaseRequest, method: str) -> bool:
        """Tell whether the page that calls, or asks whether it may, can have the answer (CORS).

        A program behind a preview decides for itself; a valid signed link works from every page.
        """
        if _operation(request) == PREVIEW_OPERATION:
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
        if _operation(request) != PROXY_OPERATION or not isinstance(request, web.Request):
            return None
        sandbox_id = request.match_info["sandbox"]
        upstream = self._upstreams.get(sandbox_id)
        # The path as it came: what decodes to the signed one could be another to the daemon.
        path = target_of(request).partition("?")[0]
        if upstream is None or path != f"{PREFIX}{sandbox_id}{ROUTES.get(method)}" or "signature" not in request.query:
            return None
        return upstream.signatures


def _operation(request: web.BaseRequest) -> str | None:
    endpoint = getattr(request.match_info.handler, "endpoint", None) if isinstance(request, web.Request) else None
    return endpoint.operation if endpoint is not None else None

"""Around every request: what changes something is written into the audit log, with who asked and what came of it."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import hdrs, web

from controlplane.audit import Audit, entry_of, with_client
from controlplane.callers import act_as, current_caller
from controlplane.doors import API_PREFIX

log = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_NOISE = frozenset({"updateLastActivity"})
"""Changes something, but nobody asks who did it, and clients call it all the time."""
_MAX_ERROR = 500
_TYPES = {"api-keys": "api-key", "warm-pools": "warm-pool", "snapshots": "snapshot", "volumes": "volume"}
"""First word of a path -> what the log calls such a thing, where that differs."""


class _Made(msgspec.Struct):
    """What an answer says of the thing that was made; nothing else of it is looked at."""

    id: str | None = None
    name: str | None = None


class _Error(msgspec.Struct):
    message: str = ""


class Witness:
    """The middleware outside all others: it sees the answer as the client gets it."""

    __middleware_version__ = 1

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one request."""
        endpoint = getattr(request.match_info.handler, "endpoint", None)
        if (
            request.method in _LOOKING
            or endpoint is None
            or endpoint.operation in _NOISE
            or not endpoint.path.startswith(API_PREFIX)
        ):
            return await handler(request)
        act_as(None)
        response: web.StreamResponse | None = None
        try:
            response = await handler(request)
            return response
        finally:
            if current_caller() is not None:  # strangers must not fill the log
                await self._record(request, endpoint.operation, endpoint.path, response)

    async def _record(
        self, request: web.Request, operation: str, pattern: str, response: web.StreamResponse | None
    ) -> None:
        status = response.status if response is not None else 499
        body = response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""
        target_type, target_id = _target(request.path, pattern, body)
        error = _decoded(body, _Error).message[:_MAX_ERROR] if status >= 400 else None  # noqa: PLR2004
        entry = entry_of(action=operation, target_type=target_type, target_id=target_id, status=status, error=error)
        entry = with_client(
            entry,
            ip_address=request.remote,
            user_agent=request.headers.get(hdrs.USER_AGENT, "")[:_MAX_ERROR] or None,
            source=request.headers.get("X-Daytona-Source", "")[:_MAX_ERROR] or None,
        )
        try:
            await self._audit.record(entry)
        except Exception:
            log.exception("the audit log could not be written", extra={"fields": {"action": operation}})


def _target(path: str, pattern: str, body: bytes) -> tuple[str, str | None]:
    """Return what kind of thing it was about, and which: named in the path, else in the answer."""
    words, patterns = path.strip("/").split("/"), pattern.strip("/").split("/")
    kind = _TYPES.get(words[1], words[1])
    if len(patterns) > 2 and patterns[2].startswith("{"):  # noqa: PLR2004 -- /api/kind/{id}
        return kind, words[2]
    made = _decoded(body, _Made)
    return kind, made.id or made.name


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        return kind()

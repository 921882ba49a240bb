"""The sandboxes API: keys, audit log, configuration, leftovers, and the connection for events."""

import math

import msgspec
from aiohttp import web

from controlplane.accounts import Accounts
from controlplane.audit import Audit
from controlplane.callers import current_caller
from controlplane.events import Events
from controlplane.gateway import Gateway
from controlplane.history import Wanted
from controlplane.leftovers import Leftovers
from controlplane.lifetimes import LONGEST_ARCHIVE_MINUTES
from controlplane.limits import WINDOW_SECONDS, RateLimit
from controlplane.links import Links
from controlplane.listing import MAX_LIMIT, parse_time
from controlplane.models import DEFAULT_SNAPSHOT, organization
from controlplane.models_accounts import (
    ApiKeyItem,
    ApiKeyResponse,
    AuditLog,
    AuditPage,
    AuditQuery,
    Configuration,
    CreateApiKey,
    LeftoversFound,
    LeftoversQuery,
    OidcConfig,
    RateLimitConfig,
    RateLimitEntry,
)
from toolbox import __version__
from toolbox.config import UpConfig
from toolbox.errors import BadRequest, Forbidden
from toolbox.web.endpoint import Routes

routes = Routes("accounts")
_FILTERS = {
    "actorId": "actor_id",
    "action": "action",
    "targetType": "target_type",
    "targetId": "target_id",
    "statusCode": "status_code",
}


@routes.post("/api/api-keys", "createApiKey", status=201)
async def create_api_key(accounts: Accounts, body: CreateApiKey) -> ApiKeyResponse:
    """Make an API key; its value is shown this once."""
    key, text = await accounts.create(body.name, body.permissions, body.expires_at)
    return ApiKeyResponse(
        name=key.name, value=text, created_at=key.created_at, permissions=key.permissions, expires_at=key.expires_at
    )


@routes.get("/api/api-keys", "listApiKeys")
async def list_api_keys(accounts: Accounts) -> list[ApiKeyItem]:
    """List the API keys of the organisation."""
    return [ApiKeyItem.of(key) for key in await accounts.all()]


@routes.get("/api/api-keys/current", "getCurrentApiKey")
async def current_api_key(accounts: Accounts) -> ApiKeyItem:
    """Return the API key of this very call."""
    return ApiKeyItem.of(await accounts.current())


@routes.get("/api/api-keys/{name}", "getApiKey")
async def get_api_key(accounts: Accounts, name: str) -> ApiKeyItem:
    """Return an API key by name."""
    return ApiKeyItem.of(await accounts.get(name))


@routes.delete("/api/api-keys/{name}", "deleteApiKey", status=204)
async def delete_api_key(accounts: Accounts, events: Events, name: str) -> None:
    """Revoke an API key; connections that it opened for events are cut."""
    await accounts.revoke(name)
    await events.recheck()


@routes.delete("/api/api-keys/{user}/{name}", "deleteApiKeyForUser", status=204)
async def delete_api_key_of(accounts: Accounts, events: Events, user: str, name: str) -> None:
    """Revoke an API key of a user."""
    await accounts.revoke(name, user)
    await events.recheck()


@routes.get("/api/audit", "getAuditLogs", aliases=("/api/audit/organizations/{organization_id}",))
async def audit_log(audit: Audit, query: AuditQuery, request: web.Request) -> AuditPage:
    """Return a page of the audit log of the organisation, the latest first."""
    if request.match_info.get("organization_id", organization()) != organization():
        raise Forbidden("you do not call for this organization")
    if query.page < 1 or not 1 <= query.limit <= MAX_LIMIT:
        raise BadRequest(f"page: must be at least 1; limit: must be from 1 to {MAX_LIMIT}")
    entries, total, before = await audit.page(_wanted(query, request), page=query.page, limit=query.limit)
    return AuditPage(
        items=[AuditLog.of(entry) for entry in entries],
        total=total,
        page=query.page,
        total_pages=math.ceil(total / query.limit),
        next_token=str(before) if before is not None else msgspec.UNSET,
    )


def _wanted(query: AuditQuery, request: web.Request) -> Wanted:
    given = request.query
    equal: dict[str, str | int] = {}
    for name, column in _FILTERS.items():
        value = given.get(name) or given.get(f"{name}[eq]")
        if value:
            equal[column] = value
    try:
        if "status_code" in equal:
            equal["status_code"] = int(equal["status_code"])
        before = int(query.next_token) if query.next_token else None
    except ValueError:
        raise BadRequest("statusCode, nextToken: must be numbers") from None
    return Wanted(
        organization_id=organization(),
        equal=equal,
        since=parse_time(given.get("from") or given.get("createdAt[gte]"), "from"),
        until=parse_time(given.get("to") or given.get("createdAt[lte]"), "to"),
        before=before,
    )


@routes.get("/api/config", "getConfig")
async def configuration(
    config: UpConfig, links: Links, gateway: Gateway, limit: RateLimit, request: web.Request
) -> Configuration:
    """Return what clients may want to know of this server."""
    found = Configuration(
        version=__version__,
        oidc=OidcConfig(
            provider="oidc", issuer=config.jwt_issuer or "", client_id="", audience=config.jwt_audience or ""
        ),
        linked_accounts_enabled=False,
        announcements={},
        proxy_template_url=links.preview_template(request),
        proxy_toolbox_url=links.toolbox(request),
        default_snapshot=DEFAULT_SNAPSHOT,
        dashboard_url="",
        max_auto_archive_interval=LONGEST_ARCHIVE_MINUTES,
        maintanance_mode=False,
        environment="local",
    )
    if limit.per_minute is not None:
        found.rate_limit = RateLimitConfig(authenticated=RateLimitEntry(ttl=WINDOW_SECONDS, limit=limit.per_minute))
    if gateway.port:
        found.ssh_gateway_host, found.ssh_gateway_port = links.host(request), gateway.port
        found.ssh_gateway_command = f"ssh -p {gateway.port} {{{{TOKEN}}}}@{links.host(request)}"
        found.ssh_gateway_host_keys = [key.public for key in gateway.host_keys]
        found.ssh_gateway_host_key_fingerprints = [key.fingerprint for key in gateway.host_keys]
    return found


@routes.post("/api/leftovers", "removeLeftovers")
async def remove_leftovers(leftovers: Leftovers, query: LeftoversQuery) -> LeftoversFound:
    """Remove what no record owns from this machine. Only for who runs it."""
    caller = current_caller()
    if caller is None or not caller.operator:
        raise Forbidden("this needs the machine's own key")
    found = await leftovers.remove(really=not query.dry_run)
    return LeftoversFound(removed=not query.dry_run, sandboxes=found["sandboxes"], archives=found["archives"])


@routes.get("/api/socket.io", "events", hidden=True)
async def events(events: Events, request: web.Request) -> web.StreamResponse:
    """Open a Socket.IO connection on which changes of sandboxes are told."""
    return await events.serve(request)

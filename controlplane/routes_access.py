"""The ways into one sandbox: previews of its ports, the key of its signed file URLs, and SSH."""

from aiohttp import web

from controlplane.gateway import Gateway
from controlplane.grants import Grants, Kind
from controlplane.keys import SandboxKeys
from controlplane.links import Links
from controlplane.models import (
    PortPreviewUrl,
    Sandbox,
    SignedPortPreviewUrl,
    SignedQuery,
    SshAccess,
    SshAccessValidation,
    SshQuery,
    TokenQuery,
)
from controlplane.previews import Previews
from controlplane.sandboxes import Sandboxes
from toolbox.errors import BadRequest, Unavailable
from toolbox.web.endpoint import Routes
from toolbox.web.wire import PortNumber

routes = Routes("access")
MAX_SIGNED_SECONDS = 24 * 60 * 60
MAX_SSH_MINUTES = 365 * 24 * 60


@routes.get("/api/sandbox/{sandbox}/ports/{port}/preview-url", "getPortPreviewUrl")
async def preview_url(
    sandboxes: Sandboxes, keys: SandboxKeys, links: Links, sandbox: str, port: PortNumber, request: web.Request
) -> PortPreviewUrl:
    """Return where a port of a sandbox is seen; the token goes into a header or the query."""
    record = await sandboxes.get(sandbox)
    url, path_url = links.preview(request, port, record.id)
    return PortPreviewUrl(sandbox_id=record.id, url=url, token=keys.preview_token(record.id, port), path_url=path_url)


@routes.get("/api/sandbox/{sandbox}/ports/{port}/signed-preview-url", "getSignedPortPreviewUrl")
async def signed_preview_url(
    sandboxes: Sandboxes,
    grants: Grants,
    links: Links,
    *,
    sandbox: str,
    port: PortNumber,
    query: SignedQuery,
    request: web.Request,
) -> SignedPortPreviewUrl:
    """Return a link that opens a port of a sandbox for whoever has it, for a while."""
    if not 1 <= query.expires_in_seconds <= MAX_SIGNED_SECONDS:
        raise BadRequest(f"expiresInSeconds: must be from 1 to {MAX_SIGNED_SECONDS}")
    record = await sandboxes.get(sandbox)
    grant, token = await grants.issue(Kind.PREVIEW, record.id, seconds=query.expires_in_seconds, port=port)
    url, path_url = links.preview(request, port, token)
    return SignedPortPreviewUrl(
        sandbox_id=record.id, port=port, token=token, url=url, path_url=path_url, expires_at=grant.expires_at
    )


@routes.post("/api/sandbox/{sandbox}/ports/{port}/signed-preview-url/{token}/expire", "expireSignedPortPreviewUrl")
async def expire_signed_preview_url(
    sandboxes: Sandboxes, grants: Grants, sandbox: str, port: PortNumber, token: str
) -> None:
    """End a signed link before its time; one that has expired is as good as ended."""
    record = await sandboxes.get(sandbox)
    grant = await grants.find(Kind.PREVIEW, token)
    if grant is not None and (grant.sandbox_id, grant.port) == (record.id, port):
        await grants.revoke(Kind.PREVIEW, record.id, token)


@routes.get("/api/sandbox/{sandbox}/signing-key", "getSandboxSigningKey", produces="text/plain")
async def signing_key(sandboxes: Sandboxes, sandbox: str) -> web.Response:
    """Return the key that file URLs of a sandbox are signed with, as plain text."""
    return web.Response(text=await sandboxes.signing_key(sandbox))


@routes.post("/api/sandbox/{sandbox}/signing-key/rotate", "rotateSigningKey", produces="text/plain")
async def rotate_signing_key(sandboxes: Sandboxes, sandbox: str) -> web.Response:
    """Return a new signing key; URLs signed before are good no more."""
    return web.Response(text=await sandboxes.rotate_signing_key(sandbox))


@routes.get("/api/sandbox/ssh-access/validate", "validateSshAccess")
async def validate_ssh_access(grants: Grants, query: TokenQuery) -> SshAccessValidation:
    """Tell whether a token gives SSH access now."""
    grant = await grants.find(Kind.SSH, query.token or "")
    return SshAccessValidation(valid=grant is not None, sandbox_id=grant.sandbox_id if grant is not None else "")


@routes.post("/api/sandbox/{sandbox}/ssh-access", "createSshAccess")
async def create_ssh_access(
    sandboxes: Sandboxes,
    grants: Grants,
    gateway: Gateway,
    links: Links,
    *,
    sandbox: str,
    query: SshQuery,
    request: web.Request,
) -> SshAccess:
    """Return a token that is the user name of an SSH client, for a while."""
    if not 1 <= query.expires_in_minutes <= MAX_SSH_MINUTES:
        raise BadRequest(f"expiresInMinutes: must be from 1 to {MAX_SSH_MINUTES}")
    record = await sandboxes.get(sandbox)
    if not gateway.port:
        raise Unavailable("SSH is off here: `toolboxd up --ssh-port` turns it on")
    grant, token = await grants.issue(Kind.SSH, record.id, seconds=query.expires_in_minutes * 60)
    return SshAccess(
        id=grant.id,
        sandbox_id=record.id,
        token=token,
        expires_at=grant.expires_at,
        created_at=grant.created_at,
        updated_at=grant.created_at,
        ssh_command=f"ssh -p {gateway.port} {token}@{links.host(request)}",
    )


@routes.delete("/api/sandbox/{sandbox}/ssh-access", "revokeSshAccess")
async def revoke_ssh_access(
    sandboxes: Sandboxes, gateway: Gateway, links: Links, *, sandbox: str, query: TokenQuery, request: web.Request
) -> Sandbox:
    """End SSH access by a token, or all of a sandbox; connections that use it are cut."""
    record = await sandboxes.get(sandbox)
    await gateway.revoke(record.id, query.token)
    return Sandbox.of(record, links.toolbox(request))


@routes.add("*", "/preview/{port}/{name}", "preview", aliases=("/preview/{port}/{name}/{tail:(?s:.*)}",), hidden=True)
async def preview(previews: Previews, port: PortNumber, name: str, request: web.Request) -> web.StreamResponse:
    """Pass a request to a program that listens in a sandbox."""
    return await previews.forward(port, name, request)

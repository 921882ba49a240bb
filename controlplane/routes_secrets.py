"""The sandboxes API: secrets, which sandboxes have them, and where sandboxes may connect to."""

from aiohttp import web

from controlplane.links import Links
from controlplane.models import Sandbox
from controlplane.models_secrets import (
    CreateSecret,
    NetworkSettings,
    SandboxSecrets,
    SecretPage,
    SecretQuery,
    SecretView,
    UpdateSecret,
)
from controlplane.outlets import Outlets
from controlplane.secrets import Secrets
from toolbox.web.endpoint import Routes

routes = Routes("secrets")


@routes.post("/api/secret", "createSecret", status=201)
async def create_secret(secrets: Secrets, body: CreateSecret) -> SecretView:
    """Keep a value that sandboxes can use without seeing it."""
    return SecretView.of(
        await secrets.create(body.name, body.value, description=body.description, hosts=body.hosts or [])
    )


@routes.get("/api/secret", "listSecrets")
async def list_secrets(secrets: Secrets) -> list[SecretView]:
    """List all secrets, newest first."""
    return [SecretView.of(each) for each in await secrets.all()]


@routes.get("/api/secret/paginated", "listSecretsPaginated")
async def list_secrets_paginated(secrets: Secrets, query: SecretQuery) -> SecretPage:
    """List secrets, a page at a time."""
    items, total, cursor = await secrets.page(
        name=query.name or "", sort=query.sort, order=query.order, limit=query.limit, cursor=query.cursor
    )
    return SecretPage(items=[SecretView.of(each) for each in items], total=total, next_cursor=cursor)


@routes.get("/api/secret/{secret}", "getSecret")
async def get_secret(secrets: Secrets, secret: str) -> SecretView:
    """Return a secret without its value."""
    return SecretView.of(await secrets.get(secret))


@routes.add("PATCH", "/api/secret/{secret}", "updateSecret")
async def update_secret(secrets: Secrets, secret: str, body: UpdateSecret) -> SecretView:
    """Change a secret; sandboxes that have it use the new value from their next request on."""
    return SecretView.of(await secrets.update(secret, value=body.value, description=body.description, hosts=body.hosts))


@routes.delete("/api/secret/{secret}", "deleteSecret", status=204)
async def delete_secret(secrets: Secrets, secret: str) -> None:
    """Forget a secret; sandboxes that have it keep a placeholder that stands for nothing."""
    await secrets.remove(secret)


@routes.put("/api/sandbox/{sandbox}/secrets", "updateSandboxSecrets")
async def update_sandbox_secrets(
    outlets: Outlets, urls: Links, sandbox: str, body: SandboxSecrets, request: web.Request
) -> Sandbox:
    """Replace the secrets of a sandbox; programs started from now on see the new variables."""
    return Sandbox.of(await outlets.set_secrets(sandbox, body.secrets), urls.toolbox(request))


@routes.post("/api/sandbox/{sandbox}/network-settings", "updateNetworkSettings")
async def update_network_settings(
    outlets: Outlets, urls: Links, sandbox: str, body: NetworkSettings, request: web.Request
) -> Sandbox:
    """Change where a sandbox may connect to."""
    changed = await outlets.set_network(
        sandbox,
        block_all=body.network_block_all,
        allow_list=body.network_allow_list,
        domain_allow_list=body.domain_allow_list,
    )
    return Sandbox.of(changed, urls.toolbox(request))

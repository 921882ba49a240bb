"""The published SDKs, unmodified: secrets kept, given to sandboxes, used by programs of theirs."""

import json
from pathlib import Path

import pytest
from daytona import AsyncDaytona, CreateSandboxFromSnapshotParams, DaytonaConfig, DaytonaError
from daytona.common.secret import CreateSecretParams, UpdateSecretParams

from tests.controlplane.conftest import Plane, run_typescript
from tests.controlplane.test_egress import outside
from tests.controlplane.world import ALLOWED, World

__all__ = ["outside"]

TYPESCRIPT = """
const { Daytona } = require('@daytonaio/sdk')
const assert = require('node:assert/strict')

async function main() {
  const daytona = new Daytona()
  const made = await daytona.secret.create({ name: 'key', value: 'swordfish', hosts: [process.env.ALLOWED] })
  assert.match(made.placeholder, /^dtn_secret_/)
  assert.equal((await daytona.secret.get(made.id)).name, 'key')
  const sandbox = await daytona.create({ secrets: { KEY: 'key' } })
  const ask = `curl -sSf -H "X-Key: $KEY" ${process.env.WORLD}/`
  const sent = async () => JSON.parse((await sandbox.process.executeCommand(ask)).result).headers['X-Key']
  assert.equal(await sent(), 'swordfish')
  await daytona.secret.update(made.id, { value: 'rotated' })
  assert.equal(await sent(), 'rotated')
  await assert.rejects(sandbox.updateNetworkSettings({ networkBlockAll: true }), /networkBlockAll/)
  await sandbox.delete()
  await daytona.secret.delete(made.id)
  await assert.rejects(daytona.secret.get(made.id))
}
main().then(() => console.log('done'), (error) => { console.error(error); process.exit(1) })
"""


async def test_python(plane: Plane, outside: World) -> None:
    async with AsyncDaytona(DaytonaConfig(api_key=plane.api_key, api_url=plane.api_url)) as daytona:
        params = CreateSecretParams(name="key", value="swordfish", hosts=[ALLOWED], description="d")
        made = await daytona.secret.create(params)
        assert (made.name, made.hosts, made.description) == ("key", [ALLOWED], "d")
        page = await daytona.secret.list(limit=1, name="ke", sort="name", order="asc")
        assert (page.total, page.next_cursor, page.items) == (1, None, [made])
        sandbox = await daytona.create(CreateSandboxFromSnapshotParams(secrets={"KEY": "key"}))
        ask = f'curl -sSf -H "X-Key: $KEY" {outside.https(ALLOWED)}/'

        async def sent() -> str:
            return str(json.loads((await sandbox.process.exec(ask)).result)["headers"]["X-Key"])

        assert await sent() == "swordfish"
        assert (await sandbox.process.exec("echo $KEY")).result.strip() == made.placeholder
        changed = await daytona.secret.update(made.id, UpdateSecretParams(value="rotated"))
        assert changed.placeholder == made.placeholder
        assert await sent() == "rotated"
        await sandbox.update_secrets({})
        assert (await sandbox.process.exec("echo $KEY")).result.strip() == ""
        with pytest.raises(DaytonaError, match="networkBlockAll"):
            await sandbox.update_network_settings(network_block_all=True)
        await daytona.secret.delete(made.id)
        assert (await daytona.secret.list()).items == []
        with pytest.raises(DaytonaError, match="no secret named"):
            await daytona.create(CreateSandboxFromSnapshotParams(secrets={"KEY": "key"}))
        await sandbox.delete()


async def test_typescript(typescript_sdk: Path, plane: Plane, outside: World, tmp_path: Path) -> None:
    await run_typescript(typescript_sdk, plane, tmp_path, TYPESCRIPT, ALLOWED=ALLOWED, WORLD=outside.https(ALLOWED))

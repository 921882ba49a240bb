"""The published SDKs, unmodified: previews, signed previews, signed file URLs, websockets as browsers open them."""

import json
from pathlib import Path

import aiohttp
import pytest
from daytona import AsyncDaytona, CreateSandboxFromSnapshotParams, DaytonaConfig

from tests.controlplane.conftest import Plane, run_typescript
from tests.controlplane.test_previews import Program, Visitor, program

__all__ = ["program"]

TYPESCRIPT = """
const { Daytona } = require('@daytonaio/sdk')
const assert = require('node:assert/strict')

async function main() {
  const daytona = new Daytona()
  const sandbox = await daytona.create({ public: false })
  const port = Number(process.env.PROGRAM_PORT)
  const found = await sandbox.getPreviewLink(port)
  const open = (path, token) =>
    fetch(found.pathUrl + path, { headers: token ? { 'x-daytona-preview-token': token } : {} })
  assert.equal((await open('/x', found.token)).status, 200)
  assert.equal((await open('/x')).status, 401)
  const signed = await sandbox.getSignedPreviewUrl(port, 120)
  assert.equal((await fetch(signed.pathUrl + '/x')).status, 200)
  await sandbox.expireSignedPreviewUrl(port, signed.token)
  assert.equal((await fetch(signed.pathUrl + '/x')).status, 404)
  await sandbox.process.createSession('one')
  const command = await sandbox.process.executeSessionCommand('one', { command: 'echo hello', runAsync: true })
  let output = ''
  await sandbox.process.getSessionCommandLogs('one', command.cmdId, (chunk) => { output += chunk }, () => {})
  assert.equal(output, 'hello\\n')
  await sandbox.fs.uploadFile(Buffer.from('content'), 'file')
  assert.equal(await (await fetch(await sandbox.downloadUrl('file'))).text(), 'content')
  await sandbox.delete()
}
main().then(() => console.log('done'), (error) => { console.error(error); process.exit(1) })
"""


async def test_python(plane: Plane, program: Program) -> None:
    async with (
        AsyncDaytona(DaytonaConfig(api_key=plane.api_key, api_url=plane.api_url)) as daytona,
        aiohttp.ClientSession() as http,
    ):
        visitor = Visitor(plane, http)
        sandbox = await daytona.create(CreateSandboxFromSnapshotParams())
        found = await sandbox.get_preview_link(program.port)
        await visitor.get(found.url + "/", headers={"X-Daytona-Preview-Token": found.token})
        await visitor.get(found.url + "/", expect=401)
        signed = await sandbox.create_signed_preview_url(program.port, expires_in_seconds=60)
        await visitor.get(signed.url + "/")
        await sandbox.expire_signed_preview_url(program.port, signed.token)
        await visitor.get(signed.url + "/", expect=404)
        await sandbox.set_public(public=True)
        await visitor.get(found.url + "/")

        form = aiohttp.FormData()
        form.add_field("file", b"content", filename="name")
        up, down = await sandbox.upload_url("dir/ä b"), await sandbox.download_url("dir/ä b", ttl_seconds=0)
        async with http.post(up, data=form) as response:
            assert response.status == 200
        async with http.get(down) as response:
            assert await response.text() == "content"
        await sandbox.rotate_signing_key()
        async with http.get(down) as response:
            assert response.status == 401
        async with http.get(await sandbox.download_url("dir/ä b")) as response:
            assert await response.text() == "content"
        await sandbox.delete()


@pytest.mark.parametrize("runtime", [{}, {"VERCEL": "1"}], ids=["node", "browser-style"])
async def test_typescript(
    typescript_sdk: Path, plane: Plane, program: Program, tmp_path: Path, runtime: dict[str, str]
) -> None:
    await run_typescript(typescript_sdk, plane, tmp_path, TYPESCRIPT, PROGRAM_PORT=json.dumps(program.port), **runtime)

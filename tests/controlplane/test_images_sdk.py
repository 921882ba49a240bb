"""The published SDKs, unmodified: declarative images with local files, snapshots, logs, and what is refused."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import controlplane.ground
from tests.conftest import Toolboxd
from tests.controlplane.building import BuildingDriver
from tests.controlplane.conftest import Plane, plane_on
from tests.controlplane.test_storage import bucket_of

NODE = Path(sys.executable).parent / "node"
STORE = Path("/etc/ssl/certs/ca-certificates.crt")
"""Where the Python SDK's S3 client looks for authorities, whatever the environment says."""

PYTHON = """
import asyncio, os, sys
from daytona import (
    AsyncDaytona, CreateSandboxFromImageParams, CreateSandboxFromSnapshotParams, CreateSnapshotParams, Daytona,
    DaytonaError, Image, Resources,
)

folder = sys.argv[1]
image = Image.base("debian:12").add_local_file(f"{folder}/big", "/big").add_local_dir(f"{folder}/dir", "/dir")
image = image.run_commands("echo built > made").env({"COLOUR": "red"})

daytona, logs = Daytona(), []
box = daytona.create(CreateSandboxFromImageParams(image=image), on_snapshot_create_logs=logs.append)
assert box.state == "started" and any("RUN" in each for each in logs), logs
assert box.process.exec("cat made dir/file; wc -c < big").result == "built\\ncontent\\n12582912\\n"
assert daytona.create(CreateSandboxFromImageParams(image=image)).process.exec("echo $COLOUR").result == "red\\n"

logs.clear()
params = CreateSnapshotParams(name="built", image=image.run_commands("echo more > more"),
                              resources=Resources(cpu=1, memory=2, disk=3))
made = daytona.snapshot.create(params, on_logs=logs.append)
assert made.state == "active" and any("more" in each for each in logs), logs
of_snapshot = daytona.create(CreateSandboxFromSnapshotParams(snapshot="built"))
assert (of_snapshot.cpu, of_snapshot.memory, of_snapshot.disk) == (1, 2, 3)
assert of_snapshot.process.exec("cat more").result == "more\\n"
page = daytona.snapshot.list(limit=1)
assert (page.total, page.page, page.total_pages) == (2, 1, 2)
assert daytona.snapshot.get("default").state == "active"
daytona.snapshot.delete("built")

async def again():
    async with AsyncDaytona() as daytona:
        made = await daytona.snapshot.create(CreateSnapshotParams(name="async", image="debian:12"))
        assert made.state == "active" and made.image_name == "debian:12"
        other = Image.base("debian:12").add_local_file(f"{folder}/dir/file", "/file").entrypoint(["a"])
        box = await daytona.create(CreateSandboxFromImageParams(image=other), on_snapshot_create_logs=lambda _: None)
        assert (await box.process.exec("cat file; echo $ENTRYPOINT")).result == "content\\na\\n"
        try:
            await daytona.create(CreateSandboxFromImageParams(image=Image.base("debian").run_commands("exit 7")))
        except DaytonaError as error:
            assert "exit code 7" in str(error), error
        else:
            raise AssertionError("a build that fails")
        await daytona.snapshot.delete(made)

asyncio.run(again())
"""

TYPESCRIPT = """
const { Daytona, Image } = require('@daytonaio/sdk')
const assert = require('node:assert/strict')

async function main() {
  const daytona = new Daytona()
  const folder = process.env.FOLDER
  const image = Image.base('debian:12').addLocalFile(`${folder}/big`, '/big').addLocalDir(`${folder}/dir`, '/dir')
  const logs = []
  const onSnapshotCreateLogs = (each) => logs.push(each)
  const box = await daytona.create({ image: image.runCommands('echo built > made') }, { onSnapshotCreateLogs })
  assert.equal(box.state, 'started')
  assert.ok(logs.some((each) => each.includes('RUN')), logs.join())
  const files = (await box.process.executeCommand('cat made dir/file; wc -c < big')).result
  assert.equal(files, 'built\\ncontent\\n12582912\\n')
  const again = await daytona.create({ image })
  assert.equal((await again.process.executeCommand('cat dir/file')).result, 'content\\n')
  logs.length = 0
  const made = await daytona.snapshot.create(
    { name: 'built', image: image.runCommands('echo more > more'), resources: { cpu: 1, memory: 2, disk: 3 } },
    { onLogs: (each) => logs.push(each) },
  )
  assert.equal(made.state, 'active')
  assert.ok(logs.some((each) => each.includes('more')), logs.join())
  const third = await daytona.create({ snapshot: 'built' })
  assert.deepEqual([third.cpu, third.memory, third.disk], [1, 2, 3])
  const page = await daytona.snapshot.list(1, 1)
  assert.deepEqual([page.total, page.page, page.totalPages], [2, 1, 2])
  await daytona.snapshot.delete(await daytona.snapshot.get('built'))
  const bad = Image.base('x').runCommands('exit 7')
  await assert.rejects(daytona.snapshot.create({ name: 'bad', image: bad }), /exit code 7/)
  await assert.rejects(daytona.create({ image: Image.base('x').runCommands('exit 8') }), /exit code 8/)
  await daytona[Symbol.asyncDispose]()
}
main().catch((error) => { console.error(error); process.exit(1) })
"""

REFUSED = """
from daytona import CreateSandboxFromImageParams, CreateSnapshotParams, Daytona, DaytonaValidationError, Image

daytona = Daytona()
for make in (
    lambda: daytona.create(CreateSandboxFromImageParams(image=Image.base("debian:12"))),
    lambda: daytona.snapshot.create(CreateSnapshotParams(name="x", image="debian:12")),
    lambda: daytona.snapshot.create(CreateSnapshotParams(name="x", image=Image.base("debian:12"))),
):
    try:
        make()
    except DaytonaValidationError as error:
        assert "the process driver cannot" in str(error), error
    else:
        raise AssertionError("not refused")
assert [each.name for each in daytona.snapshot.list().items] == ["default"]
"""


@asynccontextmanager
async def building_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: str) -> AsyncIterator[Plane]:
    monkeypatch.setattr(controlplane.ground, "ProcessDriver", BuildingDriver)
    async with plane_on(tmp_path / "state", **options) as plane:
        yield plane


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with files for images, one of them longer than a part of an upload."""
    found = tmp_path / "folder"
    (found / "dir").mkdir(parents=True)
    (found / "dir/file").write_text("content\n")
    (found / "big").write_bytes(os.urandom(12 * 1024 * 1024))
    return found


async def run(plane: Plane, *command: str, **environ: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "DAYTONA_API_URL": plane.api_url, "DAYTONA_API_KEY": plane.api_key, **environ},
        cwd=plane.state_dir,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


def can_trust() -> bool:
    """Tell whether a process can be given a system store of its own here."""
    if os.getuid() != 0 or not STORE.exists() or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


def trusting(ca: Path, store: Path) -> list[str]:
    """Return what runs a command with a system store to which an authority was added."""
    store.write_bytes(STORE.read_bytes() + ca.read_bytes())
    return ["unshare", "-m", "sh", "-c", f'mount --bind {store} {STORE} && exec "$@"', "sh"]


async def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    if not can_trust():
        pytest.skip("not possible here: a private mount namespace needs root")
    async with building_plane(tmp_path, monkeypatch, storage_port="0") as plane:
        trust = trusting(plane.state_dir / "controlplane/ca/ca.pem", tmp_path / "store.pem")
        await run(plane, *trust, sys.executable, "-c", PYTHON, str(folder))


async def test_typescript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, typescript_sdk: Path) -> None:
    async with building_plane(tmp_path, monkeypatch) as plane:
        await run(
            plane,
            *(str(NODE), "-e", TYPESCRIPT),
            NODE_PATH=str(typescript_sdk / "node_modules"),
            FOLDER=str(folder),
        )


async def test_typescript_over_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, typescript_sdk: Path
) -> None:
    async with building_plane(tmp_path, monkeypatch, storage_port="0") as plane:
        await run(
            plane,
            *(str(NODE), "-e", TYPESCRIPT),
            NODE_PATH=str(typescript_sdk / "node_modules"),
            NODE_EXTRA_CA_CERTS=str(plane.state_dir / "controlplane/ca/ca.pem"),
            FOLDER=str(folder),
        )


async def test_what_the_process_driver_refuses(plane: Plane) -> None:
    await run(plane, sys.executable, "-c", REFUSED)


async def test_access_over_tls(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state", storage_port="0") as plane, bucket_of(plane) as bucket:
        assert bucket.access["storageUrl"].startswith("https://127.0.0.1:")
        assert (tmp_path / "state/controlplane/ca/ca.key").stat().st_mode & 0o777 == 0o600
        # Only object storage is there, and not for everybody.
        port = bucket.access["storageUrl"].rpartition(":")[2].partition("/")[0]
        async with plane.http.get(f"https://127.0.0.1:{port}/api/sandbox", ssl=False) as response:
            assert response.status == 404
        async with plane.http.get(bucket.access["storageUrl"] + "/contexts/local/x", ssl=False) as response:
            assert response.status == 403


async def test_ca_is_printed_and_stays(tmp_path: Path, start_toolboxd: Callable[..., Awaitable[Toolboxd]]) -> None:
    printed = []
    for _ in range(2):
        toolboxd = await start_toolboxd("ca")
        assert toolboxd.process.stdout is not None
        printed.append(await toolboxd.process.stdout.read())
        await toolboxd.process.wait()
        assert (await toolboxd.end())[0] == 0
    assert printed[0] == printed[1] == (tmp_path / "state/controlplane/ca/ca.pem").read_bytes()
    assert printed[0].startswith(b"-----BEGIN CERTIFICATE-----\n")

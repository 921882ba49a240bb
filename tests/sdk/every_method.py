"""Every public method of the published Python SDK's clients, sync or async, once at least, on any driver.

`python -m tests.sdk.every_method sync|async FACTS` runs in an empty directory, with the two exports that `toolboxd up`
prints, and fails with the names of methods that were neither answered nor refused as `FACTS` (a file) documents.
"""

import asyncio
import os
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from daytona import (
    AsyncDaytona,
    AsyncSandbox,
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    CreateSecretParams,
    CreateSnapshotParams,
    Daytona,
    DaytonaBadRequestError,
    DaytonaError,
    DaytonaGitRepoNotFoundError,
    DaytonaNotFoundError,
    Image,
    ListSandboxesQuery,
    Resources,
    Sandbox,
    VolumeMount,
)
from daytona._async.object_storage import AsyncObjectStorage
from daytona._async.snapshot import AsyncSnapshotService
from daytona._async.volume import AsyncVolumeService
from daytona._sync.object_storage import ObjectStorage
from daytona._sync.snapshot import SnapshotService
from daytona._sync.volume import VolumeService

from tests.sdk.clients import items, without_loop
from tests.sdk.recording import Record, Recorded, RecordedImage, Refusal

CLASSES: dict[str, tuple[type, ...]] = {
    "sync": (Daytona, Sandbox, SnapshotService, VolumeService, Image, ObjectStorage),
    "async": (AsyncDaytona, AsyncSandbox, AsyncSnapshotService, AsyncVolumeService, Image, AsyncObjectStorage),
}
WAIT_SECONDS = 60
SERVER = """
import http.server, threading
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port)
"""
FILES = {
    "Dockerfile": "FROM {image}\nCOPY file /from-dockerfile\nUSER nobody\n",
    "requirements.txt": "required\n",
    "pyproject.toml": '[project]\nname = "x"\ndependencies = ["depended"]\noptional-dependencies.more = ["optional"]\n',
    "file": "content\n",
    "dir/inner": "inner\n",
}
PIP = r"""printf '#!/bin/sh\necho "$@" >> /installed\n' > /usr/bin/python && chmod +x /usr/bin/python"""


class Facts(msgspec.Struct, frozen=True):
    """What a driver differs in, and what the scenarios of all languages use."""

    image: str
    """An image that its machine has, if it can have any."""
    mount: str
    """Where a volume can be."""
    refusals: Mapping[str, Refusal]
    isolation_shows: bool = True
    """Whether a sandbox that may reach nothing has no network interface."""
    server: str = SERVER
    """A program to look at, in a sandbox that may have no Python but the interpreter's."""
    files: dict[str, str] = msgspec.field(default_factory=FILES.copy)
    """What images are declared with, by path; `{image}` is to be replaced."""
    pip: str = PIP
    """Stands for Python with pip, which the image lacks: what matters is which commands a build carries out."""


@dataclass(frozen=True)
class World:
    """A client with what is known of the server."""

    daytona: Any
    object_storage: Any
    """The class."""
    record: Record
    facts: Facts

    async def create(self, **params: Any) -> Any:
        """Create a sandbox."""
        return await self.daytona.create(CreateSandboxFromSnapshotParams(**params))

    def call(self, method: str, path: str) -> Any:
        """Call the API where the SDK has no method for it, and return the JSON answer, None for an empty one."""
        headers = {"Authorization": f"Bearer {os.environ['DAYTONA_API_KEY']}"}
        answer = httpx.request(method, os.environ["DAYTONA_API_URL"] + path, headers=headers).raise_for_status()
        return answer.json() if answer.content else None

    async def push_access(self) -> None:
        """Ask for access to object storage, which comes before all else. Raises as the SDK does."""
        try:
            self.call("GET", "/object-storage/push-access")
        except httpx.HTTPStatusError as error:
            said = error.response.json()
            raise DaytonaError(said["message"], error.response.status_code, code=said["code"]) from None


async def every_method(world: World) -> None:
    """Go through it all."""
    box = await world.create(name="one", env_vars={"A": "b"}, labels={"suite": "every"}, language="python")
    await find(world, box)
    await look_inside(world, box)
    await change(world, box)
    await reach(world, box)
    await share_a_volume(world)
    await copy(world, box)
    await go_through_states(world, box)
    await store_objects(world)
    await build(world)
    await delete(world, box)


async def find(world: World, box: Any) -> None:
    """Get, list, refresh."""
    assert ((await world.daytona.get("one")).id, box.labels["suite"]) == (box.id, "every")
    listed = [each.id async for each in items(await world.daytona.list(ListSandboxesQuery(labels={"suite": "every"})))]
    assert listed == [box.id]
    await box.refresh_data()
    assert (box.state, box.env) == ("started", {"A": "b"})


async def look_inside(world: World, box: Any) -> None:
    """Use each of the toolbox's parts."""
    assert (await box.process.exec("echo $A")).result == "b\n"
    await box.fs.upload_file(b"kept", "file")
    assert await box.fs.download_file("file") == b"kept"
    home = (await box.process.exec("echo ~")).result.strip()
    assert [await box.get_user_home_dir(), await box.get_work_dir()] == [home, home]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert await box.get_user_root_dir() == home
    assert (await box.code_interpreter.run_code("print(6 * 7)")).stdout == "42\n"
    assert (await box.computer_use.get_status()).status
    with pytest.raises(DaytonaGitRepoNotFoundError):
        await box.git.status("no-repository")
    assert hasattr((await box.create_lsp_server("python", ".")).wrapped, "completions")
    assert (await box.get_metrics_latest()).cpu_count > 0
    if await world.record.attempt("Sandbox.get_metrics", box.get_metrics()):
        assert (await box.get_metrics())[-1].mem_total > 0


async def change(world: World, box: Any) -> None:
    """Change all that can be changed while it runs."""
    assert await box.set_labels({"suite": "changed"}) == {"suite": "changed"}
    await box.set_autostop_interval(7)
    await box.set_auto_delete_interval(9)
    await box.set_ttl(60)
    await box.set_public(public=True)
    last = box.last_activity_at
    await box.refresh_activity()
    await box.refresh_data()
    assert (box.auto_stop_interval, box.auto_delete_interval) == (7, 9)
    assert (box.public, bool(box.auto_destroy_at), box.last_activity_at > last) == (True, True, True)
    await box.set_public(public=False)
    if await world.record.attempt("Sandbox.set_auto_archive_interval", box.set_auto_archive_interval(8)):
        await box.refresh_data()
        assert box.auto_archive_interval == 8
    if await world.record.attempt("Sandbox.set_auto_pause_interval", box.set_auto_pause_interval(5)):
        await box.refresh_data()
        assert (box.auto_pause_interval, box.auto_stop_interval) == (5, 0)
    await box.update_env({"A": "changed", "NEW": "x"}, unset=["NEVER"])
    assert (await box.process.exec("echo $A $NEW")).result == "changed x\n"
    secret = await world.daytona.secret.create(CreateSecretParams(name="key", value="hidden"))
    if await world.record.attempt("Sandbox.update_secrets", box.update_secrets({"KEY": "key"})):
        assert (await box.process.exec("echo $KEY")).result == f"{secret.placeholder}\n"
        await box.update_secrets({})
    await world.daytona.secret.delete(secret.id)
    block = box.update_network_settings(network_block_all=True)
    if await world.record.attempt("Sandbox.update_network_settings", block):
        isolated = [(await box.process.exec("ls /sys/class/net")).result == "lo\n"]
        await box.update_network_settings(network_block_all=False)
        isolated.append((await box.process.exec("ls /sys/class/net")).result == "lo\n")
        assert isolated == [world.facts.isolation_shows, False]
    listed = box.update_network_settings(network_allow_list="10.0.0.0/8")
    if await world.record.attempt("Sandbox.update_network_settings(network_allow_list)", listed):
        await box.refresh_data()
        assert box.network_allow_list == "10.0.0.0/8"


async def reach(world: World, box: Any) -> None:
    """Previews, file URLs and SSH."""
    port = int((await box.code_interpreter.run_code(world.facts.server)).stdout)
    link = await box.get_preview_link(port)
    assert visit(link.url, token=link.token) == (200, "hello")
    assert visit(link.url)[0] == 401
    signed = await box.create_signed_preview_url(port, expires_in_seconds=60)
    assert visit(signed.url) == (200, "hello")
    await box.expire_signed_preview_url(port, signed.token)
    assert visit(signed.url)[0] == 404
    assert httpx.post(await box.upload_url("sent"), files={"file": b"content"}).status_code == 200
    down = await box.download_url("sent")
    assert httpx.get(down).text == "content"
    await box.rotate_signing_key()
    assert httpx.get(down).status_code == 401
    assert httpx.get(await box.download_url("sent")).text == "content"
    access = await box.create_ssh_access(expires_in_minutes=10)
    assert (await box.validate_ssh_access(access.token)).valid
    await box.revoke_ssh_access(access.token)
    assert not (await box.validate_ssh_access(access.token)).valid


def visit(url: str, *, token: str | None = None) -> tuple[int, str]:
    """Open a preview as a browser does, for which all names under `.localhost` are this machine."""
    place = urlsplit(url)
    path = f"http://127.0.0.1:{place.port}{place.path or '/'}"
    headers = {"Host": place.netloc} | ({"x-daytona-preview-token": token} if token else {})
    answer = httpx.get(f"{path}?{place.query}" if place.query else path, headers=headers)
    return answer.status_code, answer.text


async def share_a_volume(world: World) -> None:
    """Keep files in a volume beyond the sandbox that wrote them."""
    volumes, path = world.daytona.volume, world.facts.mount
    volume = await volumes.create("shared")
    assert (await volumes.get("shared")).id == volume.id
    assert [each.id for each in await volumes.list()] == [volume.id]
    for command, result in (("echo seen > {}/file", ""), ("cat {}/file", "seen\n")):
        box = await world.create(volumes=[VolumeMount(volume_id=volume.id, mount_path=path)])
        assert (await box.process.exec(command.format(path))).result == result
        with pytest.raises(DaytonaBadRequestError):
            await volumes.delete(volume)
        await box.delete(wait=True)
    await volumes.delete(volume)
    assert await volumes.list() == []


async def copy(world: World, box: Any) -> None:
    """Fork, and snapshots of a sandbox."""
    snapshots, attempt = world.daytona.snapshot, world.record.attempt
    if await attempt("Sandbox.fork", box.fork(name="fork")):
        fork = await world.daytona.get("fork")
        assert (await fork.process.exec("cat file; echo other > file")).result == "kept"
        await fork.delete(wait=True)
    source = box
    if await attempt("Sandbox.create_snapshot", box.create_snapshot("mine")):
        made = await snapshots.get("mine")
        assert [each.id for each in (await snapshots.list(source_sandbox_id=box.id)).items] == [made.id]
        await switch_off_and_on(world, "mine")
        source = await world.create(snapshot="mine")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if await attempt("Sandbox._experimental_fork", source._experimental_fork("again")):
            source = await world.daytona.get("again")
            assert await source.fs.download_file("file") == b"kept"
        if await attempt("Sandbox._experimental_create_snapshot", source._experimental_create_snapshot("yours")):
            await forget(world, "mine", "yours")


async def switch_off_and_on(world: World, name: str) -> None:
    """Let nothing be made of a snapshot for a while."""
    snapshots = world.daytona.snapshot
    world.call("POST", f"/snapshots/{(await snapshots.get(name)).id}/deactivate")
    with pytest.raises(DaytonaBadRequestError):
        await world.create(snapshot=name)
    assert (await snapshots.activate(name)).state == "active"


async def forget(world: World, *names: str) -> None:
    """Delete snapshots."""
    for name in names:
        await world.daytona.snapshot.delete(name)
        with pytest.raises(DaytonaNotFoundError):
            await world.daytona.snapshot.get(name)


async def go_through_states(world: World, box: Any) -> None:
    """Pause, stop, resize, archive, start, recover."""
    if await world.record.attempt("Sandbox.pause", box.pause()):
        assert box.state == "paused"
        await box.start()
    await world.daytona.stop(box)
    await box.wait_for_sandbox_stop()
    assert box.state == "stopped"
    await world.daytona.start(box)
    await box.stop()
    if await world.record.attempt("Sandbox.resize", box.resize(Resources(cpu=1, memory=2))):
        assert (box.cpu, box.memory, box.state) == (1, 2, "stopped")
    await box.wait_for_resize_complete()
    if await world.record.attempt("Sandbox.archive", box.archive()):
        assert box.state in ("archiving", "archived")
    await box.start()
    await box.wait_for_sandbox_start()
    assert await box.fs.download_file("file") == b"kept"
    with pytest.raises(DaytonaBadRequestError):
        await box.recover()
    await box.process.exec("(sleep 0.2; kill $PPID) > /dev/null 2>&1 &")
    deadline = time.monotonic() + WAIT_SECONDS
    while box.state != "error":
        assert time.monotonic() < deadline, box.state
        await box.refresh_data()
    await box.recover()
    assert (box.state, await box.fs.download_file("file")) == ("started", b"kept")


async def store_objects(world: World) -> None:
    """Push a build context by hand."""
    api, snapshots = world.daytona.wrapped._object_storage_api, world.daytona.snapshot
    assert await snapshots.process_image_context(api, Image.base("any")) == []
    if not await world.record.attempt("ObjectStorage", world.push_access()):
        return
    access = world.call("GET", "/object-storage/push-access")
    keys = (access["storageUrl"], access["accessKey"], access["secret"], access["sessionToken"], access["bucket"])
    storage = Recorded(world.object_storage(*keys, region=access["region"]), world.record)
    Path("pushed").write_text("pushed")
    assert await storage.compute_archive_base_path("/pushed") == "pushed"
    pushed = [await storage.upload("pushed", access["organizationId"], "pushed") for _ in range(2)]
    assert pushed[0] == pushed[1]
    image = Image.base("any").add_local_file("pushed", "/pushed")
    assert len(await snapshots.process_image_context(api, image)) == 1


async def build(world: World) -> None:
    """Declare images, and make sandboxes and snapshots of them and of one that is there."""
    for name, text in world.facts.files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text.replace("{image}", world.facts.image))
    image = RecordedImage(world.record)
    assert "\nFROM python:3.12." in "\n" + image.debian_slim("3.12").dockerfile()
    logs: list[str] = []
    params = CreateSandboxFromImageParams(name="built", image=declare(image, world.facts))
    if await world.record.attempt(
        "Daytona.create(image)", world.daytona.create(params, timeout=0, on_snapshot_create_logs=logs.append)
    ):
        assert any("/list" in each for each in logs), logs
        await see_what_was_declared(await world.daytona.get("built"))
    logs.clear()
    described = CreateSnapshotParams(name="described", image=image.from_dockerfile("Dockerfile").image)
    snapshots, attempt = world.daytona.snapshot, world.record.attempt
    if await attempt("SnapshotService.create(Image)", snapshots.create(described, on_logs=logs.append)):
        assert any("from-dockerfile" in each for each in logs), logs
        box = await world.create(snapshot="described")
        assert (await box.process.exec("id -un; cat /from-dockerfile")).result == "nobody\ncontent\n"
        await box.delete(wait=True)
    named = CreateSnapshotParams(name="named", image=world.facts.image)
    if await attempt("SnapshotService.create", snapshots.create(named)):
        assert "named" in [each.name for each in (await snapshots.list()).items]
        await switch_off_and_on(world, "named")
        await forget(world, "named")


def declare(image: RecordedImage, facts: Facts) -> Image:
    """Return an image that every method of `Image` had a part in."""
    declared: RecordedImage = (
        image.base(facts.image)
        .run_commands(facts.pip, ["sh", "-c", "echo list > /list"])
        .pip_install("one", "two==2", index_url="http://index.test")
        .pip_install_from_requirements("requirements.txt")
        .pip_install_from_pyproject("pyproject.toml", ["more"])
        .add_local_file("file", "/data/file")
        .add_local_dir("dir", "/data/dir")
        .dockerfile_commands(["COPY inner /data/copied"], "dir")
        .env({"COLOUR": "dark blue"})
        .workdir("/data")
        .entrypoint(["/bin/sh", "-c"])
        .cmd(["echo $COLOUR > /started; sleep 1000"])
    )
    assert isinstance(declared.image, Image)
    return declared.image


async def see_what_was_declared(box: Any) -> None:
    """Look at a sandbox of the image."""
    script = "cat /list file dir/inner copied /.requirements.txt; echo $COLOUR; pwd"
    assert (await box.process.exec(script)).result == "list\ncontent\ninner\ninner\nrequired\ndark blue\n/data\n"
    assert (await box.process.exec("cat /installed")).result.splitlines() == [
        "-m pip install one two==2 --index-url http://index.test",
        "-m pip install -r /.requirements.txt",
        "-m pip install depended optional",
    ]
    assert (await box.process.exec("until [ -s /started ]; do sleep 0.05; done; cat /started")).result == "dark blue\n"
    assert await box.get_work_dir() == "/data"
    await box.delete(wait=True)


async def delete(world: World, box: Any) -> None:
    """Delete all that is left."""
    await world.daytona.delete(box, wait=True)
    async for each in items(await world.daytona.list()):
        await Recorded(each, world.record).delete(wait=True)
    with pytest.raises(DaytonaNotFoundError):
        await box.refresh_data()


async def run_async(record: Record, facts: Facts) -> None:
    """Use the async client."""
    async with AsyncDaytona() as client:
        await every_method(World(Recorded(client, record), AsyncObjectStorage, record, facts))
        await Recorded(client, record).close()


def run_sync(record: Record, facts: Facts) -> None:
    """Use the sync client."""
    without_loop(every_method(World(Recorded(Daytona(), record), ObjectStorage, record, facts)))


def main(kind: str, facts: Facts) -> None:
    """Use a client; fail if a method was left out."""
    record = Record(facts.refusals)
    if kind == "async":
        asyncio.run(run_async(record, facts))
    else:
        run_sync(record, facts)
    if missing := record.missing(CLASSES[kind]):
        sys.exit(f"neither answered nor refused as documented: {', '.join(missing)}")


if __name__ == "__main__":
    main(sys.argv[1], msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Facts))

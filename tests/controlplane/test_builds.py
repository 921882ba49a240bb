"""Declarative images: sandboxes and snapshots of them, their logs, their ends."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import controlplane.ground
from controlplane.builds import Builds
from controlplane.models import CreateBuildInfo, organization
from controlplane.objectstore.objects import Objects
from controlplane.store import SqliteRepository
from tests.controlplane.building import BuildingDriver
from tests.controlplane.conftest import Plane, plane_on
from toolbox.children.process import Children

DOCKERFILE = "FROM debian:12\nENV COLOUR=red\nRUN echo built > made; echo 'one line of the log'\nUSER app\n"
EMPTY_TAR = bytes(10240)
EARLIER, LATER = "2020-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"


@pytest.fixture
async def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plane]:
    monkeypatch.setattr(controlplane.ground, "ProcessDriver", BuildingDriver)
    async with plane_on(tmp_path / "state") as found:
        yield found


async def until(plane: Plane, path: str, *states: str) -> Any:
    """Return what is at a path once it is in one of these states."""
    async with asyncio.timeout(60):
        while (found := await plane.call("GET", path))["state"] not in states:
            await asyncio.sleep(0.02)
    return found


async def text(plane: Plane, path: str, **query: str) -> str:
    async with plane.http.get(plane.api_url + path, params=query) as response:
        assert response.status == 200
        return await response.text()


def build_info(dockerfile: str = DOCKERFILE, *hashes: str) -> dict[str, Any]:
    return {"dockerfileContent": dockerfile, "contextHashes": list(hashes)}


async def test_sandbox_of_a_declarative_image(plane: Plane) -> None:
    first = await plane.create(buildInfo=build_info(), cpu=2, memory=3, disk=4)
    assert first["state"] == "pending_build"
    assert first["buildInfo"]["dockerfileContent"] == DOCKERFILE
    url = (await plane.call("GET", f"/sandbox/{first['id']}/build-logs-url"))["url"]
    assert url == f"{plane.api_url}/sandbox/{first['id']}/build-logs"
    log = await text(plane, f"/sandbox/{first['id']}/build-logs", follow="true")
    assert "one line of the log\n" in log
    found = await until(plane, f"/sandbox/{first['id']}", "started", "error", "build_failed")
    assert (found["state"], found["user"], found["cpu"], found["memory"], found["disk"]) == ("started", "app", 2, 3, 4)
    assert await plane.execute(found, "cat made; echo $COLOUR") == "built\nred"
    # The same again is there at once, and its log too.
    second = await plane.create(buildInfo=build_info())
    assert second["state"] == "started"
    assert second["buildInfo"]["snapshotRef"] == first["buildInfo"]["snapshotRef"]
    assert await text(plane, f"/sandbox/{second['id']}/build-logs") == log
    assert (await plane.create(user="me", buildInfo=build_info()))["user"] == "me"


async def test_builds_at_once_are_one(plane: Plane, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    dockerfile = f"FROM debian\nRUN echo once >> {counter}; sleep 0.3\n"
    made = await asyncio.gather(*(plane.create(buildInfo=build_info(dockerfile)) for _ in range(3)))
    for each in made:
        await until(plane, f"/sandbox/{each['id']}", "started")
    assert counter.read_text() == "once\n"


async def test_failed_build(plane: Plane, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    dockerfile = f"FROM debian\nRUN echo the reason; test -e {gate}\n"
    made = await plane.create(name="box", buildInfo=build_info(dockerfile))
    found = await until(plane, "/sandbox/box", "build_failed")
    assert "exit code 1" in found["errorReason"]
    assert found["recoverable"] is False
    assert "the reason\n" in await text(plane, "/sandbox/box/build-logs", follow="true")
    await plane.call("POST", "/sandbox/box/start", expect=409)
    await plane.call("DELETE", f"/sandbox/{made['id']}")
    # What failed is tried again.
    gate.touch()
    await plane.create(name="box", buildInfo=build_info(dockerfile))
    await until(plane, "/sandbox/box", "started")


async def test_delete_while_building_ends_the_build(plane: Plane, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    made = await plane.create(buildInfo=build_info(f"FROM debian\nRUN echo $$ > {pid}; exec sleep 1000\n"))
    async with asyncio.timeout(30):
        while not (pid.exists() and pid.read_text().strip()):
            await asyncio.sleep(0.02)
    await plane.call("DELETE", f"/sandbox/{made['id']}")
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid.read_text().strip()}").exists():
            await asyncio.sleep(0.02)
    await plane.call("GET", f"/sandbox/{made['id']}", expect=404)


async def test_what_cannot_be_built_is_refused(plane: Plane) -> None:
    async def refused(part: str, **wanted: Any) -> None:
        answer = await plane.call("POST", "/sandbox", expect=400, json=wanted)
        assert part in answer["message"]

    await refused("dockerfileContent", buildInfo={})
    await refused("was not uploaded", buildInfo=build_info(DOCKERFILE, "0" * 32))
    await refused("was not uploaded", buildInfo=build_info(DOCKERFILE, "../../etc"))
    await refused("not both", buildInfo=build_info(), snapshot="default")
    await plane.create(name="taken")
    await plane.call("POST", "/sandbox", expect=409, json={"name": "taken", "buildInfo": build_info()})
    await plane.call("GET", "/sandbox/taken/build-logs", expect=404)


async def test_long_log_is_cut(plane: Plane) -> None:
    made = await plane.create(buildInfo=build_info("FROM debian\nRUN head -c 20000000 /dev/zero | tr '\\0' x\n"))
    log = await text(plane, f"/sandbox/{made['id']}/build-logs", follow="true")
    assert len(log) < 17 * 1024 * 1024
    assert log.endswith("the rest is left out]\n")


async def test_snapshot_of_an_image(plane: Plane) -> None:
    wanted = {"name": "mine", "imageName": "debian:12", "entrypoint": ["run", "this"], "cpu": 2, "memory": 1}
    made = await plane.call("POST", "/snapshots", json=wanted)
    assert made["state"] == "pulling"
    await plane.call("POST", "/snapshots", expect=409, json=wanted)
    found = await until(plane, f"/snapshots/{made['id']}", "active", "error")
    assert (found["state"], found["imageName"], found["size"]) == ("active", "debian:12", 0.5)
    assert found["entrypoint"] == ["run", "this"]
    assert await text(plane, "/snapshots/mine/build-logs", follow="true") == "pulling debian:12\n"
    box = await plane.create(snapshot="mine")
    assert (box["state"], box["snapshot"], box["cpu"], box["memory"], box["user"]) == ("started", "mine", 2, 1, "app")
    assert await plane.execute(box, "cat name; echo; echo $ENTRYPOINT") == "debian:12\nrun this"
    # A snapshot goes, what was made from it stays, and its image as long.
    image = plane.state_dir / "controlplane/images" / found["ref"]
    await plane.call("DELETE", f"/snapshots/{made['id']}")
    await plane.call("GET", "/snapshots/mine", expect=404)
    await plane.call("POST", "/sandbox", expect=404, json={"snapshot": "mine"})
    assert image.exists()
    await plane.call("DELETE", f"/sandbox/{box['id']}")
    async with asyncio.timeout(30):
        while image.exists():
            await asyncio.sleep(0.02)
    await plane.call("POST", "/snapshots", json=wanted)


async def test_snapshot_of_a_declarative_image(plane: Plane) -> None:
    made = await plane.call("POST", "/snapshots", json={"name": "built", "buildInfo": build_info()})
    url = (await plane.call("GET", f"/snapshots/{made['id']}/build-logs-url"))["url"]
    assert url == f"{plane.api_url}/snapshots/{made['id']}/build-logs"
    assert "one line of the log\n" in await text(plane, "/snapshots/built/build-logs", follow="true")
    found = await until(plane, "/snapshots/built", "active")
    # A second one shares the image; it stays until the last is gone.
    await plane.call("POST", "/snapshots", json={"name": "again", "buildInfo": build_info()})
    await until(plane, "/snapshots/again", "active")
    image = plane.state_dir / "controlplane/images" / found["ref"]
    await plane.call("DELETE", "/snapshots/built")
    assert image.exists()
    await plane.call("DELETE", "/snapshots/again")
    assert not image.exists()
    made = await plane.call("POST", "/snapshots", json={"name": "bad", "buildInfo": build_info("FROM x\nRUN false\n")})
    assert "exit code" in (await until(plane, "/snapshots/bad", "build_failed"))["errorReason"]
    await plane.call("POST", "/snapshots", json={"name": "none", "imageName": "no-such"})
    assert "no such image" in (await until(plane, "/snapshots/none", "error"))["errorReason"]
    answer = await plane.call("POST", "/sandbox", expect=400, json={"snapshot": "none"})
    assert "no such image" in answer["message"]


async def test_activate_and_deactivate(plane: Plane) -> None:
    await plane.call("POST", "/snapshots", json={"name": "mine", "imageName": "debian"})
    await until(plane, "/snapshots/mine", "active")
    await plane.call("POST", "/snapshots/mine/deactivate", expect=204)
    answer = await plane.call("POST", "/sandbox", expect=400, json={"snapshot": "mine"})
    assert "inactive" in answer["message"]
    assert (await plane.call("POST", "/snapshots/mine/activate"))["state"] == "active"
    await plane.create(snapshot="mine")
    await plane.call("POST", "/snapshots/default/deactivate", expect=409)
    await plane.call("DELETE", "/snapshots/default", expect=409)


async def test_list_snapshots(plane: Plane) -> None:
    for number in range(3):
        await plane.call("POST", "/snapshots", json={"name": f"snap-{number}", "imageName": "debian"})
    page = await plane.call("GET", "/snapshots?limit=2&sort=name&order=asc")
    assert [each["name"] for each in page["items"]] == ["default", "snap-0"]
    assert (page["total"], page["page"], page["totalPages"]) == (4, 1, 2)
    page = await plane.call("GET", "/snapshots?limit=2&page=2&sort=name&order=asc")
    assert [each["name"] for each in page["items"]] == ["snap-1", "snap-2"]
    assert (await plane.call("GET", "/snapshots?name=NAP-1"))["total"] == 1
    assert (await plane.call("GET", "/snapshots?sourceSandboxId=x"))["total"] == 0
    for query in ("page=0", "limit=0", "limit=201", "sort=colour", "order=up"):
        await plane.call("GET", f"/snapshots?{query}", expect=400)


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ({"name": " ", "imageName": "debian"}, "name"),
        ({"name": "x"}, "imageName"),
        ({"name": "x", "imageName": "debian", "buildInfo": build_info()}, "imageName"),
        ({"name": "x", "imageName": " "}, "imageName"),
        ({"name": "x", "imageName": "debian", "gpu": 1}, "gpu"),
        ({"name": "x", "imageName": "debian", "cpu": 0}, "cpu"),
        ({"name": "x", "imageName": "debian", "sandboxClass": "windows"}, "sandboxClass"),
    ],
)
async def test_snapshots_refuse_by_name(plane: Plane, wanted: dict[str, Any], part: str) -> None:
    answer = await plane.call("POST", "/snapshots", expect=400, json=wanted)
    assert part in answer["message"]
    assert (await plane.call("GET", "/snapshots"))["total"] == 1


@asynccontextmanager
async def builds_alone(tmp_path: Path) -> AsyncIterator[tuple[Builds, Objects, BuildingDriver]]:
    async with (
        SqliteRepository(tmp_path / "db") as store,
        Children() as children,
        BuildingDriver(tmp_path, children, {}) as driver,
        Objects(store, tmp_path / "storage") as objects,
        Builds(store, driver, objects, tmp_path / "builds") as builds,
    ):
        yield builds, objects, driver


async def test_what_nobody_uses_goes(tmp_path: Path) -> None:
    async with builds_alone(tmp_path) as (builds, _, driver):
        build = await builds.plan(CreateBuildInfo(dockerfile_content=DOCKERFILE))
        async with builds.job(build) as job:
            image = await job.image()
        place = driver.images / image.ref
        await builds.tidy(keep=(), before=build.used_at)
        await builds.tidy(keep={image.ref}, before=LATER)
        assert place.exists()
        await builds.tidy(keep=(), before=LATER)
        assert not place.exists()
        assert await builds.find(build.id) is None
        assert list((tmp_path / "builds").iterdir()) == []


async def test_contexts_nobody_uses_go(tmp_path: Path) -> None:
    async with builds_alone(tmp_path) as (builds, objects, _):
        digests = [f"{number:032x}" for number in range(3)]
        keys = [f"{organization()}/{digest}/context.tar" for digest in digests]
        other = f"{organization()}/notes.txt"
        for key in (*keys, other):
            async with objects.piece(set()) as piece:
                await piece.receive(chunks(b"" if key == other else EMPTY_TAR))
                piece.keep()
                await objects.put(key, piece.path, etag="", size=piece.size, content_type="", checksums={})

        async def there() -> list[str]:
            return [each.name for each in (await objects.page("", after="", delimiter="", limit=10)).objects]

        waiting = await builds.plan(CreateBuildInfo(dockerfile_content=DOCKERFILE, context_hashes=[digests[0]]))
        built = await builds.plan(CreateBuildInfo(dockerfile_content=DOCKERFILE, context_hashes=digests[:2]))
        async with builds.job(built) as job:
            image = await job.image()
        keep = {image.ref, waiting.id}
        await builds.tidy(keep=keep, before=EARLIER)
        assert await there() == [*keys, other]
        # Wanted by nobody: those of what is built, but for the one that another build needs as well.
        await builds.tidy(keep=keep, before=LATER)
        assert await there() == [keys[0], other]
        assert len(list((tmp_path / "storage/objects").iterdir())) == 2
        # Looking for one, as clients do before they rely on it, makes it stay.
        (file,) = [path for path in (tmp_path / "storage/objects").iterdir() if path.stat().st_size]
        os.utime(file, (0, 0))
        assert await objects.find(keys[0]) is not None
        await builds.tidy(keep=(), before=EARLIER)
        assert await there() == [keys[0], other]
        await builds.tidy(keep=(), before=LATER)
        assert await there() == [other]


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content

"""The life of a sandbox through the API."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.controlplane.conftest import Plane, plane_on
from toolbox.children.tree import MARKER

REQUIRED = {
    "id": str,
    "organizationId": str,
    "name": str,
    "user": str,
    "env": dict,
    "labels": dict,
    "public": bool,
    "networkBlockAll": bool,
    "kvm": bool,
    "target": str,
    "cpu": int,
    "gpu": int,
    "memory": int,
    "disk": int,
    "toolboxProxyUrl": str,
}


async def test_created_sandbox_has_every_required_field(plane: Plane) -> None:
    sandbox = await plane.create(labels={"a": "b"}, env={"COLOUR": "blue", "PYTHONPATH": "/nowhere"})
    for name, kind in REQUIRED.items():
        assert type(sandbox[name]) is kind, name
    assert sandbox["state"] == sandbox["desiredState"] == "started"
    assert min(sandbox["cpu"], sandbox["memory"], sandbox["disk"]) > 0
    assert sandbox["toolboxProxyUrl"] == plane.origin + "/toolbox"
    assert sandbox["name"] == sandbox["id"]
    assert (sandbox["autoStopInterval"], sandbox["autoArchiveInterval"], sandbox["autoDeleteInterval"]) == (
        15,
        10080,
        -1,
    )
    assert await plane.call("GET", f"/sandbox/{sandbox['id']}") == sandbox
    assert await plane.execute(sandbox, "echo $COLOUR $PYTHONPATH") == "blue /nowhere"
    assert await plane.execute(sandbox, "pwd; cd; pwd") == f"{plane.home(sandbox)}\n{plane.home(sandbox)}"


async def test_names(plane: Plane) -> None:
    sandbox = await plane.create(name="first-one")
    assert (await plane.call("GET", "/sandbox/first-one"))["id"] == sandbox["id"]
    clash = await plane.call("POST", "/sandbox", 409, json={"name": "first-one"})
    assert clash["statusCode"] == 409
    assert {"path", "timestamp", "error", "message", "code"} <= clash.keys()
    assert "source" not in clash
    await plane.call("DELETE", "/sandbox/first-one")
    await plane.create(name="first-one")


REFUSED: list[dict[str, Any]] = [
    {"buildInfo": {"dockerfileContent": "FROM debian"}},
    {"volumes": [{"volumeId": "v", "mountPath": "/"}]},
    {"volumes": [{"volumeId": "v", "mountPath": "v"}]},
    {"volumes": [{"volumeId": "v", "mountPath": "~/../v"}]},
    {"volumes": [{"volumeId": "v", "mountPath": "/usr"}]},
    {"volumes": [{"volumeId": "v", "mountPath": "/proc/v"}]},
    {"secrets": [{"A": "b"}]},
    {"gpu": 1},
    {"gpuType": ["H100"]},
    {"cpu": 0},
    {"cpu": 100_000},
    {"memory": 100_000},
    {"disk": 100_000_000},
    {"spot": True},
    {"kvm": True},
    {"networkBlockAll": True},
    {"networkAllowList": "10.0.0.0/8"},
    {"domainAllowList": "example.com"},
    {"outboundProxyUrl": "http://proxy"},
    {"otelEndpointOverride": "collector:4318"},
    {"linkedSandbox": "other"},
    {"user": "nobody-we-know"},
    {"autoPauseInterval": -1},
    {"autoStopInterval": -1},
    {"autoDeleteInterval": -2},
    {"ttlMinutes": -1},
    {"queueTimeout": 0},
    {"labels": {"code-toolbox-language": "cobol"}},
    {"name": "a/b"},
    {"name": "paginated"},
    {"env": {"1X": "y"}},
    {"env": {"X": 5}},
]


async def test_what_cannot_be_is_refused_by_name(plane: Plane) -> None:
    for wanted in REFUSED:
        (name,) = wanted
        refusal = await plane.call("POST", "/sandbox", 400, json=wanted)
        assert name in refusal["message"] or name == "env", refusal
    await plane.call("POST", "/sandbox", 404, json={"snapshot": "someone-elses"})
    await plane.call("POST", "/sandbox", 404, json={"volumes": [{"volumeId": "v", "mountPath": "/v"}]})
    assert (await plane.call("GET", "/sandbox"))["items"] == []


async def test_empty_wishes_are_no_wishes(plane: Plane) -> None:
    sandbox = await plane.create(
        volumes=[], secrets=[], gpu=0, kvm=False, spot=None, networkBlockAll=False, snapshot="default", target="eu"
    )
    assert (sandbox["state"], sandbox["target"]) == ("started", "eu")


async def test_stop_ends_everything_and_keeps_files(plane: Plane, processes_of: Callable[[Path], list[int]]) -> None:
    sandbox = await plane.create()
    await plane.execute(sandbox, "echo kept > file; (setsid sleep 1000 &) ; nohup sleep 1000 >/dev/null 2>&1 &")
    assert len(processes_of(plane.home(sandbox))) >= 3
    stopped = await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    assert stopped["state"] == stopped["desiredState"] == "stopped"
    assert processes_of(plane.home(sandbox)) == []
    refused = await plane.toolbox("GET", sandbox, "/version", 409)
    assert "stopped" in refused["message"]
    assert (await plane.call("POST", f"/sandbox/{sandbox['id']}/stop"))["state"] == "stopped"
    started = await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert started["state"] == "started"
    assert await plane.execute(sandbox, "cat file") == "kept"
    assert (await plane.call("POST", f"/sandbox/{sandbox['id']}/start"))["state"] == "started"


async def test_forced_stop(plane: Plane, processes_of: Callable[[Path], list[int]]) -> None:
    sandbox = await plane.create()
    stopped = await plane.call("POST", f"/sandbox/{sandbox['id']}/stop?force=true")
    assert stopped["state"] == "stopped"
    assert processes_of(plane.home(sandbox)) == []


async def test_delete_leaves_nothing(plane: Plane, processes_of: Callable[[Path], list[int]]) -> None:
    sandbox = await plane.create(name="doomed")
    await plane.execute(sandbox, "mkdir -p a/b && touch a/b/c && chmod 500 a/b a; sleep 1000 >/dev/null 2>&1 &")
    gone = await plane.call("DELETE", "/sandbox/doomed")
    assert gone["state"] == gone["desiredState"] == "destroyed"
    assert processes_of(plane.home(sandbox)) == []
    assert not plane.home(sandbox).parent.exists()
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("POST", "/last-activity"),
    ):
        assert (await plane.call(method, f"/sandbox/{sandbox['id']}{path}", 404))["code"] == "NOT_FOUND"
    await plane.toolbox("GET", sandbox, "/version", 404)


async def test_settings(plane: Plane) -> None:
    path = f"/sandbox/{(await plane.create())['id']}"
    assert await plane.call("PUT", f"{path}/labels", json={"labels": {"x": "y"}}) == {"labels": {"x": "y"}}
    await plane.call("PUT", f"{path}/labels", 400, json={"labels": {"code-toolbox-language": "cobol"}})
    for route, field in (("autostop", "autoStopInterval"), ("autoarchive", "autoArchiveInterval")):
        assert (await plane.call("POST", f"{path}/{route}/7"))[field] == 7
        await plane.call("POST", f"{path}/{route}/-1", 400)
        await plane.call("POST", f"{path}/{route}/soon", 400)
    assert (await plane.call("POST", f"{path}/autodelete/-1"))["autoDeleteInterval"] == -1
    assert (await plane.call("POST", f"{path}/autopause/0"))["autoPauseInterval"] == 0
    assert "autoDestroyAt" in await plane.call("POST", f"{path}/ttl/10")
    assert "autoDestroyAt" not in await plane.call("POST", f"{path}/ttl/0")
    assert (await plane.call("POST", f"{path}/public/true"))["public"] is True
    assert (await plane.call("POST", f"{path}/public/false"))["public"] is False
    await plane.call("POST", f"{path}/public/maybe", 400)
    before = (await plane.call("GET", path))["lastActivityAt"]
    assert await plane.call("POST", f"{path}/last-activity", 201) is None
    final = await plane.call("GET", path)
    assert final["lastActivityAt"] > before
    assert final["labels"] == {"x": "y"}
    assert await plane.call("GET", f"{path}/toolbox-proxy-url") == {"url": plane.origin + "/toolbox"}


async def test_proxied_calls_count_as_activity(plane: Plane) -> None:
    sandbox = await plane.create()
    await plane.toolbox("GET", sandbox, "/version")
    assert (await plane.call("GET", f"/sandbox/{sandbox['id']}"))["lastActivityAt"] > sandbox["lastActivityAt"]


async def test_concurrent_requests_take_turns(plane: Plane) -> None:
    path = f"/sandbox/{(await plane.create())['id']}"
    verbs = ["stop", "start", "stop?force=true", "start", "stop", "start"]
    answers = await asyncio.gather(*(plane.call("POST", f"{path}/{verb}") for verb in verbs))
    assert [each["state"] for each in answers] == ["stopped", "started"] * 3
    outcomes = await asyncio.gather(
        *(plane.http.delete(plane.api_url + path) for _ in range(3)), plane.http.post(f"{plane.api_url}{path}/stop")
    )
    assert sorted(each.status for each in outcomes[:3]) == [200, 404, 404]


async def test_many_at_once(plane: Plane) -> None:
    made = await asyncio.gather(*(plane.create() for _ in range(6)))
    outputs = await asyncio.gather(*(plane.execute(each, "pwd") for each in made))
    assert outputs == [str(plane.home(each)) for each in made]


async def test_client_that_leaves_does_not_cut_a_step_short(plane: Plane) -> None:
    asking = asyncio.ensure_future(plane.create(name="unloved"))
    while not (await plane.call("GET", "/sandbox"))["items"]:
        await asyncio.sleep(0.01)
    asking.cancel()
    assert (await plane.call("POST", "/sandbox/unloved/start"))["state"] == "started"


async def test_daemon_that_dies_shows(plane: Plane, processes_of: Callable[[Path], list[int]]) -> None:
    sandbox = await plane.create()
    await plane.execute(sandbox, "setsid sleep 1000 >/dev/null 2>&1 &")
    record = (plane.state_dir / "controlplane/sandboxes" / sandbox["id"] / "daemon.json").read_text()
    os.kill(int(record.partition('"pid":')[2].partition(",")[0]), signal.SIGKILL)
    path = f"/sandbox/{sandbox['id']}"
    async with asyncio.timeout(30):
        while (found := await plane.call("GET", path))["state"] == "started":
            await asyncio.sleep(0.01)
    assert found["state"] == "error"
    assert "SIGKILL" in found["errorReason"]
    assert found["recoverable"] is True
    assert processes_of(plane.home(sandbox)) == []
    await plane.toolbox("GET", sandbox, "/version", 409)
    recovered = await plane.call("POST", f"{path}/recover")
    assert recovered["state"] == "started"
    assert "errorReason" not in recovered
    await plane.call("POST", f"{path}/recover", 400)


async def test_unknown_and_wrong_routes(plane: Plane) -> None:
    assert (await plane.call("GET", "/nothing/here", 404))["code"] == "NOT_FOUND"
    assert (await plane.call("PATCH", "/sandbox", 405))["code"] == "METHOD_NOT_ALLOWED"
    assert (await plane.call("POST", "/sandbox", 400, data=b"{"))["code"] == "INVALID_REQUEST_BODY"
    async with plane.http.get(plane.origin + "/healthz", headers={"Authorization": "none"}) as response:
        assert await response.json() == {"status": "ok"}
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}):
        await plane.call("GET", "/sandbox", 401, headers=headers)


async def test_proxy_url_follows_the_request(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "a") as plane:
        sandbox = await plane.create()
        path = f"/sandbox/{sandbox['id']}"
        named = await plane.call("GET", path, headers={"Host": "box.example:8080"})
        assert named["toolboxProxyUrl"] == "http://box.example:8080/toolbox"
    async with plane_on(tmp_path / "a", public_url="https://box.example/") as plane:
        assert (await plane.call("GET", path))["toolboxProxyUrl"] == "https://box.example/toolbox"
        assert (await plane.call("GET", path))["state"] == "stopped"


async def test_options_for_every_sandbox_are_variables_of_up(tmp_path: Path) -> None:
    options = {"TOOLBOX_MAX_CONTEXTS": "0", "TOOLBOX_SHELL": "/bin/sh", "TOOLBOX_LSP_GO": "gopls"}
    own = {
        "TOOLBOX_AUTH": "none",
        "TOOLBOX_LOG_FILE": str(tmp_path / "log"),
        "TOOLBOX_SIGNING_KEY": "secret",
        "TOOLBOX_TOKEN": "the key of the API",
        "TOOLBOX_WORK_DIR": "/",
    }
    async with plane_on(tmp_path / "state", {**options, **own}) as plane:
        sandbox = await plane.create()
        shown = await plane.execute(sandbox, "tr '\\0' '\\n' < /proc/$PPID/environ")
        found = dict(line.split("=", 1) for line in shown.splitlines() if line.startswith("TOOLBOX_"))
        assert {name: value for name, value in found.items() if name != MARKER} == options
        await plane.toolbox("POST", sandbox, "/process/interpreter/context", 409, json={})


async def test_document_is_valid(plane: Plane) -> None:
    from openapi_spec_validator import validate

    async with plane.http.get(plane.origin + "/openapi.json") as response:
        document = await response.json()
    validate(document)
    assert "/api/sandbox/{sandbox}" in document["paths"]

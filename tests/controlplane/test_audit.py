"""The audit log: what is written, for whom, and what never is."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daytona_api_client.models.paginated_audit_logs import PaginatedAuditLogs

from tests.controlplane.conftest import Plane, plane_on


async def entries(plane: Plane, **query: Any) -> list[dict[str, Any]]:
    """Return entries, the oldest first."""
    return list(reversed((await plane.call("GET", "/audit", params=query))["items"]))


async def test_who_did_what(plane: Plane) -> None:
    sandbox = await plane.create(name="box", env={"PASSWORD": "hunter2"})
    await plane.call("POST", "/sandbox/box/stop")
    await plane.call("POST", "/sandbox/no-such/stop", 404)
    key = await plane.call("POST", "/api-keys", 201, json={"name": "ci", "permissions": []})
    await plane.call("GET", "/sandbox/box")
    await plane.call("POST", "/sandbox/box/last-activity", 201)
    await plane.call("DELETE", "/sandbox/box", 401, headers={"Authorization": "Bearer wrong"})
    await plane.call("DELETE", "/sandbox/box", 403, headers={"Authorization": f"Bearer {key['value']}"})
    await plane.call("DELETE", "/sandbox/box")
    found = await entries(plane)
    assert [(each["action"], each["targetType"], each.get("targetId"), each["statusCode"]) for each in found] == [
        ("createSandbox", "sandbox", sandbox["id"], 200),
        ("stopSandbox", "sandbox", "box", 200),
        ("stopSandbox", "sandbox", "no-such", 404),
        ("createApiKey", "api-key", "ci", 201),
        ("deleteSandbox", "sandbox", "box", 403),
        ("deleteSandbox", "sandbox", "box", 200),
    ]
    assert found[2]["errorMessage"] == "sandbox not found: no-such"
    assert found[4]["actorApiKeySuffix"] == key["value"][-4:]
    assert {each["actorId"] for each in found} == {"operator"}
    assert {each["ipAddress"] for each in found} == {"127.0.0.1"}
    files = list((plane.state_dir / "controlplane").glob("sandboxes.sqlite*"))
    written = b"".join(file.read_bytes() for file in files)
    assert key["value"].encode() not in written
    text = str(found)
    assert "hunter2" not in text


async def test_pages_and_filters(plane: Plane) -> None:
    for number in range(5):
        await plane.call("POST", f"/sandbox/none-{number}/stop", 404)
    await plane.call("DELETE", "/sandbox/none-0", 404)
    url = "/audit/organizations/local"
    page = await plane.call("GET", url, params={"limit": 4})
    assert (page["total"], page["totalPages"], len(page["items"])) == (6, 2, 4)
    assert PaginatedAuditLogs.from_dict(page) is not None
    rest = await plane.call("GET", url, params={"limit": 4, "nextToken": page["nextToken"]})
    assert await plane.call("GET", url, params={"limit": 4, "page": 2}) == {**rest, "page": 2}
    targets = [each["targetId"] for each in page["items"] + rest["items"]]
    assert targets == ["none-0", *(f"none-{number}" for number in (4, 3, 2, 1, 0))]
    assert [each["action"] for each in await entries(plane, targetId="none-0")] == ["stopSandbox", "deleteSandbox"]
    assert len(await entries(plane, **{"action[eq]": "deleteSandbox"})) == 1
    assert await entries(plane, statusCode="200") == []
    middle = page["items"][2]["createdAt"]
    assert len(await entries(plane, **{"from": middle})) == 3
    assert len(await entries(plane, to=middle)) == 4
    await plane.call("GET", "/audit/organizations/others", 403)
    for wrong in ({"limit": 0}, {"limit": 201}, {"page": 0}, {"nextToken": "x"}, {"statusCode": "x"}, {"from": "x"}):
        await plane.call("GET", "/audit", 400, params=wrong)


async def test_what_happens_by_itself_and_what_survives(
    tmp_path: Path, processes_of: Callable[[Path], list[int]]
) -> None:
    state = tmp_path / "state"
    async with plane_on(state) as plane:
        sandbox = await plane.create(name="box")
        for pid in processes_of(plane.home(sandbox)):
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while not (died := await entries(plane, actorId="system")):
                await asyncio.sleep(0.01)
        assert (died[0]["action"], died[0]["targetId"]) == ("error", sandbox["id"])
        assert "SIGKILL" in died[0]["errorMessage"]
        await plane.call("POST", "/sandbox/box/recover")
    async with plane_on(state) as plane:
        found = [(each["actorId"], each["action"]) for each in await entries(plane)]
    assert found == [
        ("operator", "createSandbox"),
        ("system", "error"),
        ("operator", "recoverSandbox"),
        ("system", "stopped"),
    ]


async def test_nothing_offers_to_change_it(plane: Plane) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        await plane.call(method, "/audit", 405)

"""Organisations of one control plane: what one has is not there for another, whatever is asked with its ids."""

import re
from typing import Any

import controlplane.app
from tests.controlplane.conftest import Plane

VALUE = "the value of the other tenant's secret"
BODIES: dict[str, Any] = {
    "replaceLabels": {"labels": {"mine": "now"}},
    "updateSandboxSecrets": {"secrets": []},
    "updateSecret": {"value": "mine now"},
    "updateWarmPool": {"pool": 3},
    "createSandboxSnapshot": {"name": "stolen"},
    "forkSandbox": {"name": "stolen"},
    "resizeSandbox": {"cpu": 1},
}
WORDS = {"port": "80", "minutes": "5", "kind": "autostop", "public": "true", "token": "x" * 32}


async def new_key(plane: Plane, organization: str) -> dict[str, str]:
    """Make an API key that may do everything in an organisation, and return the header with it."""
    from controlplane.permissions import PERMISSIONS

    acting = {"X-Daytona-Organization-ID": organization}
    wanted = {"name": "all", "permissions": list(PERMISSIONS)}
    made = await plane.call("POST", "/api-keys", 201, json=wanted, headers=acting)
    return {"Authorization": f"Bearer {made['value']}"}


async def belongings(plane: Plane, headers: dict[str, str]) -> dict[str, Any]:
    """Return all that an organisation has, by the word that stands for it in paths."""
    found = {}
    for word, path in (
        ("sandbox", "/sandbox"),
        ("volume", "/volumes"),
        ("snapshot", "/snapshots"),
        ("secret", "/secret"),
        ("pool", "/warm-pools"),
        ("name", "/api-keys"),
    ):
        answer = await plane.call("GET", path, headers=headers)
        found[word] = answer["items"] if isinstance(answer, dict) else answer
    return found


def settled(things: dict[str, Any]) -> dict[str, Any]:
    """Return what one must not find changed: not when something was last used, which its owner's own calls change."""
    moving = ("lastActivityAt", "lastUsedAt", "updatedAt", "state", "currentSize")
    return {
        word: sorted(str({key: value for key, value in each.items() if key not in moving}) for each in found)
        for word, found in things.items()
    }


def concrete(path: str, words: dict[str, Any]) -> str:
    """Return a path with words in place of its parameters."""
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: str({**WORDS, **words}[found[1]]), path)


async def test_nothing_of_another_organization_is_there(plane: Plane) -> None:
    ours, theirs = await new_key(plane, "ours"), await new_key(plane, "theirs")
    box = await plane.call("POST", "/sandbox", json={"name": "box", "public": False}, headers=ours)
    volume = await plane.call("POST", "/volumes", json={"name": "volume"}, headers=ours)
    await plane.call("POST", f"/sandbox/{box['id']}/snapshot", json={"name": "shot"}, headers=ours)
    secret = await plane.call("POST", "/secret", 201, json={"name": "secret", "value": VALUE}, headers=ours)
    pool = await plane.call("POST", "/warm-pools", 201, json={"snapshot": "default", "pool": 1}, headers=ours)
    before = await belongings(plane, ours)
    shot = next(each for each in before["snapshot"] if each["name"] == "shot")
    known = {"sandbox": box, "volume": volume, "snapshot": shot, "secret": secret, "pool": pool}
    asked = 0
    for endpoint in controlplane.app.ENDPOINTS:
        words = [word for word in re.findall(r"\{(\w+)", endpoint.path) if word in known]
        if not words or endpoint.hidden:
            continue
        for name in (known[words[0]]["id"], known[words[0]].get("name")):
            path = concrete(endpoint.path, dict.fromkeys(known, name))
            if name is None or endpoint.operation == "getVolumeByName":
                continue
            url, body = plane.origin + path, BODIES.get(endpoint.operation, {})
            async with plane.http.request(endpoint.method, url, json=body, headers=theirs) as response:
                text = await response.text()
                assert response.status == 404, (endpoint.operation, response.status, text)
                assert VALUE not in text
            asked += 1
    assert asked > 60
    assert settled(await belongings(plane, ours)) == settled(before)
    others = await belongings(plane, theirs)
    assert [others[word] for word in ("sandbox", "volume", "secret", "pool")] == [[]] * 4
    assert "shot" not in [each["name"] for each in others["snapshot"]]


async def test_nothing_of_another_organization_can_be_used(plane: Plane) -> None:
    ours, theirs = await new_key(plane, "ours"), await new_key(plane, "theirs")
    box = await plane.call("POST", "/sandbox", json={"name": "box"}, headers=ours)
    volume = await plane.call("POST", "/volumes", json={"name": "volume"}, headers=ours)
    await plane.call("POST", f"/sandbox/{box['id']}/snapshot", json={"name": "shot"}, headers=ours)
    secret = await plane.call("POST", "/secret", 201, json={"name": "secret", "value": VALUE}, headers=ours)
    for wanted in (
        {"snapshot": "shot"},
        {"volumes": [{"volumeId": volume["id"], "mountPath": "~/volume"}]},
        {"volumes": [{"volumeId": "volume", "mountPath": "~/volume"}]},
        {"secrets": [{"KEY": "secret"}]},
        {"secrets": [{"KEY": secret["id"]}]},
    ):
        async with plane.http.post(f"{plane.api_url}/sandbox", json=wanted, headers=theirs) as response:
            assert response.status in (400, 404), (wanted, await response.text())
    key = await plane.call("GET", f"/sandbox/{box['id']}/ports/80/preview-url", headers=ours)
    for path in (f"/toolbox/{box['id']}/version", f"/preview/80/{box['id']}/", f"/preview/81/{box['id']}/"):
        async with plane.http.get(plane.origin + path, headers=theirs) as response:
            assert response.status in (401, 404), path
        # Nor does a token for one port of it open more.
        token = {"Authorization": "", "X-Daytona-Preview-Token": key["token"]}
        async with plane.http.get(plane.origin + path, headers=token) as response:
            assert (response.status == 502) == path.startswith("/preview/80/"), path
    assert (await plane.call("GET", "/sandbox", headers=theirs))["items"] == []
    entries = (await plane.call("GET", "/audit", headers=theirs))["items"]
    assert not [each for each in entries if each.get("targetId") == box["id"]]

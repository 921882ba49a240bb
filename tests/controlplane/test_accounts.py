"""API keys, JWTs, organisations, permissions and limits, over HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from daytona import AsyncDaytona, DaytonaConfig

from controlplane.limits import FailedLogins, RateLimit, TooManyRequests
from controlplane.permissions import PERMISSIONS
from tests.controlplane.conftest import Plane, plane_on
from toolbox.config import ConfigError

SIGNING_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def key_set(key: ec.EllipticCurvePrivateKey = SIGNING_KEY, key_id: str = "one") -> dict[str, Any]:
    """Return the public half of a key as an identity provider lists it."""
    found = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return {"keys": [{**found, "kid": key_id, "use": "sig", "alg": "ES256"}]}


def token(key: ec.EllipticCurvePrivateKey = SIGNING_KEY, key_id: str = "one", **claims: Any) -> str:
    """Return a JWT."""
    claims = {"sub": "alice", "exp": time.time() + 600, "aud": "sandboxes", "iss": "https://login.example"} | claims
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": key_id})


def bearing(key: str, organization: str | None = None) -> Mapping[str, str]:
    """Return the headers of a caller."""
    headers = {"Authorization": f"Bearer {key}"}
    return headers | ({"X-Daytona-Organization-ID": organization} if organization else {})


async def new_key(plane: Plane, organization: str, *permissions: str, name: str = "ci") -> str:
    """Make an API key of an organisation and return its text."""
    wanted = {"name": name, "permissions": list(permissions or PERMISSIONS)}
    headers = bearing(plane.api_key, organization)
    made = await plane.call("POST", "/api-keys", 201, json=wanted, headers=headers)
    return str(made["value"])


async def test_keys_are_made_listed_and_revoked(plane: Plane) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    wanted = {"name": "ci", "permissions": ["write:sandboxes"], "expiresAt": until}
    made = await plane.call("POST", "/api-keys", 201, json=wanted)
    assert made["value"].startswith("dtn_")
    assert made["permissions"] == ["write:sandboxes"]
    await plane.call("POST", "/api-keys", 409, json=wanted)
    assert (await plane.call("GET", "/sandbox", headers=bearing(made["value"])))["items"] == []
    shown = await plane.call("GET", "/api-keys/current", headers=bearing(made["value"]))
    assert (shown["name"], shown["organizationId"], shown["userId"]) == ("ci", "local", "operator")
    assert shown["lastUsedAt"]
    listed = await plane.call("GET", "/api-keys")
    assert [each["name"] for each in listed] == ["ci", "machine"]
    assert listed[0]["value"].endswith(made["value"][-4:])
    assert made["value"] not in json.dumps(listed)
    database = (plane.state_dir / "controlplane").glob("sandboxes.sqlite*")
    assert not any(made["value"].encode() in file.read_bytes() for file in database)
    await plane.call("DELETE", "/api-keys/operator/ci", 204)
    await plane.call("GET", "/sandbox", 401, headers=bearing(made["value"]))
    await plane.call("DELETE", "/api-keys/ci", 404)
    await plane.call("DELETE", "/api-keys/machine", 409)


@pytest.mark.parametrize(
    "wanted",
    [
        {"permissions": []},
        {"name": "", "permissions": []},
        {"name": "current", "permissions": []},
        {"name": "a/b", "permissions": []},
        {"name": "x", "permissions": ["fly"]},
        {"name": "x", "permissions": [], "expiresAt": "2001-01-01T00:00:00Z"},
    ],
)
async def test_keys_that_cannot_be(plane: Plane, wanted: Any) -> None:
    await plane.call("POST", "/api-keys", 400, json=wanted)


async def test_keys_survive_a_restart_and_expire(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state") as plane:
        lasting = await new_key(plane, "local")
        until = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
        wanted = {"name": "short", "permissions": [], "expiresAt": until}
        short = (await plane.call("POST", "/api-keys", 201, json=wanted))["value"]
    async with plane_on(tmp_path / "state") as plane:
        await plane.call("GET", "/sandbox", headers=bearing(lasting))
        while datetime.now(UTC) < datetime.fromisoformat(until):
            pass
        answer = await plane.call("GET", "/sandbox", 401, headers=bearing(short))
        assert "expired" in answer["message"]


async def test_a_key_does_what_it_is_good_for(plane: Plane) -> None:
    sandbox = await plane.create(name="box")
    looking, writing = (
        await new_key(plane, "local", "read:volumes"),
        await new_key(plane, "local", "write:sandboxes", "read:audit_logs", name="writer"),
    )
    await plane.call("GET", "/sandbox/box", headers=bearing(looking))
    answer = await plane.call("POST", "/sandbox/box/stop", 403, headers=bearing(looking))
    assert "write:sandboxes" in answer["message"]
    await plane.call("GET", "/audit", 403, headers=bearing(looking))
    await plane.call("GET", "/audit", headers=bearing(writing))
    await plane.call("POST", "/sandbox/box/stop", headers=bearing(writing))
    await plane.call("DELETE", "/sandbox/box", 403, headers=bearing(writing))
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}/ssh-access", headers=bearing(writing))
    more = {"name": "more", "permissions": ["delete:sandboxes"]}
    await plane.call("POST", "/api-keys", 403, json=more, headers=bearing(writing))
    await plane.call("POST", "/leftovers", 403, headers=bearing(writing))


async def test_organizations_do_not_see_each_other(plane: Plane) -> None:
    ours, theirs = bearing(await new_key(plane, "ours")), bearing(await new_key(plane, "theirs"))
    box = await plane.call("POST", "/sandbox", json={"name": "box"}, headers=ours)
    assert box["organizationId"] == "ours"
    same_name = await plane.call("POST", "/sandbox", json={"name": "box"}, headers=theirs)
    await plane.call("POST", "/sandbox", 409, json={"name": "box"}, headers=theirs)
    assert (await plane.call("GET", "/sandbox/box", headers=ours))["id"] == box["id"]
    assert (await plane.call("GET", "/sandbox/box", headers=theirs))["id"] == same_name["id"]
    for headers, found in ((ours, [box["id"]]), (theirs, [same_name["id"]]), (bearing(plane.api_key), [])):
        assert [each["id"] for each in (await plane.call("GET", "/sandbox", headers=headers))["items"]] == found
        assert (await plane.call("GET", "/sandbox/paginated", headers=headers))["total"] == len(found)
    for method, path in (
        ("GET", ""),
        ("POST", "/stop"),
        ("DELETE", ""),
        ("GET", "/ports/80/preview-url"),
        ("GET", "/signing-key"),
        ("GET", "/telemetry/metrics"),
        ("GET", "/daemon-logs"),
    ):
        await plane.call(method, f"/sandbox/{box['id']}{path}", 404, headers=theirs)
    await plane.toolbox("POST", box, "/process/execute", 404, json={"command": "id"}, headers=theirs)
    await plane.toolbox("POST", box, "/process/execute", 200, json={"command": "id"}, headers=ours)
    preview = f"{plane.origin}/preview/80/{box['id']}/"
    async with plane.http.get(preview, headers=theirs) as response:
        assert response.status == 401
    async with plane.http.get(preview, headers=ours) as response:
        assert response.status == 502  # nobody listens there
    # The machine's own key acts for whom it says.
    acting = bearing(plane.api_key, "ours")
    assert (await plane.call("GET", "/sandbox/box", headers=acting))["id"] == box["id"]
    refused = await plane.call("GET", "/sandbox", 403, headers={**theirs, "X-Daytona-Organization-ID": "ours"})
    assert "another organization" in refused["message"]


async def test_warm_pools_and_keys_are_an_organizations_own(plane: Plane) -> None:
    ours, theirs = bearing(await new_key(plane, "ours")), bearing(await new_key(plane, "theirs"))
    pool = await plane.call("POST", "/warm-pools", 201, json={"snapshot": "default", "pool": 1}, headers=ours)
    assert await plane.call("GET", "/warm-pools", headers=theirs) == []
    await plane.call("PATCH", f"/warm-pools/{pool['id']}", 404, json={"pool": 2}, headers=theirs)
    await plane.call("DELETE", f"/warm-pools/{pool['id']}", 404, headers=theirs)
    assert [each["name"] for each in await plane.call("GET", "/api-keys", headers=theirs)] == ["ci"]
    await plane.call("DELETE", f"/warm-pools/{pool['id']}", 204, headers=ours)


async def test_jwt_without_keys_says_so(plane: Plane) -> None:
    answer = await plane.call("GET", "/sandbox", 401, headers=bearing(token()))
    assert "jwks-url" in answer["message"]


async def test_jwts(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(key_set()))
    options = {"jwks_file": str(file), "jwt_audience": "sandboxes", "jwt_issuer": "https://login.example"}
    async with plane_on(tmp_path / "state", **options) as plane:
        good = token(organizations=["red", "blue"], email="alice@example.org")
        made = await plane.call("POST", "/sandbox", json={"name": "box"}, headers=bearing(good, "blue"))
        assert made["organizationId"] == "blue"
        assert (await plane.call("GET", "/sandbox", headers=bearing(good)))["items"] == []
        await plane.call("GET", "/sandbox", 403, headers=bearing(good, "green"))
        entry = (await plane.call("GET", "/audit", headers=bearing(good, "blue")))["items"][0]
        assert (entry["actorId"], entry["actorEmail"]) == ("alice", "alice@example.org")
        alone = await plane.call("POST", "/sandbox", json={}, headers=bearing(token()))
        assert alone["organizationId"] == "alice"
        unsigned = jwt.encode({"sub": "alice", "exp": time.time() + 60}, "", algorithm="none", headers={"kid": "one"})
        by_public_key = jwt.encode(
            {"sub": "alice", "exp": time.time() + 60, "aud": "sandboxes"}, "x" * 32, headers={"kid": "one"}
        )
        for bad in (
            token(OTHER_KEY),
            token(key_id="two"),
            token(exp=time.time() - 60),
            token(aud="others"),
            token(iss="https://elsewhere.example"),
            token(sub=None),
            good[:-8] + "AAAAAAAA",
            unsigned,
            by_public_key,
        ):
            await plane.call("GET", "/sandbox", 401, headers=bearing(bad))
        async with AsyncDaytona(
            DaytonaConfig(jwt_token=good, organization_id="blue", api_url=plane.api_url)
        ) as daytona:
            assert [each.name async for each in daytona.list()] == ["box"]
        configured = await plane.call("GET", "/config")
        assert configured["oidc"]["issuer"] == "https://login.example"


@asynccontextmanager
async def provider(answers: list[Any]) -> AsyncIterator[str]:
    """Serve key sets, one after another, the last one for ever; None is a failure."""

    async def keys(_: web.Request) -> web.Response:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return web.json_response(found) if found is not None else web.Response(status=500)

    app = web.Application()
    app.router.add_get("/keys", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    await runner.cleanup()


async def test_keys_from_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.tokens._AGAIN_SECONDS", 0.0)
    answers = [None, {"keys": "?"}, key_set(), key_set(OTHER_KEY, "two"), None]
    async with provider(answers) as url, plane_on(tmp_path / "state", jwks_url=url) as plane:
        for _ in range(2):
            await plane.call("GET", "/sandbox", 503, headers=bearing(token(aud=None)))
        await plane.call("GET", "/sandbox", headers=bearing(token(aud=None)))
        # A key that is not known yet is looked up: identity providers rotate theirs.
        await plane.call("GET", "/sandbox", headers=bearing(token(OTHER_KEY, "two")))
        await plane.call("GET", "/sandbox", 401, headers=bearing(token()))
        await plane.call("GET", "/sandbox", headers=bearing(token(OTHER_KEY, "two")))


async def test_unusable_key_sets_stop_the_start(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text("[]")
    for options in ({"jwks_file": str(file)}, {"jwks_file": str(file), "jwks_url": "http://127.0.0.1:1"}):
        with pytest.raises(ConfigError, match="jwks"):
            async with plane_on(tmp_path / "state", **options):
                pass


async def test_rate_limit(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state", rate_limit="3") as plane:
        configured = await plane.call("GET", "/config")
        assert configured["rateLimit"] == {"authenticated": {"ttl": 60, "limit": 3}}
        statuses = set()
        for _ in range(8):  # a window may end among them
            async with plane.http.get(plane.api_url + "/sandbox") as response:
                statuses.add(response.status)
                assert response.headers["X-RateLimit-Limit-authenticated"] == "3"
                assert int(response.headers["X-RateLimit-Remaining-authenticated"]) <= 2
                assert 1 <= int(response.headers["X-RateLimit-Reset-authenticated"]) <= 60
                if response.status == 429:
                    assert 1 <= int(response.headers["Retry-After"]) <= 60
                    assert (await response.json())["code"] == "RATE_LIMITED"
        assert statuses == {200, 429}
        async with plane.http.get(plane.origin + "/healthz") as response:
            assert response.status == 200


def test_windows_begin_anew() -> None:
    from controlplane.callers import Caller

    now = 59.0
    limit = RateLimit(1, clock=lambda: now)
    first, second = Caller(actor_id="a", organization_id="o"), Caller(actor_id="b", organization_id="o")
    assert limit.count(first)["X-RateLimit-Remaining-authenticated"] == "0"
    limit.count(second)
    with pytest.raises(TooManyRequests) as refused:
        limit.count(first)
    assert refused.value.headers["Retry-After"] == "1"
    now = 60.0
    limit.count(first)


async def test_failed_logins_are_counted_and_lock_nobody_out(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.limits.FAILURES_PER_MINUTE", 3)

    async def get(authorization: str) -> int:
        async with plane.http.get(plane.api_url + "/sandbox", headers={"Authorization": authorization}) as response:
            if response.status == 429:
                assert 1 <= int(response.headers["Retry-After"]) <= 60
                assert (await response.json())["code"] == "RATE_LIMITED"
            return response.status

    # A window may end among them.
    assert {await get(f"Bearer wrong-{number}") for number in range(8)} == {401, 429}
    assert await get(f"Bearer {plane.api_key}") == 200
    assert {await get("") for _ in range(8)} == {401}  # no attempt to log in


def test_failed_logins_are_counted_by_address_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 59.0
    failed = FailedLogins(clock=lambda: now)
    monkeypatch.setattr("controlplane.limits.FAILURES_PER_MINUTE", 2)
    monkeypatch.setattr("controlplane.limits._MOST_ADDRESSES", 4)

    def refused(address: str | None) -> bool:
        try:
            failed.count(address)
        except TooManyRequests:
            return True
        return False

    assert [refused("192.0.2.1"), refused("::ffff:192.0.2.1"), refused("192.0.2.1")] == [False, False, True]
    assert [refused(f"2001:db8::{number}") for number in range(3)] == [False, False, True]
    assert [refused("2001:db8:0:1::1"), refused(None)] == [False, False]
    # Those that there is no room for count together.
    assert [refused(f"192.0.2.{number}") for number in range(2, 6)] == [False, True, True, True]
    now = 60.0
    assert not refused("192.0.2.1")


async def test_configuration_is_what_the_published_client_reads(plane: Plane) -> None:
    from daytona_api_client.models.daytona_configuration import DaytonaConfiguration

    async with aiohttp.ClientSession() as stranger, stranger.get(plane.api_url + "/config") as response:
        text = await response.text()
    found = DaytonaConfiguration.from_json(text)
    assert found is not None
    assert found.default_snapshot == "default"
    assert found.proxy_toolbox_url == f"{plane.origin}/toolbox"
    assert (
        found.proxy_template_url == f"http://{{{{PORT}}}}-{{{{sandboxId}}}}.localhost:{plane.origin.rpartition(':')[2]}"
    )
    assert found.ssh_gateway_port is None


async def test_configuration_with_ssh(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state", ssh_port="0") as plane:
        found = await plane.call("GET", "/config")
    assert found["sshGatewayPort"] == plane.ssh_port
    assert found["sshGatewayHost"] == "127.0.0.1"
    assert found["sshGatewayHostKeys"][0].startswith("ssh-ed25519 ")
    assert found["sshGatewayHostKeyFingerprints"][0].startswith("SHA256:")


async def test_a_key_revoked_while_uses_are_written_stays_revoked(plane: Plane) -> None:
    keys = [await new_key(plane, "local", name=f"key-{number}") for number in range(40)]
    for key in keys:
        await plane.call("GET", "/sandbox", headers=bearing(key))
    # The list writes when each was last used, one after another.
    await asyncio.gather(plane.call("GET", "/api-keys"), plane.call("DELETE", "/api-keys/key-39", 204))
    await plane.call("GET", "/sandbox", 401, headers=bearing(keys[39]))
    await plane.call("GET", "/sandbox", headers=bearing(keys[38]))

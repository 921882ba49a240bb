"""Secrets as documents: written, never read."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from controlplane.drivers.process import ProcessDriver
from controlplane.secrets import Secret
from controlplane.vault import Vault
from tests.controlplane.conftest import Plane, plane_on
from toolbox.errors import Unavailable

VALUE = "swordfish-8c1f"


async def create(plane: Plane, name: str, **fields: Any) -> Any:
    return await plane.call("POST", "/secret", 201, json={"name": name, "value": VALUE, **fields})


async def test_created_changed_removed(plane: Plane) -> None:
    made = await create(plane, "api-key", hosts=["API.example.com", "*.example.org"], description="d")
    assert made["hosts"] == ["api.example.com", "*.example.org"]
    assert made["placeholder"].startswith("dtn_secret_")
    assert await plane.call("GET", f"/secret/{made['id']}") == made
    assert await plane.call("GET", "/secret") == [made]
    changed = await plane.call("PATCH", f"/secret/{made['id']}", json={"value": "other", "hosts": []})
    assert changed == {**made, "hosts": [], "updatedAt": changed["updatedAt"]}
    assert "value" not in changed
    assert "sealed" not in changed
    await plane.call("POST", "/secret", 409, json={"name": "api-key", "value": "x"})
    await plane.call("DELETE", f"/secret/{made['id']}", 204)
    await plane.call("GET", f"/secret/{made['id']}", 404)
    await plane.call("DELETE", f"/secret/{made['id']}", 404)
    await plane.call("PATCH", f"/secret/{made['id']}", 404, json={})


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("name", ["", "1x", "a b", "a/b", "ä", "a" * 257]),
        ("value", ["", "two\nlines", "a\rb", "nul\0", "x" * 65537]),
        ("hosts", [["host:80"], ["*"], ["https://a"], ["a.*.b"], ["[::1]"], ["a" * 254], [""]]),
    ],
)
async def test_wrong_fields_are_refused_by_name(plane: Plane, field: str, wrong: list[Any]) -> None:
    for each in wrong:
        refused = await plane.call("POST", "/secret", 400, json={"name": "a", "value": "swordfish", field: each})
        assert refused["message"].startswith(field)
        assert "swordfish" not in str(refused)
    assert await plane.call("GET", "/secret") == []


async def test_pages(plane: Plane) -> None:
    for name in ("b", "a", "ab", "c"):
        await create(plane, name)
    for order, expected in (("asc", ["a", "ab", "b", "c"]), ("desc", ["c", "b", "ab", "a"])):
        found, cursor = [], ""
        while True:
            page = await plane.call("GET", f"/secret/paginated?limit=3&sort=name&order={order}&cursor={cursor}")
            assert page["total"] == 4
            found += [each["name"] for each in page["items"]]
            if page["nextCursor"] is None:
                break
            cursor = page["nextCursor"]
        assert found == expected
    newest = await plane.call("GET", "/secret/paginated?name=A")
    assert [each["name"] for each in newest["items"]] == ["ab", "a"]
    assert newest["nextCursor"] is None
    for wrong in ("limit=0", "limit=201", "sort=value", "order=up", "cursor=x"):
        await plane.call("GET", f"/secret/paginated?{wrong}", 400)
    await plane.call("GET", f"/secret/paginated?sort=name&order=asc&cursor={cursor}", 400)


async def test_at_rest_nothing_is_in_clear(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state") as plane:
        await create(plane, "a")
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]
    key = tmp_path / "state/controlplane/vault-key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    database = b"".join(path.read_bytes() for path in files if "sqlite" in path.name)
    assert key.read_bytes().strip() not in database


def test_a_vault_opens_only_what_it_sealed_for_this() -> None:
    vault = Vault("one key")
    sealed = vault.seal("text", purpose="a")
    assert vault.open(sealed, purpose="a") == "text"
    assert vault.seal("text", purpose="a") != sealed
    for other, purpose in ((vault, "b"), (Vault("another key"), "a")):
        with pytest.raises(Unavailable) as refused:
            other.open(sealed, purpose=purpose)
        assert "text" not in refused.value.message


def test_hosts() -> None:
    def allows(hosts: list[str], host: str) -> bool:
        secret = Secret(id="", name="", placeholder="", sealed="", hosts=hosts, created_at="", updated_at="")
        return secret.allows(host)

    assert allows([], "any.where")
    assert allows(["a.com"], "a.com")
    assert not allows(["a.com"], "b.a.com")
    assert not allows(["a.com"], "a.com.evil")
    assert allows(["*.a.com"], "b.a.com")
    assert allows(["*.a.com"], "c.b.a.com")
    assert not allows(["*.a.com"], "a.com")
    assert not allows(["*.a.com"], "evila.com")


async def test_what_a_sandbox_cannot_have(plane: Plane) -> None:
    await create(plane, "known")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"secrets": [{"A": "unknown"}]}, "unknown"),
        ({"secrets": [{"1A": "known"}]}, "1A"),
        ({"secrets": [{"A": "known"}, {"A": "known"}]}, "A"),
        ({"secrets": [{"A": "known"}], "env": {"A": "b"}}, "A"),
        ({"secrets": [{"HTTPS_PROXY": "known"}]}, "HTTPS_PROXY"),
        ({"secrets": [{"A": "known"}], "env": {"SSL_CERT_FILE": "/x"}}, "SSL_CERT_FILE"),
    ]
    for wanted, name in refused:
        answer = await plane.call("POST", "/sandbox", 400, json=wanted)
        assert name in answer["message"]
    assert (await plane.call("GET", "/sandbox"))["items"] == []


async def test_a_driver_without_the_proxy_refuses_secrets(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(plane, "known")
    sandbox = await plane.create()
    monkeypatch.setattr(ProcessDriver, "egress", None)
    wanted = {"secrets": [{"A": "known"}]}
    for method, path in (("POST", "/sandbox"), ("PUT", f"/sandbox/{sandbox['id']}/secrets")):
        refused = await plane.call(method, path, 400, json=wanted)
        assert (refused["code"], "secrets" in refused["message"]) == ("NOT_SUPPORTED_BY_DRIVER", True)
    await plane.call("PUT", f"/sandbox/{sandbox['id']}/secrets", json={"secrets": []})


async def test_network_settings_are_refused_by_a_driver_without(plane: Plane) -> None:
    sandbox = await plane.create()
    path = f"/sandbox/{sandbox['id']}/network-settings"
    for wanted in ({"networkBlockAll": True}, {"networkAllowList": "10.0.0.0/8"}, {"domainAllowList": "a.com"}, {}):
        refused = await plane.call("POST", path, 400, json=wanted)
        assert refused["code"] == "NOT_SUPPORTED_BY_DRIVER"
        assert "networkBlockAll" in refused["message"]
    for field, wrong in (("networkAllowList", "10.0.0.0/99"), ("domainAllowList", "a b")):
        assert field in (await plane.call("POST", path, 400, json={field: wrong}))["message"]
    await plane.call("POST", "/sandbox/nowhere/network-settings", 404, json={"networkBlockAll": True})
    assert json.dumps(await plane.call("GET", f"/sandbox/{sandbox['id']}")).count("AllowList") == 0

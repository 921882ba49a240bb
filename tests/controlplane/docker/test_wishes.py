"""Every field of a create: honoured, or refused by its name."""

from typing import Any

import msgspec
import pytest

from controlplane.models import CreateSandbox
from tests.controlplane.conftest import Plane

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

HONOURED: dict[str, Any] = {
    "name": "called",
    "snapshot": "default",
    "user": "nobody",
    "env": {"A": "b"},
    "labels": {"team": "x"},
    "public": True,
    "target": "here",
    "cpu": 1,
    "memory": 2,
    "networkBlockAll": True,
    "outboundProxyUrl": "http://proxy.test:1",
    "autoStopInterval": 7,
    "autoArchiveInterval": 8,
    "autoDeleteInterval": 9,
    "queueTimeout": 4,
}
"""Values that come back as they went in, all at once."""
REFUSED: dict[str, Any] = {
    "gpu": 1,
    "gpuType": ["A100"],
    "spot": True,
    "kvm": True,
    "networkAllowList": "10.0.0.0/8",
    "domainAllowList": "example.org",
    "otelEndpointOverride": "http://otel.test",
    "linkedSandbox": "other",
}
ELSEWHERE = {
    "disk": "where the storage can limit it",
    "buildInfo": "test_builds",
    "volumes": "test_volumes",
    "secrets": "test_secrets",
    "autoPauseInterval": "below, since it excludes autoStopInterval",
    "ttlMinutes": "below, since it comes back as a time",
}


def test_table_is_complete() -> None:
    names = {each.encode_name for each in msgspec.structs.fields(CreateSandbox)}
    assert names == {*HONOURED, *REFUSED, *ELSEWHERE}


async def test_honoured(plane: Plane) -> None:
    sandbox = await plane.create(**HONOURED)
    assert {name: sandbox[name] for name in HONOURED} == HONOURED
    assert await plane.execute(sandbox, "id -un; echo $A $HTTP_PROXY; ls /sys/class/net") == (
        "nobody\nb http://proxy.test:1\nlo"
    )
    other = await plane.create(autoPauseInterval=3, ttlMinutes=60)
    assert (other["autoPauseInterval"], other["autoStopInterval"]) == (3, 0)
    assert other["autoDestroyAt"] > other["createdAt"]


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(plane: Plane, name: str) -> None:
    answer = await plane.call("POST", "/sandbox", expect=400, json={name: REFUSED[name]})
    assert name in answer["message"]
    assert (await plane.call("GET", "/sandbox"))["items"] == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cpu", {"cpu": 100_000}),
        ("memory", {"memory": 10_000_000}),
        ("disk", {"disk": 100_000_000}),
        ("user", {"user": "two words"}),
        ("autoPauseInterval", {"autoPauseInterval": 1, "autoStopInterval": 1}),
        ("volumes", {"volumes": [{"volumeId": "v", "mountPath": "/opt"}]}),
        ("volumes", {"volumes": [{"volumeId": "v", "mountPath": "/run/sandbox-toolbox/x"}]}),
        ("volumes", {"volumes": [{"volumeId": "v", "mountPath": "/var/lib"}]}),
        ("volumes", {"volumes": [{"volumeId": "v", "mountPath": "/a:b"}]}),
    ],
)
async def test_refused_for_its_value(plane: Plane, name: str, wanted: dict[str, Any]) -> None:
    answer = await plane.call("POST", "/sandbox", expect=400, json=wanted)
    assert answer["message"].startswith(f"{name}: ")

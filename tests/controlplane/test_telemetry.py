"""Metrics of sandboxes: sampled, kept, cut off by age, given out as the published client reads them."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from daytona_api_client.models.metrics_response import MetricsResponse

from controlplane import telemetry
from controlplane.history import Sample, SqliteHistory
from controlplane.store import SqliteRepository
from tests.controlplane.conftest import Plane, plane_on


async def series(plane: Plane, name: str = "box", **query: Any) -> dict[str, list[Any]]:
    """Return metric -> its points."""
    answer = await plane.call("GET", f"/sandbox/{name}/telemetry/metrics", params=query)
    assert MetricsResponse.from_dict(answer) is not None
    return {each["metricName"]: each["dataPoints"] for each in answer["series"]}


async def test_a_running_sandbox_has_metrics(plane: Plane) -> None:
    await plane.create(name="box")
    found = await series(plane)
    assert set(found) == set(telemetry.METRICS)
    assert found["daytona.sandbox.memory.limit"][-1]["value"] > 0
    assert found["daytona.sandbox.cpu.limit"][-1]["value"] >= 1
    wanted = ["daytona.sandbox.cpu.limit", "daytona.sandbox.memory.usage"]
    assert set(await series(plane, metricNames=wanted)) == set(wanted)
    assert set(await series(plane, metricNames=",".join(wanted))) == set(wanted)
    before = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert not any((await series(plane, to=before)).values())
    await plane.call("GET", "/sandbox/box/telemetry/metrics?from=x", 400)
    await plane.call("GET", "/sandbox/none/telemetry/metrics", 404)
    await plane.call("POST", "/sandbox/box/stop")
    kept = await series(plane)
    assert len(kept["daytona.sandbox.cpu.limit"]) >= 3


async def test_samples_are_taken_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "SAMPLE_SECONDS", 0.02)
    async with plane_on(tmp_path / "state") as plane:
        sandbox = await plane.create(name="box")
        seen = (await plane.call("GET", "/sandbox/box"))["lastActivityAt"]
        path = plane.state_dir / "controlplane/sandboxes.sqlite"
        async with SqliteRepository(path) as store, asyncio.timeout(30):
            while len(await SqliteHistory(store).samples(sandbox["id"], "", "9")) < 3:
                await asyncio.sleep(0.01)
        assert (await plane.call("GET", "/sandbox/box"))["lastActivityAt"] == seen
        await plane.call("POST", "/sandbox/box/stop")
        assert len((await series(plane))["daytona.sandbox.cpu.limit"]) >= 3


async def test_old_samples_go(tmp_path: Path) -> None:
    async with SqliteRepository(tmp_path / "db") as store:
        history = SqliteHistory(store)
        values = dict.fromkeys(("cpu_count", "mem_total", "mem_used", "mem_cache", "disk_total", "disk_used"), 1)
        for at in ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"):
            await history.add_samples([Sample(sandbox_id="a", at=at, cpu_used_pct=0.5, **values)])
        await history.cut(entries_before="2020", samples_before="2020-01-02")
        assert [each.at for each in await history.samples("a", "", "9")] == ["2020-01-02T00:00:00Z"]
        await store.remove("a")
        assert await history.samples("a", "", "9") == []

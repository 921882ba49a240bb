"""What is due for sandboxes by themselves, at times that the tests give."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.drivers.cgroups import Cgroups
from controlplane.lifetimes import Lifetimes
from tests.controlplane.conftest import Plane, plane_on

Look = Callable[[timedelta], Awaitable[None]]


@pytest.fixture
async def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Plane, Look]]:
    """Return a control plane, and a function that lets it look at its sandboxes as if time had passed."""
    found: list[Lifetimes] = []

    class Kept(Lifetimes):
        def __init__(self, *services: Any) -> None:
            super().__init__(*services)
            found.append(self)

    monkeypatch.setattr("controlplane.app.Lifetimes", Kept)
    async with plane_on(tmp_path / "state") as plane:

        async def look(passed: timedelta) -> None:
            await found[0].look(datetime.now(UTC) + passed)

        yield plane, look


async def states(plane: Plane) -> dict[str, str]:
    return {each["name"]: each["state"] for each in (await plane.call("GET", "/sandbox"))["items"]}


async def settled(plane: Plane, name: str, state: str) -> None:
    while (await states(plane))[name] != state:
        await asyncio.sleep(0.01)


async def test_idle_sandboxes_stop(seen: tuple[Plane, Look]) -> None:
    plane, look = seen
    await plane.create(name="default")
    await plane.create(name="never", autoStopInterval=0)
    await plane.create(name="ephemeral", autoStopInterval=1, autoDeleteInterval=0)
    await look(timedelta(minutes=0.5))
    assert set((await states(plane)).values()) == {"started"}
    await look(timedelta(minutes=14))
    assert await states(plane) == {"default": "started", "never": "started"}
    await look(timedelta(minutes=16))
    assert await states(plane) == {"default": "stopped", "never": "started"}
    await plane.call("POST", "/sandbox/default/autostop/20")
    await plane.call("POST", "/sandbox/default/start")
    await look(timedelta(minutes=16))
    assert (await states(plane))["default"] == "started"


async def test_stopped_sandboxes_are_archived_and_deleted(seen: tuple[Plane, Look]) -> None:
    plane, look = seen
    await plane.create(name="soon", autoArchiveInterval=5)
    await plane.create(name="late", autoArchiveInterval=0)
    await plane.create(name="doomed", autoArchiveInterval=5, autoDeleteInterval=10)
    await plane.create(name="runs", autoArchiveInterval=1, autoDeleteInterval=1, autoStopInterval=0)
    for name in ("soon", "late", "doomed"):
        await plane.call("POST", f"/sandbox/{name}/stop")
    await look(timedelta(minutes=6))
    await settled(plane, "soon", "archived")
    await settled(plane, "doomed", "archived")
    await look(timedelta(minutes=17))
    assert await states(plane) == {"soon": "archived", "late": "stopped", "runs": "started"}
    await look(timedelta(days=29))
    assert (await states(plane))["late"] == "stopped"
    await look(timedelta(days=30, minutes=1))
    await settled(plane, "late", "archived")
    await plane.call("POST", "/sandbox/late/start")


async def test_a_lifetime_ends_in_any_state(seen: tuple[Plane, Look]) -> None:
    plane, look = seen
    for name in ("started", "stopped", "archived", "longer"):
        await plane.create(name=name, ttlMinutes=60 if name == "longer" else 30, autoStopInterval=0)
    for name in ("stopped", "archived"):
        await plane.call("POST", f"/sandbox/{name}/stop")
    await plane.call("POST", "/sandbox/archived/archive")
    await settled(plane, "archived", "archived")
    await look(timedelta(minutes=29))
    assert len(await states(plane)) == 4
    await look(timedelta(minutes=31))
    assert await states(plane) == {"longer": "started"}
    await plane.call("POST", "/sandbox/longer/ttl/0")
    await look(timedelta(days=1))
    assert await states(plane) == {"longer": "started"}


@pytest.mark.skipif(not Cgroups.find("toolboxd-test").can_freeze, reason="not possible here: no control groups")
async def test_idle_sandboxes_pause(seen: tuple[Plane, Look]) -> None:
    plane, look = seen
    await plane.create(name="idle", autoPauseInterval=5)
    await look(timedelta(minutes=6))
    assert await states(plane) == {"idle": "paused"}
    await plane.call("POST", "/sandbox/idle/start")
    assert await states(plane) == {"idle": "started"}

"""Lists: filters, order, cursors."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from controlplane.drivers.base import Resources
from controlplane.listing import Filter, Listing
from controlplane.models import CreateSandbox, ListQuery, Record
from controlplane.states import State
from controlplane.store import SqliteRepository, StoreError
from controlplane.wishes import new_record
from tests.controlplane.conftest import Plane
from toolbox.errors import BadRequest, Conflict


def record(name: str, **changes: Any) -> Record:
    made = new_record(CreateSandbox(name=name), Resources(cpu=1, memory=2, disk=3), snapshot="default", user="me")
    return msgspec.structs.replace(made, **{"state": State.STARTED, **changes})


@pytest.fixture
async def store(tmp_path: Any) -> AsyncIterator[SqliteRepository]:
    async with SqliteRepository(tmp_path / "db.sqlite") as found:
        yield found


async def names(store: SqliteRepository, repeated: dict[str, list[str]] | None = None, **query: Any) -> list[str]:
    given = msgspec.convert(query, ListQuery, strict=False)
    return [each.name for each in await store.page(Listing.parse(given, repeated or {}))]


@pytest.fixture
async def three(store: SqliteRepository) -> SqliteRepository:
    day = "2026-01-0{}T00:00:00.000000Z"
    await store.add(
        record(
            "Alpha",
            cpu=1,
            labels={"env": "dev", "a.b'\"": "x"},
            created_at=day.format(1),
            last_activity_at=day.format(9),
        )
    )
    await store.add(record("beta", cpu=2, public=True, created_at=day.format(2), last_activity_at=day.format(8)))
    await store.add(
        record(
            "gamma",
            cpu=4,
            state=State.STOPPED,
            target="eu",
            labels={"env": "dev", "more": "1"},
            created_at=day.format(3),
            last_activity_at=day.format(7),
            auto_destroy_at=day.format(9),
            recoverable=True,
        )
    )
    return store


async def test_filters(three: SqliteRepository) -> None:
    assert await names(three) == ["gamma", "beta", "Alpha"]
    assert await names(three, name="ALP") == ["Alpha"]
    assert await names(three, name="%") == []
    assert await names(three, labels="null") == ["gamma", "beta", "Alpha"]
    assert await names(three, labels='{"env":"dev"}') == ["gamma", "Alpha"]
    assert await names(three, labels='{"env":"dev","more":"1"}') == ["gamma"]
    assert await names(three, labels='{"a.b\'\\"":"x"}') == ["Alpha"]
    assert await names(three, {"states": ["stopped", "error"]}) == ["gamma"]
    assert await names(three, {"regionIds": ["eu"]}) == ["gamma"]
    assert await names(three, {"snapshots": ["other"]}) == []
    assert await names(three, {"sandboxClasses": ["container"]}) == ["gamma", "beta", "Alpha"]
    assert await names(three, minCpu="2", maxCpu="3.5") == ["beta"]
    assert await names(three, minMemoryGiB="3") == []
    assert await names(three, maxDiskGiB="3") == ["gamma", "beta", "Alpha"]
    assert await names(three, isPublic="true") == ["beta"]
    assert await names(three, isRecoverable="true") == ["gamma"]
    assert await names(three, createdAtAfter="2026-01-02T00:00:00.000000+0000") == ["gamma", "beta"]
    assert await names(three, createdAtBefore="2026-01-01T12:00:00Z") == ["Alpha"]
    assert await names(three, lastEventAfter="2026-01-08T06:00:00 02:00") == ["Alpha"]
    assert await names(three, autoDestroyAtBefore="2026-02-01T00:00:00Z") == ["gamma"]


async def test_order(three: SqliteRepository) -> None:
    assert await names(three, sort="name") == ["Alpha", "beta", "gamma"]
    assert await names(three, sort="cpu", order="desc") == ["gamma", "beta", "Alpha"]
    assert await names(three, sort="lastActivityAt", order="asc") == ["gamma", "beta", "Alpha"]


@pytest.mark.parametrize("sort", ["name", "cpu", "createdAt"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_cursor_visits_each_once(store: SqliteRepository, sort: str, order: str) -> None:
    for number in range(23):
        await store.add(record(f"box{number}", cpu=number % 3))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        listing = Listing.parse(ListQuery(limit=5, sort=sort, order=order, cursor=cursor), {})
        found = await store.page(listing)
        seen += [each.id for each in found]
        if len(found) < 5:
            break
        cursor = listing.position(found[-1]).cursor()
    assert len(seen) == len(set(seen)) == 23


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "201"},
        {"sort": "state"},
        {"order": "up"},
        {"cursor": "???"},
        {"cursor": "e30"},
        {"labels": "[]"},
        {"labels": "{"},
        {"createdAtAfter": "yesterday"},
    ],
    ids=str,
)
async def test_bad_queries(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        Listing.parse(msgspec.convert(query, ListQuery, strict=False), {})


async def test_store_keeps_names_unique_and_last_activity(store: SqliteRepository) -> None:
    first = record("one")
    await store.add(first)
    with pytest.raises(Conflict):
        await store.add(record("one"))
    later = "2030-01-01T00:00:00.000000Z"
    await store.touch({first.id: later, "unknown": later})
    await store.save(msgspec.structs.replace(first, labels={"x": "y"}))
    found = await store.find("one")
    assert found is not None
    assert (found.last_activity_at, found.labels) == (later, {"x": "y"})
    assert await store.count(Filter(labels={"x": "y"})) == 1
    await store.remove(first.id)
    assert await store.find("one") is None


async def test_store_of_a_newer_version_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "db.sqlite"
    async with SqliteRepository(path) as store:
        await store.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError):
        async with SqliteRepository(path):
            pass
    path.write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(StoreError):
        async with SqliteRepository(path):
            pass


async def test_pages_over_http(plane: Plane) -> None:
    made = [each["id"] for each in await asyncio.gather(*(plane.create(labels={"n": str(i)}) for i in range(3)))]
    first = await plane.call("GET", "/sandbox?limit=2&states=started&states=stopped")
    second = await plane.call("GET", "/sandbox", params={"limit": "2", "cursor": first["nextCursor"]})
    assert {each["id"] for each in first["items"] + second["items"]} == set(made)
    assert second["nextCursor"] is None
    assert "env" not in first["items"][0]
    page = await plane.call("GET", "/sandbox/paginated", params={"page": "2", "limit": "2"})
    assert (page["total"], page["page"], page["totalPages"], len(page["items"])) == (3, 2, 2, 1)
    assert "env" in page["items"][0]
    labelled = await plane.call("GET", "/sandbox/paginated", params={"labels": '{"n":"1"}'})
    assert labelled["total"] == 1
    await plane.call("GET", "/sandbox?limit=0", 400)

"""The layout of the database: an older one is brought up to date, with everything in it."""

import sqlite3
from pathlib import Path

import msgspec

from controlplane.models import EVERYBODY, Record
from controlplane.snapshots import Snapshot
from controlplane.states import Desired, State
from controlplane.store import _DOCUMENT_SCHEMA, _GRANT_SCHEMA, _SCHEMA, SqliteRepository, _row
from controlplane.volumes import Volume

NOW = "2026-01-01T00:00:00.000000Z"
RECORD = Record(
    id="0b0e7c1e",
    name="box",
    organization_id="local",
    state=State.STOPPED,
    desired_state=Desired.STOPPED,
    snapshot="default",
    user="root",
    env={},
    labels={},
    public=False,
    target="local",
    cpu=1,
    memory=1,
    disk=1,
    auto_stop_interval=0,
    auto_pause_interval=0,
    auto_archive_interval=0,
    auto_delete_interval=-1,
    created_at=NOW,
    updated_at=NOW,
    last_activity_at=NOW,
)


async def test_a_database_without_organizations(tmp_path: Path) -> None:
    path = tmp_path / "db"
    general = Snapshot(id="s", name="default", organization_id="local", general=True, created_at=NOW, updated_at=NOW)
    volume = Volume(id="v", name="data", organization_id="local", created_at=NOW, updated_at=NOW)
    with sqlite3.connect(path) as old:
        old.executescript(_SCHEMA + _GRANT_SCHEMA + _DOCUMENT_SCHEMA + "PRAGMA user_version = 3;")
        *columns, _, _, labels, document = _row(RECORD)
        values = [*columns, labels, document]
        old.execute(f"INSERT INTO sandbox VALUES ({', '.join('?' * len(values))})", values)
        for kind, found in (("snapshot", general), ("volume", volume)):
            row = (kind, found.id, found.name, NOW, msgspec.json.encode(found))
            old.execute("INSERT INTO document VALUES (?, ?, ?, ?, ?)", row)
    old.close()
    async with SqliteRepository(path) as store:
        assert await store.find("box") == RECORD
        assert await store.collection("snapshot", Snapshot).find("default") == general
        assert await store.collection("volume", Volume).find("data") == volume
        rows = await store.execute("SELECT kind, organization_id FROM document ORDER BY kind")
        assert rows == [("snapshot", EVERYBODY), ("volume", "local")]

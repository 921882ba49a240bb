"""The disk is full: what needs it says so, what was there is whole, and all is well once there is room."""

import asyncio
from pathlib import Path

from tests.faults.conftest import Start, fill

_KEPT = b"kept" * 1000


async def test_the_disk_of_the_state_is_full(small_disk: Path, remote: Start) -> None:
    daemon = await remote("--state-dir", str(small_disk / "state"), TMPDIR=str(small_disk))
    await daemon.works()
    assert (await daemon.call("POST", "/process/session", {"sessionId": "kept"}))[0] == 201
    assert (await daemon.session("kept", "seq 1 100000"))[1]["exitCode"] == 0
    _, before = await daemon.call("GET", "/process/session/kept")
    key = {"Idempotency-Key": "one"}
    rest = fill(small_disk)
    # Output that fits in memory needs no disk; a session's command does.
    assert await daemon.execute("echo hello") == "hello\n"
    assert (await daemon.call("POST", "/process/execute", {"command": "echo hello"}, headers=key))[0] == 507
    status, answer = await daemon.session("kept", "echo hello")
    assert (status, answer["exitCode"], answer["stderr"]) == (
        200,
        -1,
        "the command cannot be started: No space left on device\n",
    )
    outcomes = await daemon.tries()
    assert not outcomes & {500, 502}, outcomes
    # More than is kept in memory: the answer comes, and tells that it is not all.
    status, answer = await daemon.call("POST", "/process/execute", {"command": "seq 1 1000000; exit 3"})
    assert (status, answer["exitCode"]) == (200, 3)
    assert answer["result"].startswith("1\n2\n")
    assert "bytes cut" in answer["result"]
    rest.unlink()
    await daemon.works()
    status, answer = await daemon.call("POST", "/process/execute", {"command": "echo again"}, headers=key)
    assert status == 200 or answer["code"] == "CONFLICT"
    (command,) = [each for each in before["commands"] if each["command"] == "seq 1 100000"]
    _, log = await daemon.call("GET", f"/process/session/kept/command/{command['id']}/logs")
    assert log == "".join(f"{number}\n" for number in range(1, 100_001)).encode()
    assert (await daemon.session("kept", "echo hello"))[1]["stdout"] == "hello\n"
    assert not list((small_disk / "state/idempotency").glob("tmp*"))


async def test_the_disk_of_the_files_is_full(small_disk: Path, remote: Start) -> None:
    daemon = await remote("--work-dir", str(small_disk))
    assert await daemon.upload("kept", _KEPT) == 200
    rest = fill(small_disk)
    # An upload in parallel to one that cannot succeed: both are refused, and what was there stays.
    statuses = await asyncio.gather(*(daemon.upload(name, bytes(1_000_000)) for name in ("kept", "new")))
    assert statuses == [507, 507]
    assert await daemon.call("GET", "/files/download", params={"path": "kept"}) == (200, _KEPT)
    status, answer = await daemon.call(
        "POST", "/files/replace", {"files": ["kept"], "pattern": "kept", "newValue": "longer" * 1000}
    )
    assert status == 507 or not answer[0]["success"], answer
    assert await daemon.call("GET", "/files/download", params={"path": "kept"}) == (200, _KEPT)
    assert (await daemon.call("POST", "/git/clone", {"url": str(small_disk), "path": "clone"}))[0] >= 400
    assert sorted(each.name for each in small_disk.iterdir()) == ["kept", "rest"]
    rest.unlink()
    assert await daemon.upload("new", bytes(1_000_000)) == 200
    assert await daemon.call("GET", "/files/download", params={"path": "new"}) == (200, bytes(1_000_000))

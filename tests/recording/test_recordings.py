"""Recordings from their start to their end."""

import asyncio
import os
import re
import shutil
import signal
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.recording.conftest import Recorder, RunRecorder, ffmpegs, probe
from toolbox.children import tree


async def test_a_recording(recorder: Recorder) -> None:
    begun = await recorder.start(label="my test-1.x")
    assert (begun["status"], begun["label"]) == ("recording", "my test-1.x")
    assert (begun["width"], begun["height"], begun["fps"]) == (640, 480, 30)
    assert begun["filePath"] == str(recorder.directory / begun["fileName"])
    name = begun["fileName"].removeprefix(f"{uuid.UUID(begun['id'])}_my test-1.x_")
    assert re.fullmatch(r"\d{8}_\d{6}\.mp4", name)
    assert "endTime" not in begun
    assert (await recorder.get(begun))["status"] == "recording"
    await recorder.until_filmed(begun)
    done = await recorder.stop(begun)
    assert {**begun, **done} == done | {"status": "completed"}
    assert "reason" not in done
    film = await probe(done["filePath"])
    assert film["size"] == (640, 480)
    assert film["seconds"] == pytest.approx(done["durationSeconds"], abs=0.002)
    assert film["frames"] == pytest.approx(film["seconds"] * 30, abs=1)  # also if it was held up: pictures are repeated
    assert done["sizeBytes"] == Path(done["filePath"]).stat().st_size
    assert datetime.fromisoformat(begun["startTime"]) < datetime.fromisoformat(done["endTime"])
    assert [await recorder.get(done), *await recorder.list()] == [done, done]
    assert await recorder.call("DELETE", f"/recordings/{done['id']}") == (204, b"")
    assert await recorder.list() == []
    assert list(recorder.directory.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"json": {"label": ""}},
        {"json": {"label": 5}},
        {"json": {"label": None, "x": 1}},
        {"data": b"x"},
        {"json": []},
    ],
)
async def test_no_label(recorder: Recorder, options: dict[str, Any]) -> None:
    status, begun = await recorder.call("POST", "/recordings/start", **options)
    assert (status, begun["status"]) == (201, "recording")
    assert begun["fileName"].startswith(f"{begun['id']}_session_")
    assert "label" not in begun
    await recorder.stop(begun)


@pytest.mark.parametrize("label", ["../x", "a/b", "a\\b", ".hid", "   ", "x" * 101, "ünï", "a;b", "CON: x", "a\0b"])
async def test_labels_that_are_refused(run_recorder: RunRecorder, label: str) -> None:
    async with run_recorder(started=False) as recorder:
        body = await recorder.refused(400, "BAD_REQUEST", "POST", "/recordings/start", json={"label": label})
        assert body["error"] == "invalid_label"
        assert "label" in body["message"]


async def test_a_label_with_a_line_break_makes_an_ordinary_name(recorder: Recorder) -> None:
    begun = await recorder.start(label="a\nb")
    assert begun["label"] == "a\nb"
    assert "_a b_" in begun["fileName"]
    assert (await recorder.stop(begun))["label"] == "a\nb"


async def test_a_region_at_its_own_rate_without_the_pointer(recorder: Recorder) -> None:
    region = {"x": 11, "y": 7, "width": 201, "height": 99}
    begun = await recorder.start(fps=10, region=region, cursor=False)
    await recorder.until_filmed(begun)
    done = await recorder.stop(begun)
    assert (done["width"], done["height"], done["fps"]) == (202, 100, 10)
    film = await probe(done["filePath"])
    assert film["size"] == (202, 100)
    assert film["frames"] == pytest.approx(film["seconds"] * 10, abs=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"fps": 0},
        {"fps": 61},
        {"fps": "x"},
        {"region": {"x": 0, "y": 0, "width": 641, "height": 480}},
        {"region": {"x": 0, "y": 1, "width": 640, "height": 480}},
        {"region": {"x": -1, "y": 0, "width": 10, "height": 10}},
        {"region": {"x": 0, "y": 0, "width": 0, "height": 10}},
        {"region": {"x": 0}},
        {"cursor": "maybe"},
    ],
)
async def test_what_cannot_be_filmed(recorder: Recorder, fields: dict[str, Any]) -> None:
    status, body = await recorder.call("POST", "/recordings/start", json=fields)
    assert status == 400, body
    assert await recorder.list() == []


async def test_a_screen_of_odd_size(run_recorder: RunRecorder) -> None:
    async with run_recorder(resolution="333x251") as recorder:
        begun = await recorder.start()
        done = await recorder.stop(begun)
        assert (await probe(done["filePath"]))["size"] == (done["width"], done["height"]) == (334, 252)


async def test_two_at_once_and_no_more_than_allowed(run_recorder: RunRecorder) -> None:
    async with run_recorder(max_recordings="2") as recorder:
        first, second = await asyncio.gather(recorder.start(label="a"), recorder.start(label="b"))
        await recorder.refused(409, "CONFLICT", "POST", "/recordings/start")
        kept = await recorder.stop(first)
        listed = await recorder.list()
        assert [(each["id"], each["status"]) for each in listed] == [
            (second["id"], "recording"),
            (first["id"], "completed"),
        ]
        third = await recorder.start()
        for each in (await recorder.stop(second), kept, await recorder.stop(third)):
            assert (await probe(each["filePath"]))["frames"] > 0


async def test_stop_twice(recorder: Recorder) -> None:
    begun = await recorder.start()
    first, second = await asyncio.gather(recorder.stop(begun), recorder.stop(begun))
    assert first == second
    await recorder.refused(404, "NOT_FOUND", "POST", "/recordings/stop", json={"id": begun["id"]})


async def test_unknown_ids(run_recorder: RunRecorder) -> None:
    async with run_recorder(started=False) as recorder:
        assert await recorder.list() == []
        (recorder.directory.parent / "secret.mp4").parent.mkdir(parents=True)
        (recorder.directory.parent / "secret.mp4").write_bytes(b"x")
        for name in ("nope", str(uuid.uuid4()), "..%2Fsecret", "%2E%2E%2Fsecret.mp4", "a%00b"):
            await recorder.refused(404, "NOT_FOUND", "GET", f"/recordings/{name}")
            await recorder.refused(404, "NOT_FOUND", "GET", f"/recordings/{name}/download")
            await recorder.refused(404, "NOT_FOUND", "DELETE", f"/recordings/{name}")
        await recorder.refused(404, "NOT_FOUND", "POST", "/recordings/stop", json={"id": "nope"})
        for body in (b"", b"x", b"{}", b'{"id": ""}'):
            assert (await recorder.call("POST", "/recordings/stop", data=body))[0] == 400


async def test_an_active_one_is_not_deleted(recorder: Recorder) -> None:
    begun = await recorder.start()
    await recorder.refused(400, "RECORDING_STILL_ACTIVE", "DELETE", f"/recordings/{begun['id']}")
    assert (await recorder.stop(begun))["status"] == "completed"


async def test_the_desktop_is_not_started(run_recorder: RunRecorder) -> None:
    async with run_recorder(started=False) as recorder:
        await recorder.refused(503, "COMPUTER_USE_UNAVAILABLE", "POST", "/recordings/start")


async def test_stopping_the_desktop_finishes_recordings(recorder: Recorder) -> None:
    begun = await recorder.start()
    assert (await recorder.call("POST", "/stop"))[0] == 200
    done = await recorder.get(begun)
    assert (done["status"], done["reason"]) == ("completed", "the desktop was stopped")
    assert (await probe(done["filePath"]))["frames"] > 0


async def test_stopping_the_daemon_finishes_recordings(run_recorder: RunRecorder) -> None:
    async with run_recorder() as recorder:
        begun = await recorder.start(label="kept")
    async with run_recorder(started=False) as recorder:
        (done,) = await recorder.list()
        assert (done["id"], done["status"], done["label"]) == (begun["id"], "completed", "kept")
        assert (await probe(done["filePath"]))["seconds"] == pytest.approx(done["durationSeconds"], abs=0.002)


async def test_no_ffmpeg(run_recorder: RunRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("Xvfb", "bash", "dbus-daemon", "setpriv"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program) or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    async with run_recorder() as recorder:
        body = await recorder.refused(400, "RECORDING_FFMPEG_NOT_FOUND", "POST", "/recordings/start")
        assert body["error"] == "ffmpeg_not_found"
        assert await recorder.list() == []


async def test_ffmpeg_that_cannot_record_says_why(
    run_recorder: RunRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/ffmpeg"
    fake.write_text("#!/bin/sh\necho \"Unknown encoder 'libx264'\" >&2\nexit 8\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    async with run_recorder() as recorder:
        body = await recorder.refused(500, "RECORDING_FAILED", "POST", "/recordings/start")
        assert body["message"] == "ffmpeg ended: exit code 8: Unknown encoder 'libx264'"
        assert await recorder.list() == []
        assert list(recorder.directory.iterdir()) == []


async def test_a_directory_that_cannot_be_written_to(run_recorder: RunRecorder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with run_recorder(recordings_dir=str(tmp_path / "file/recordings")) as recorder:
        status, body = await recorder.call("POST", "/recordings/start")
        assert (status, body["code"]) == (400, "INVALID_FILE_PATH")
        assert ffmpegs() == []


async def test_ffmpeg_is_killed(recorder: Recorder) -> None:
    begun = await recorder.start()
    await recorder.until_filmed(begun, fragments=2)
    (pid,) = ffmpegs()
    os.kill(pid, signal.SIGKILL)
    failed = await recorder.until(begun, lambda found: found["status"] != "recording")
    assert (failed["status"], failed["reason"]) == ("failed", "ffmpeg ended: SIGKILL")
    film = await probe(failed["filePath"])
    assert film["seconds"] == pytest.approx(failed["durationSeconds"], abs=0.002)
    assert film["frames"] > 0
    assert await recorder.list() == [failed]
    await recorder.refused(404, "NOT_FOUND", "POST", "/recordings/stop", json={"id": begun["id"]})
    assert (await recorder.call("DELETE", f"/recordings/{begun['id']}"))[0] == 204


@pytest.mark.parametrize("cursor", [True, False])
async def test_the_screen_dies(recorder: Recorder, cursor: bool) -> None:
    begun = await recorder.start(cursor=cursor)
    await recorder.until_filmed(begun)
    for pid in tree.direct_children():
        if Path(f"/proc/{pid}/comm").read_text().strip() == "Xvfb":
            os.kill(pid, signal.SIGKILL)
    failed = await recorder.until(begun, lambda found: found["status"] != "recording")
    assert failed["status"] == "failed"
    assert re.search("xcb|desktop is not started|X server|there is a new one", failed["reason"])
    assert (await probe(failed["filePath"]))["frames"] > 0


async def test_as_long_as_allowed(run_recorder: RunRecorder) -> None:
    async with run_recorder(recording_limit_minutes="0") as recorder:
        begun = await recorder.start()
        done = await recorder.until(begun, lambda found: found["status"] != "recording")
        assert done["status"] == "completed"
        assert "as long as one may be" in done["reason"]


async def test_as_large_as_allowed(run_recorder: RunRecorder) -> None:
    async with run_recorder(recordings_limit_mb="1") as recorder:
        recorder.directory.mkdir(parents=True)
        other = recorder.directory / "other.mp4"
        other.write_bytes(bytes(1024 * 1024 - 1))
        begun = await recorder.start()
        done = await recorder.until(begun, lambda found: found["status"] != "recording")
        assert (done["status"], done["reason"]) == ("completed", "recordings are as large as they may be")
        assert (await probe(done["filePath"]))["frames"] > 0
        await recorder.refused(507, "INSUFFICIENT_STORAGE", "POST", "/recordings/start")
        other.unlink()
        await recorder.stop(await recorder.start())


async def test_a_client_that_leaves_before_the_answer(recorder: Recorder) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.03):
            await recorder.start()
    async with asyncio.timeout(30):
        while ffmpegs() or await recorder.list():
            await asyncio.sleep(0.05)

"""The files of recordings: downloads, what others put there, crashes, full disks, owners."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Toolboxd
from tests.recording.conftest import JsonObject, Recorder, RunRecorder, ffmpegs, probe, processes

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="not possible here: needs root")


@pytest.fixture
async def filmed(recorder: Recorder) -> JsonObject:
    """Return a recording that was made and stopped."""
    return await recorder.stop(await recorder.start(label="film"))


class TestDownload:
    async def test_the_whole_file(self, recorder: Recorder, filmed: JsonObject) -> None:
        content = Path(filmed["filePath"]).read_bytes()
        async with recorder.http.get(f"/computeruse/recordings/{filmed['id']}/download") as response:
            assert (response.status, await response.read()) == (200, content)
            assert response.content_type == "video/mp4"
            assert response.headers["Content-Length"] == str(len(content))
            assert response.headers["Accept-Ranges"] == "bytes"
            assert "GMT" in response.headers["Last-Modified"]
            assert response.content_disposition is not None
            assert response.content_disposition.filename == filmed["fileName"]
        async with recorder.http.head(f"/computeruse/recordings/{filmed['id']}/download") as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(len(content)))

    async def test_ranges(self, recorder: Recorder, filmed: JsonObject) -> None:
        content = Path(filmed["filePath"]).read_bytes()
        url = f"/computeruse/recordings/{filmed['id']}/download"
        async with recorder.http.get(url, headers={"Range": "bytes=4-99"}) as response:
            assert (response.status, await response.read()) == (206, content[4:100])
            assert response.headers["Content-Range"] == f"bytes 4-99/{len(content)}"
        async with recorder.http.get(url, headers={"Range": f"bytes={len(content)}-"}) as response:
            assert response.status == 416
            assert (await response.json())["code"] == "RANGE_NOT_SATISFIABLE"

    async def test_one_under_way_up_to_now(self, recorder: Recorder, tmp_path: Path) -> None:
        begun = await recorder.start()
        await recorder.until_filmed(begun)
        status, content = await recorder.call("GET", f"/recordings/{begun['id']}/download")
        assert status == 200
        (tmp_path / "part.mp4").write_bytes(content)
        assert (await probe(tmp_path / "part.mp4"))["frames"] > 0
        assert (await recorder.stop(begun))["sizeBytes"] > len(content)


async def test_files_of_others_are_listed(run_recorder: RunRecorder) -> None:
    async with run_recorder(started=False) as recorder:
        directory = recorder.directory
        (directory / "folder.mp4").mkdir(parents=True)
        (directory / "link.mp4").symlink_to("nowhere")
        (directory / "notes.txt").touch()
        (directory / ".hidden.mp4").touch()
        legacy, named = directory / "legacy.mp4", directory / f"{uuid.uuid4()}_session_20261123_172055.mp4"
        for at, path in enumerate((legacy, named)):
            path.write_bytes(b"0123456789")
            os.utime(path, (1_795_454_028 + at, 1_795_454_028 + at))
        listed = await recorder.list()
        assert [each["fileName"] for each in listed] == [named.name, legacy.name]
        assert listed[0]["id"] == named.name[:36]
        assert listed[1] == {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, str(legacy))),
            "fileName": "legacy.mp4",
            "filePath": str(legacy),
            "startTime": "2026-11-23T17:13:48.000000Z",
            "endTime": "2026-11-23T17:13:48.000000Z",
            "status": "completed",
            "sizeBytes": 10,
        }
        url = f"/recordings/{listed[1]['id']}"
        assert await recorder.call("GET", f"{url}/download") == (200, b"0123456789")
        assert (await recorder.call("DELETE", url))[0] == 204
        assert not legacy.exists()
        legacy.with_name(f"{named.stem}.json").write_text("not JSON")
        assert [each["status"] for each in await recorder.list()] == ["completed"]


async def test_useless_files_of_a_crash_are_removed(run_recorder: RunRecorder) -> None:
    async with run_recorder(started=False) as recorder:
        recorder.directory.mkdir(parents=True)
    name = f"{uuid.uuid4()}_session_20261123_172055.json"
    for each in (name, f".{name}.tmp", "other.json"):
        (recorder.directory / each).touch()
    async with run_recorder(started=False) as recorder:
        assert [each.name for each in recorder.directory.iterdir()] == ["other.json"]
        assert await recorder.list() == []


@pytest.fixture
def ended_screens(tmp_path: Path, reap_orphans: None) -> Iterator[None]:
    """End the X servers and session buses that a killed daemon of this test leaves, and remove their directories."""
    yield
    for pid in processes("dbus-daemon", tmp_path):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        address = next(word for word in words if word.startswith("--address=unix:path="))
        os.kill(pid, signal.SIGKILL)
        shutil.rmtree(Path(address.partition("path=")[2]).parent)
    for pid in processes("Xvfb", tmp_path):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def serve_alone(
    start_toolboxd: Callable[..., Awaitable[Toolboxd]],
) -> AsyncIterator[Callable[[], Awaitable[tuple[Toolboxd, Recorder]]]]:
    """Return a function that starts a daemon as a process of its own, always with the same directories."""
    sessions = []

    async def serve() -> tuple[Toolboxd, Recorder]:
        daemon = await start_toolboxd("serve", "--port", "0", env={"TOOLBOX_DESKTOP": "none"})
        sessions.append(aiohttp.ClientSession(f"http://127.0.0.1:{await daemon.port()}"))
        return daemon, Recorder(sessions[-1], Path())

    yield serve
    for session in sessions:
        await session.close()


async def test_the_daemon_is_killed(
    ended_screens: None, serve_alone: Callable[[], Awaitable[tuple[Toolboxd, Recorder]]], tmp_path: Path
) -> None:
    daemon, recorder = await serve_alone()
    assert (await recorder.call("POST", "/start"))[0] == 200
    begun = await recorder.start(label="cut")
    await recorder.until_filmed(begun, fragments=2)
    daemon.process.kill()
    await daemon.process.wait()
    _, recorder = await serve_alone()
    failed = await recorder.get(begun)
    assert (failed["status"], failed["reason"]) == ("failed", "the daemon ended before the recording did")
    assert (failed["label"], failed["startTime"]) == ("cut", begun["startTime"])
    film = await probe(failed["filePath"])
    assert film["frames"] > 0
    assert film["seconds"] == pytest.approx(failed["durationSeconds"], abs=0.002)
    assert failed["durationSeconds"] >= 1.5
    async with asyncio.timeout(20):
        while processes("ffmpeg", tmp_path):
            await asyncio.sleep(0.05)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that is a file system of 128 KiB."""
    (tmp_path / "small").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", tmp_path / "small"], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"not possible here: {mounted.stderr.decode().strip()}")
    yield tmp_path / "small"
    subprocess.run(["umount", tmp_path / "small"], check=True)


@needs_root
async def test_the_disk_is_full(run_recorder: RunRecorder, small_disk: Path) -> None:
    async with run_recorder(recordings_dir=str(small_disk)) as recorder:
        begun = await recorder.start(fps=60)
        await recorder.until_filmed(begun)
        with (small_disk / "rest").open("wb", 0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        failed = await recorder.until(begun, lambda found: found["status"] != "recording")
        assert (failed["status"], failed["reason"]) == (
            "failed",
            "the recording could not be written: no space left on device",
        )
        film = await probe(failed["filePath"])
        assert film["frames"] > 0
        assert film["seconds"] == pytest.approx(failed["durationSeconds"], abs=0.002)
        assert await recorder.list() == [failed]
        assert json.loads(Path(failed["filePath"]).with_suffix(".json").read_bytes())["status"] == "failed"
        await recorder.refused(507, "INSUFFICIENT_STORAGE", "POST", "/recordings/start")
        (small_disk / "rest").unlink()
        assert (await recorder.stop(await recorder.start()))["status"] == "completed"


@needs_root
async def test_files_belong_to_the_user(run_recorder: RunRecorder, tmp_path: Path) -> None:
    for above in [tmp_path, *tmp_path.parents]:
        if "pytest" in str(above):
            above.chmod(0o755)
    place = tmp_path / "home"
    place.mkdir()
    shutil.chown(place, "nobody")
    uid = pwd.getpwnam("nobody").pw_uid
    async with run_recorder(user="nobody", recordings_dir=str(place / "recordings")) as recorder:
        begun = await recorder.start()
        (pid,) = ffmpegs()
        assert Path(f"/proc/{pid}").stat().st_uid == uid
        done = await recorder.stop(begun)
        made = [place / "recordings", *(place / "recordings").iterdir()]
        assert {(path.stat().st_uid) for path in made} == {uid}
        assert len(made) == 3
        secret = tmp_path / "secret"
        secret.write_bytes(b"x")
        secret.chmod(0o600)
        film = Path(done["filePath"])
        film.unlink()
        film.symlink_to(secret)
        assert (await recorder.call("GET", f"/recordings/{done['id']}/download"))[0] == 403

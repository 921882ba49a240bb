"""Recordings of the published Python SDKs."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    DaytonaBadRequestError,
    DaytonaNotFoundError,
    DaytonaRecordingFfmpegNotFoundError,
    DaytonaRecordingStillActiveError,
    DaytonaServiceUnavailableError,
)

from tests.sdk.clients import Sdk, scenario


@pytest.fixture(scope="module")
def filmable(sdk: Sdk) -> Iterator[Any]:
    """Return a sandbox whose desktop is started."""
    created = sdk.run(sdk.daytona.create(CreateSandboxFromSnapshotParams()))
    sdk.run(created.computer_use.start())
    yield created
    sdk.run(created.delete(wait=True))


@pytest.fixture
def path_without_ffmpeg(tmp_path: Path) -> str:
    """Return a PATH of all programs but that one."""
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).glob("*"):
            link = tmp_path / program.name
            if program.name != "ffmpeg" and not link.is_symlink():
                link.symlink_to(program)
    return str(tmp_path)


@scenario
async def test_from_start_to_delete(sdk: Sdk, filmable: Any, tmp_path: Path) -> None:
    recording = filmable.computer_use.recording
    begun = await recording.start("my test-1.x")
    assert (begun.status, begun.end_time, begun.duration_seconds is not None) == ("recording", None, False)
    assert begun.file_path.endswith(begun.file_name)
    assert (await recording.get(begun.id)).status == "recording"
    with pytest.raises(DaytonaRecordingStillActiveError) as active:
        await recording.delete(begun.id)
    assert active.value.status_code == 400
    done = await recording.stop(begun.id)
    assert (done.id, done.status, done.start_time) == (begun.id, "completed", begun.start_time)
    assert done.duration_seconds > 0
    assert done.end_time > done.start_time
    assert [each.id for each in (await recording.list()).recordings] == [done.id]
    await recording.download(done.id, str(tmp_path / "film.mp4"))
    content = (tmp_path / "film.mp4").read_bytes()
    assert (len(content), content[4:8]) == (done.size_bytes, b"ftyp")
    assert await filmable.fs.download_file(done.file_path) == content
    await recording.delete(done.id)
    assert (await recording.list()).recordings == []


@scenario
async def test_what_is_refused(sdk: Sdk, filmable: Any, tmp_path: Path) -> None:
    recording = filmable.computer_use.recording
    with pytest.raises(DaytonaBadRequestError, match="label"):
        await recording.start("../x")
    for refused in (recording.stop, recording.get, recording.delete):
        with pytest.raises(DaytonaNotFoundError, match="recording not found"):
            await refused("nope")
    with pytest.raises(Exception, match="404"):
        await recording.download("nope", str(tmp_path / "film.mp4"))


@scenario
async def test_without_a_label_and_stopped_twice(sdk: Sdk, filmable: Any) -> None:
    recording = filmable.computer_use.recording
    begun = await recording.start()
    assert begun.file_name.startswith(f"{begun.id}_session_")
    await recording.stop(begun.id)
    with pytest.raises(DaytonaNotFoundError):
        await recording.stop(begun.id)
    await recording.delete(begun.id)


@scenario
async def test_without_a_desktop_or_ffmpeg(sdk: Sdk, path_without_ffmpeg: str) -> None:
    bare = await sdk.daytona.create(CreateSandboxFromSnapshotParams(env_vars={"PATH": path_without_ffmpeg}))
    try:
        with pytest.raises(DaytonaServiceUnavailableError, match="not started"):
            await bare.computer_use.recording.start()
        assert (await bare.computer_use.recording.list()).recordings == []
        await bare.computer_use.start()
        with pytest.raises(DaytonaRecordingFfmpegNotFoundError) as missing:
            await bare.computer_use.recording.start()
        assert missing.value.status_code == 400
    finally:
        await bare.delete(wait=True)

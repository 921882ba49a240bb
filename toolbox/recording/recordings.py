"""The recordings of a sandbox's screen, those under way and those that are kept."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from msgspec import UNSET

from toolbox.children.process import Children
from toolbox.children.spool import Spool
from toolbox.errors import BadRequest, Conflict, InsufficientStorage, NotFound
from toolbox.lifetime import TaskSet
from toolbox.recording import ffmpeg
from toolbox.recording.capture import Capture, Limits
from toolbox.recording.directory import Directory
from toolbox.recording.errors import InvalidLabel, RecordingFailed, StillActive
from toolbox.recording.models import Recording, Region, StartRecordingRequest, timestamp
from toolbox.threads import Threads
from toolbox.web.downloads import Download

log = logging.getLogger(__name__)

_LABEL = re.compile(r"(?!\.)[\w.\s-]{1,100}", re.ASCII)
_BLANK = re.compile(r"\s")
_WORDS_BYTES = 64 * 1024
_LAST_SECONDS = 2.0
"""How long ffmpeg may take when the desktop or the daemon is about to end."""
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What is known of the screen, and may change: each raises an error of its own when there is none."""

    environ: Callable[[], Mapping[str, str]]
    """The variables of a program on it."""
    size: Callable[[], Awaitable[tuple[int, int]]]
    """Its width and height in pixels."""
    server: Callable[[], Awaitable[int]]
    """The process that shows it: another one has none of the windows of the one before."""


class Recordings:
    """Films the screen, and keeps the films in `directory`. Leaving it stops what is being filmed."""

    def __init__(
        self,
        children: Children,
        threads: Threads,
        screen: Screen,
        *,
        directory: Path,
        spool: Path,
        at_once: int,
        limit_seconds: float,
        limit_bytes: int,
    ) -> None:
        self.threads = threads
        self._children = children
        self._screen = screen
        self._directory = Directory(directory)
        self._spool = spool
        self._at_once = at_once
        self._limit_seconds = limit_seconds
        self._limit_bytes = limit_bytes
        self._kept_bytes = 0
        self._captures: dict[str, Capture] = {}
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        try:
            await self.threads.run(self._directory.recover)
        except OSError as error:
            log.warning("recordings that were interrupted could not be settled: %s", error)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_all()
        await self._tasks.close()

    async def start(self, request: StartRecordingRequest) -> Recording:
        """Start one, and return when its first picture has been taken.

        Raises `InvalidLabel`, `BadRequest` for a region that is not on the screen, `FfmpegNotFound`, `Conflict` for
        more at once than allowed, `InsufficientStorage`, `RecordingFailed` with what ffmpeg said, and what `Screen`
        raises when there is none.
        """
        label = _checked(request.label)
        environ, size = self._screen.environ(), await self._screen.size()
        region, server = _on_screen(request.region, *size), await self._screen.server()
        program = await self.threads.run(ffmpeg.find, environ)
        await self.threads.run(self._directory.make)
        await self._look_for_room()
        capture = self._capture(label, region, request.fps, server)
        display = environ["DISPLAY"]
        argv = ffmpeg.command(program, display, region, fps=request.fps, cursor=request.cursor)
        running = self._tasks.start(capture.run(argv, environ, Spool(self._spool, _WORDS_BYTES)), "recording")
        running.add_done_callback(partial(self._forget, capture))
        try:
            await capture.begun.wait()
        except asyncio.CancelledError:
            self._tasks.start(self._drop(capture), "drop a recording")
            raise
        if capture.failure is not None:
            raise capture.failure
        return capture.recording

    async def stop(self, recording_id: str) -> Recording:
        """End one that is under way. Raises `NotFound`, also for one that has ended."""
        capture = self._captures.get(recording_id)
        if capture is not None:
            return await capture.stop()
        ended = await self.get(recording_id)
        raise NotFound(f"recording not found among those under way, it has {ended.status}: {recording_id}")

    async def stop_all(self) -> None:
        """End what is under way, since the desktop or the daemon is about to be stopped."""
        ending = (
            capture.stop("the desktop was stopped", patience=_LAST_SECONDS) for capture in self._captures.values()
        )
        await asyncio.gather(*ending)

    async def all(self) -> list[Recording]:
        """Return what is under way, then what is kept, the latest first."""
        active = {each.recording.id: each.now for each in reversed(self._captures.values()) if each.begun.is_set()}
        kept = await self.threads.run(self._directory.all)
        return [*active.values(), *(each for each in kept if each.id not in active)]

    async def get(self, recording_id: str) -> Recording:
        """Return one. Raises `NotFound`."""
        capture = self._captures.get(recording_id)
        if capture is not None and capture.begun.is_set():
            return capture.now
        found = await self.threads.run(self._directory.find, recording_id)
        if found is None:
            raise NotFound(f"recording not found: {recording_id}")
        return found

    async def delete(self, recording_id: str) -> None:
        """Remove one. Raises `NotFound`, `StillActive`."""
        if recording_id in self._captures:
            raise StillActive
        found = await self.get(recording_id)
        await self.threads.run(self._directory.delete, found)
        self._kept_bytes -= found.size_bytes or 0

    async def download(self, recording_id: str) -> tuple[str, Download]:
        """Return the name of one's file, and what opens it; of one under way as much as there is. Raises `NotFound`."""
        found = await self.get(recording_id)
        return found.file_name, Download(self.threads, found.file_path)

    async def _drop(self, capture: Capture) -> None:
        """End a recording whose id nobody will ever know, and remove it."""
        recording = await capture.stop()
        if capture.failure is None:
            await self.threads.run(self._directory.delete, recording)

    async def _look_for_room(self) -> None:
        active = sum(capture.size for capture in self._captures.values())
        self._kept_bytes = await self.threads.run(self._directory.size) - active
        if self._full():
            allowed = f"{self._limit_bytes // MIB} MiB"
            raise InsufficientStorage(f"recordings take {allowed}, as much as is allowed: delete some")

    def _full(self) -> bool:
        return self._kept_bytes + sum(capture.size for capture in self._captures.values()) >= self._limit_bytes

    def _capture(self, label: str, region: Region, fps: int, server: int) -> Capture:
        if len(self._captures) >= self._at_once:
            raise Conflict(f"{self._at_once} recordings are under way, as many as are allowed: stop one")
        recording_id, now = str(uuid.uuid4()), time.time()
        width, height = ffmpeg.even_size(region)
        stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime(now))
        name = f"{recording_id}_{_BLANK.sub(' ', label) or 'session'}_{stamp}.mp4"
        recording = Recording(
            id=recording_id,
            file_name=name,
            file_path=str(self._directory.path / name),
            start_time=timestamp(now),
            status="recording",
            width=width,
            height=height,
            fps=fps,
            label=label or UNSET,
        )
        check = partial(self._check_screen, server)
        limits = Limits(seconds=self._limit_seconds, full=self._full, check_screen=check)
        capture = Capture(recording, self._children, self.threads, self._directory, limits)
        self._captures[recording_id] = capture
        return capture

    async def _check_screen(self, server: int) -> None:
        if await self._screen.server() != server:
            raise RecordingFailed("the screen has gone, there is a new one")

    def _forget(self, capture: Capture, _: object) -> None:
        del self._captures[capture.recording.id]
        self._kept_bytes += capture.size


def _checked(label: Any) -> str:
    """Return a usable label, empty for none. Raises `InvalidLabel`."""
    if not isinstance(label, str) or label == "":
        return ""
    if not _LABEL.fullmatch(label) or label.isspace():
        raise InvalidLabel
    return label


def _on_screen(region: Region | None, width: int, height: int) -> Region:
    """Return the region to film, the whole screen for none. Raises `BadRequest` for one that is not on it."""
    if region is None:
        return Region(x=0, y=0, width=width, height=height)
    if region.x + region.width > width or region.y + region.height > height:
        raise BadRequest(f"the region is not on the screen, which has {width}x{height} pixels")
    return region

"""Wire models of recordings (contract, computer-use.md section 6)."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from toolbox.web.wire import Model, Text

Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class Region(Model):
    """A part of the screen, in pixels from its upper left corner."""

    x: Natural
    y: Natural
    width: Positive
    height: Positive


class StartRecordingRequest(Model):
    """What to film; without anything the whole screen with its pointer."""

    label: Annotated[Any, Meta(extra_json_schema={"type": "string"})] = ""
    """Anything but a string counts as none, as in the reference."""
    fps: Annotated[int, Meta(ge=1, le=60)] = 30
    """Pictures per second."""
    region: Region | None = None
    cursor: bool = True
    """Whether the pointer is drawn."""


class StopRecordingRequest(Model):
    """Which recording to end."""

    id: Text


class Recording(Model, kw_only=True):
    """A recording. Of a file that was not made here only name, time and size are known."""

    id: str
    file_name: str
    file_path: str
    start_time: str
    """Of the first picture."""
    status: Literal["recording", "completed", "failed"]
    end_time: str | UnsetType = UNSET
    duration_seconds: float | UnsetType = UNSET
    size_bytes: int | UnsetType = UNSET
    label: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    """Why it failed, or ended without being stopped."""
    width: int | UnsetType = UNSET
    height: int | UnsetType = UNSET
    fps: int | UnsetType = UNSET


class ListRecordingsResponse(Model):
    """What is being recorded, then what was, the latest first."""

    recordings: list[Recording]


def timestamp(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

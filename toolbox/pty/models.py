"""Wire models of `/process/pty`."""

from datetime import datetime
from typing import Annotated

import msgspec

from toolbox.web.wire import Model, Text

MAX_SIDE = 1000

Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
"""Columns or rows of a terminal."""
SideOrDefault = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIDE)]
"""As `Side`; 0 stands for the default."""
Offset = Annotated[int, msgspec.Meta(ge=0)]


class PtyCreateRequest(Model):
    """A new terminal. With `lazyStart` its shell starts when the first client connects."""

    id: Text
    cwd: str | None = None
    envs: dict[str, str] = {}
    cols: SideOrDefault = 0
    rows: SideOrDefault = 0
    lazy_start: bool = False


class PtyCreateResponse(Model):
    """The terminal exists."""

    session_id: str


class PtyCreateConnectQuery(Model):
    """A new terminal, as a query; its variables come in a subprotocol."""

    id: Text
    cwd: str | None = None
    cols: SideOrDefault = 0
    rows: SideOrDefault = 0


class PtyConnectQuery(Model):
    """Where to go on: the offset of the first byte wanted; without it what is kept is replayed."""

    offset: Offset | None = None


class PtyResizeRequest(Model):
    """A new size."""

    cols: Side
    rows: Side


class PtySessionInfo(Model):
    """One terminal."""

    id: str
    cwd: str
    envs: dict[str, str]
    cols: int
    rows: int
    created_at: datetime
    active: bool
    lazy_start: bool
    process_id: int | msgspec.UnsetType = msgspec.UNSET
    """The shell, once it has started."""


class PtyListResponse(Model):
    """All terminals."""

    sessions: list[PtySessionInfo]


class PtyDeleteResponse(Model):
    """The terminal is gone."""

    message: str


class PtyControl(Model, tag_field="type", tag="control", omit_defaults=True):
    """A text message to a client, beside the terminal's bytes."""

    status: str
    offset: int | None = None
    """With `connected`: the offset of the first byte that follows."""
    exit_code: int | None = None
    exit_reason: str | None = None
    error: str | None = None


class PtyCloseReason(Model, omit_defaults=True):
    """The JSON in the close frame: how the shell ended."""

    exit_code: int | None = None
    exit_reason: str | None = None
    error: str | None = None

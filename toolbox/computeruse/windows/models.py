"""Wire models of displays and windows (contract, computer-use.md section 5)."""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from toolbox.web.wire import Model

Coordinate = Annotated[int, msgspec.Meta(ge=-32768, le=32767)]
"""Pixels from the left or upper edge of the screen: all that X has."""
Length = Annotated[int, msgspec.Meta(ge=1, le=32767)]


class DisplayInfo(Model):
    """A monitor: the part of the screen that it shows, in pixels."""

    id: int
    x: int
    y: int
    width: int
    height: int
    is_active: bool
    is_primary: bool
    name: str


class DisplayInfoResponse(Model):
    """All monitors. The SDKs' documentation names the further keys as they are here, with an underscore."""

    displays: list[DisplayInfo]
    primary_display: DisplayInfo = msgspec.field(name="primary_display")
    total_displays: int = msgspec.field(name="total_displays")


class Frame(Model):
    """How far the window manager's frame reaches beyond the window, in pixels."""

    left: int
    right: int
    top: int
    bottom: int


class WindowInfo(Model):
    """A window of a program. Place and size are those of its content on the screen, in pixels, without the frame."""

    id: int
    """The X window id."""
    title: str
    x: int
    y: int
    width: int
    height: int
    is_active: bool
    """It has the keyboard."""
    minimized: bool
    maximized: bool
    fullscreen: bool
    desktop: int
    """From 0; -1 is on all desktops."""
    type: str
    """normal, dialog, desktop, dock, utility, splash ...: the words of the EWMH specification."""
    class_: str = msgspec.field(name="class")
    """What program it is of (the second word of WM_CLASS)."""
    frame: Frame
    pid: int | UnsetType = UNSET
    """Absent when unknown: a program on another machine."""


class WindowsResponse(Model):
    """All windows, the lowest first."""

    windows: list[WindowInfo]
    count: int


class MoveWindowRequest(Model):
    """Where the upper left corner of the content goes."""

    x: Coordinate
    y: Coordinate


class ResizeWindowRequest(Model):
    """The size of the content."""

    width: Length
    height: Length


class CloseQuery(Model):
    """`force` cuts the program's connection to the X server, which ends most programs, unsaved work or not."""

    force: bool = False


class CloseWindowResponse(Model):
    """Whether the window has gone; if not, the program may be asking something."""

    closed: bool

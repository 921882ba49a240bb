"""Takes pictures of one X server. Imported in the thread that it is used in: its libraries are heavy."""

import contextlib
from dataclasses import dataclass
from typing import Any

import mss
from mss.exception import ScreenShotError
from Xlib.display import Display
from Xlib.ext import damage

from toolbox.computeruse.screen.picture import Cursor, Region, Shot, View
from toolbox.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Look:
    """What the screen was like at one moment: another one when there may be something new to see."""

    grabber: "Grabber"
    changes: int
    cursor: tuple[Region, int] | None


class Grabber:
    """Grabs pixels through shared memory, and asks the rest through a connection of python-xlib.

    For one thread only.
    """

    def __init__(self, display: Display) -> None:
        self.display: Any = display  # types-python-xlib knows no extensions
        self._root: Any = display.screen().root
        self._pixels: mss.MSS | None = None
        self._size = (0, 0)
        self._changes = 0
        self.display.xfixes_query_version()  # a client has to, before it may use them
        self.display.damage_query_version()
        self._damage = self._root.damage_create(damage.DamageReportNonEmpty)
        self.display.sync()

    def close(self) -> None:
        """Release the memory shared with the X server; the connection is its owner's to close."""
        if self._pixels is not None:
            with contextlib.suppress(ScreenShotError):
                self._pixels.close()
            self._pixels = None

    def shoot(self, view: View) -> Shot:
        """Grab what is to be seen.

        Raises `BadRequest` for a display there is not, and `ConnectionError` when the X server has gone.
        """
        self._count_changes()  # or events nobody asked for (of keyboards that change) would pile up
        pointer = self._root.query_pointer()
        cursor = self._cursor() if view.cursor else None
        geometry = self._root.get_geometry()
        screen = Region(0, 0, geometry.width, geometry.height)
        region = self._region(view, screen)
        visible = region.common(screen)
        return Shot(
            region=region,
            visible=visible,
            pixels=self._grab(visible, screen) if visible is not None else bytearray(),
            pointer=(pointer.root_x, pointer.root_y),
            cursor=cursor,
        )

    def shoot_if_new(self, view: View, seen: Look | None) -> tuple[Look, Shot | None]:
        """Grab what is to be seen if something was drawn since the look `seen`, or the cursor shown has changed."""
        cursor = self._cursor() if view.cursor else None
        look = Look(self, self._count_changes(), (cursor.region, cursor.serial) if cursor is not None else None)
        return look, None if look == seen else self.shoot(view)

    def _region(self, view: View, screen: Region) -> Region:
        if view.display is None:
            return view.region or screen
        monitors = self._root.xrandr_get_monitors().monitors
        if view.display >= len(monitors):
            raise BadRequest(f"display: there is no display {view.display}, only {len(monitors)}, counted from 0")
        monitor = monitors[view.display]
        if view.region is not None:
            return view.region.moved(monitor.x, monitor.y)
        return Region(monitor.x, monitor.y, monitor.width_in_pixels, monitor.height_in_pixels)

    def _grab(self, region: Region, screen: Region) -> bytearray:
        try:
            if self._size != (screen.width, screen.height):
                self.close()  # the shared memory is as large as the screen was
            if self._pixels is None:
                self._pixels = mss.MSS(display=self.display.get_display_name())
                self._size = (screen.width, screen.height)
            box = {"left": region.x, "top": region.y, "width": region.width, "height": region.height}
            return self._pixels.grab(box).raw
        except (ScreenShotError, AssertionError, ValueError) as error:
            # The latter two are what mss makes of an answer that never comes, since the connection was lost meanwhile.
            self.close()
            raise ConnectionError(str(error) or "no answer") from None

    def _cursor(self) -> Cursor:
        image = self.display.xfixes_get_cursor_image(self._root)
        # The reply's x and y are those of the pointer.
        region = Region(image.x - image.xhot, image.y - image.yhot, image.width, image.height)
        return Cursor(region, image.cursor_image, image.cursor_serial)

    def _count_changes(self) -> int:
        """Return a number that is another one if anything was drawn since the last call."""
        drawn = False
        while self.display.pending_events():
            drawn |= self.display.next_event().type == self.display.extension_event.DamageNotify
        if drawn:
            # The X server tells the first change after this. It must have happened before pixels are grabbed through
            # the other connection, or what is drawn in between would never be told.
            self.display.damage_subtract(self._damage)
            self.display.sync()
            self._changes += 1
        return self._changes

"""Events as a mouse and a keyboard would send them, through XTEST and XKB. Works in the X server's thread."""

import time
from typing import TYPE_CHECKING

from Xlib import X
from Xlib.ext import xtest

from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.computeruse.input import requests
from toolbox.computeruse.input.keymap import Keymap, read_keymap

if TYPE_CHECKING:
    from Xlib.display import Display

_LARGEST = 32767
_HELD_SECONDS = 1.0
_LOOK_SECONDS = 0.001


class Injector:
    """The mouse and the keyboard of one connection. What it sends is queued; a question sends all of it."""

    def __init__(self, display: "Display") -> None:
        self.display = display
        self._xtest = self._major(xtest.extname)
        self._xkb = self._major("XKEYBOARD")
        requests.UseXkb(display.display, opcode=self._xkb, major=1, minor=0)
        self._map: tuple[bytes, int, Keymap] | None = None

    def _major(self, extension: str) -> int:
        found = self.display.query_extension(extension)
        if found is None or not found.present:
            raise DesktopUnavailable(f"the X server has no {extension}")
        return int(found.major_opcode)

    def key(self, keycode: int, *, down: bool) -> None:
        """Press or release a key."""
        requests.FakeInput(self.display.display, self._xtest, X.KeyPress if down else X.KeyRelease, keycode)

    def button(self, number: int, *, down: bool) -> None:
        """Press or release a button."""
        requests.FakeInput(self.display.display, self._xtest, X.ButtonPress if down else X.ButtonRelease, number)

    def move(self, x: int, y: int) -> None:
        """Move the pointer to a place, or to the nearest one on the screen."""
        x, y = (min(max(each, 0), _LARGEST) for each in (x, y))  # the server's own clamp, of what fits 16 bits
        requests.FakeInput(self.display.display, self._xtest, X.MotionNotify, 0, x, y)

    def arrival(self, x: int, y: int) -> tuple[int, int]:
        """Return where the pointer is after a move to a place, or to the nearest one on the screen.

        While a program holds the pointer's events back, as window managers do with a click, the move waits with them.
        """
        place = self.position()
        if place != (x, y):
            size = self.display.screen().root.get_geometry()
            target = min(max(x, 0), size.width - 1), min(max(y, 0), size.height - 1)
            end = time.monotonic() + _HELD_SECONDS
            while place != target and time.monotonic() < end:
                time.sleep(_LOOK_SECONDS)
                place = self.position()
        return place

    def position(self) -> tuple[int, int]:
        """Return where the pointer is."""
        pointer = self.display.screen().root.query_pointer()
        return pointer.root_x, pointer.root_y

    def lock(self, affected: int, locked: int) -> None:
        """Lock the modifiers `locked`, and unlock the rest of `affected`."""
        requests.LockModifiers(
            self.display.display, opcode=self._xkb, device=requests.CORE_KEYBOARD, affected=affected, locked=locked
        )

    def state(self) -> requests.GetState:
        """Return the modifiers and the layout that are in effect."""
        return requests.GetState(self.display.display, opcode=self._xkb, device=requests.CORE_KEYBOARD)

    def state_and_keymap(self) -> tuple[requests.GetState, Keymap]:
        """Return the state, and the keys as they are now: somebody may have changed the layout meanwhile."""
        display = self.display.display
        state = requests.GetState(display, defer=True, opcode=self._xkb, device=requests.CORE_KEYBOARD)
        answer = requests.GetMap(
            display, opcode=self._xkb, device=requests.CORE_KEYBOARD, full=requests.MAP_PARTS, partial=0
        )
        state.reply()
        if self._map is None or self._map[:2] != (answer.data, state.group):
            self._map = (answer.data, state.group, read_keymap(answer.data, state.group))
        return state, self._map[2]

    def pressed_keys(self) -> list[int]:
        """Return the keycodes that are down."""
        bits = self.display.query_keymap()
        return [code for code in range(256) if bits[code >> 3] >> (code & 7) & 1]

    def bind(self, keycode: int, keysym: int) -> None:
        """Give a key another meaning, whatever the level; 0 takes it away."""
        # Twice, or the server would make a lower and an upper case of it.
        self.display.change_keyboard_mapping(keycode, [(keysym, keysym)])

"""The devices of one connection to the X server. Works in the X server's thread, imported when first used."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from toolbox.computeruse.input.injector import Injector
from toolbox.computeruse.input.keyboard import Keyboard
from toolbox.computeruse.input.keys import Key
from toolbox.computeruse.input.pointer import WHEEL, Pointer
from toolbox.computeruse.input.settling import Ping

if TYPE_CHECKING:
    from Xlib.display import Display


class Devices:
    """Mouse and keyboard of a connection. What a lost connection held is released by the one that follows it."""

    def __init__(self, display: "Display", lost: Optional["Devices"] = None) -> None:
        self.display = display
        self.injector = Injector(display)
        self.pointer = Pointer(self.injector)
        self.keyboard = Keyboard(self.injector)
        self.ping = Ping(display)
        self.gripped: tuple[int, list[int]] | None = None
        if lost is not None:
            self._clean_up(lost)

    def _clean_up(self, lost: "Devices") -> None:
        # The server may be another one: releasing what nobody pressed does nothing, and only our own bindings go.
        if lost.gripped is not None:
            self.gripped = lost.gripped
            self.let_go()
        self.pointer.held |= lost.pointer.held
        self.keyboard.held |= lost.keyboard.held
        for keycode, keysym in lost.keyboard.bound.items():
            if keysym in self.display.get_keyboard_mapping(keycode, 1)[0]:
                self.keyboard.bound[keycode] = keysym
        self.release_all()

    def ask(self) -> bool:
        """Ask the focused program whether it has taken its events, and tell whether there will be an answer."""
        self.keyboard.note_bound()
        return self.ping.ask()

    def grip(self, place: tuple[int, int], button: int, modifiers: Sequence[Key]) -> None:
        """Press a button at a place, and keep it and `modifiers` pressed until `let_go`."""
        keycodes = self.keyboard.hold(modifiers)
        self.gripped = (button, keycodes)
        self.injector.move(*place)
        self.injector.button(button, down=True)
        self.injector.position()

    def let_go(self) -> None:
        """Release what `grip` pressed."""
        if self.gripped is not None:
            button, keycodes = self.gripped
            self.pointer.release(button)
            self.keyboard.release(keycodes)
            self.gripped = None
            self.injector.position()

    def turn_wheel(self, direction: str, turns: int) -> None:
        """Turn the wheel where the pointer is."""
        self.pointer.click(WHEEL[direction], turns)

    def release_all(self) -> None:
        """Release everything that is held."""
        self.let_go()
        for button in tuple(self.pointer.held):
            self.pointer.release(button)
        self.keyboard.release_all()
        self.injector.position()

"""The pointer and its buttons. Works in the X server's thread."""

from toolbox.computeruse.input.injector import Injector

WHEEL = {"up": 4, "down": 5, "left": 6, "right": 7}
"""The buttons that X takes for the wheel."""


class Pointer:
    """Moves and clicks, and knows which buttons it holds."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector
        self.held: set[int] = set()

    def move(self, x: int, y: int) -> tuple[int, int]:
        """Move to a place and return where that is."""
        self._injector.move(x, y)
        return self._injector.arrival(x, y)

    def click(self, button: int, times: int) -> None:
        """Click where the pointer is. A button that was held is released by it."""
        for _ in range(times):
            self._injector.button(button, down=True)
            self._injector.button(button, down=False)
        self.held.discard(button)

    def press(self, button: int) -> None:
        """Press and hold a button, if it is not held already."""
        if button not in self.held:
            self.held.add(button)
            self._injector.button(button, down=True)

    def release(self, button: int) -> None:
        """Release a button, whoever pressed it."""
        self._injector.button(button, down=False)
        self.held.discard(button)

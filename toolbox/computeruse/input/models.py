"""Wire models of mouse and keyboard (contract, computer-use.md sections 3 and 4)."""

from toolbox.web.wire import Model


class PositionResponse(Model):
    """Where the pointer is, in pixels from the screen's upper left corner."""

    x: int
    y: int


class MoveRequest(Model):
    """Where to move the pointer. A place off the screen means the nearest one on it."""

    x: int = 0
    y: int = 0
    smooth: bool | int = False
    """Move along a line instead of jumping; a number says how many milliseconds it takes."""


class ClickRequest(Model):
    """A click, or several."""

    x: int = 0
    y: int = 0
    button: str = "left"
    """left, right or middle."""
    double: bool = False
    clicks: int | None = None
    """1 to 10; wins over `double`."""
    modifiers: list[str] = []
    """ctrl, alt, shift, cmd: held during the click."""


class DragRequest(Model):
    """A press at the start, a movement to the end, and a release there."""

    start_x: int = 0
    start_y: int = 0
    end_x: int = 0
    end_y: int = 0
    button: str = "left"
    """left, right or middle."""
    modifiers: list[str] = []
    """ctrl, alt, shift, cmd: held during the drag."""


class ScrollRequest(Model):
    """Clicks of the wheel at a place."""

    x: int = 0
    y: int = 0
    direction: str = ""
    """up, down, left or right."""
    amount: int = 1
    """Clicks of the wheel; 0 counts as 1."""
    modifiers: list[str] = []
    """ctrl, alt, shift, cmd: held meanwhile."""


class ButtonRequest(Model):
    """A button that is pressed or released: at a place, or where the pointer is if none is given."""

    x: int | None = None
    y: int | None = None
    button: str = "left"
    """left, right or middle."""


class ScrollResponse(Model):
    """That it was done."""

    success: bool


class TypeRequest(Model):
    """Text to type. Each of CR LF, CR and LF is one Enter."""

    text: str = ""
    delay: int = 0
    """Milliseconds between characters."""


class KeyRequest(Model):
    """A key to press and release."""

    key: str = ""
    """A key's name, a character, or the X name of a keysym."""
    modifiers: list[str] = []
    """ctrl, alt, shift, cmd: held during the press."""


class HotkeyRequest(Model):
    """A chord to press and release."""

    keys: str = ""
    """Modifiers and one key, as in `ctrl+shift+t`."""


class HeldKeyRequest(Model):
    """A key to press or to release."""

    key: str = ""
    """As of a press; modifiers too."""

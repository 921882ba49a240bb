"""Whose window is active, by the window manager."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from Xlib.display import Display
    from Xlib.xobject.drawable import Window


def active_pid(display: "Display") -> int | None:
    """Return the process of the active window, or None when no window is active or it does not tell."""
    from Xlib.error import XError  # noqa: PLC0415 -- heavy

    window = _cardinal(display, display.screen().root, "_NET_ACTIVE_WINDOW")
    try:
        return _cardinal(display, display.create_resource_object("window", window), "_NET_WM_PID") if window else None
    except XError:  # closed meanwhile
        return None


def _cardinal(display: "Display", window: "Window", name: str) -> int | None:
    from Xlib.X import AnyPropertyType  # noqa: PLC0415

    found = window.get_full_property(display.intern_atom(name), AnyPropertyType)
    return int(found.value[0]) if found is not None and found.format == 32 and len(found.value) else None  # noqa: PLR2004

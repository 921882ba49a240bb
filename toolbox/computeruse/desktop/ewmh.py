"""What the session has put on the root window (Extended Window Manager Hints)."""

from typing import Any

from Xlib import X
from Xlib.display import Display
from Xlib.error import BadWindow


def is_managed(display: Display) -> bool:
    """Tell whether a window manager runs: its own window says so too, else one that has gone left the property."""
    root = display.screen().root
    window = _value(display, root, "_NET_SUPPORTING_WM_CHECK")
    if not window:
        return False
    try:
        check = _value(display, display.create_resource_object("window", window[0]), "_NET_SUPPORTING_WM_CHECK")
    except BadWindow:
        return False
    return bool(check) and check[0] == window[0]


def has_desktop_and_panel(display: Display) -> bool:
    """Tell whether there are windows of the types desktop and dock."""
    types: set[int] = set()
    for window in _value(display, display.screen().root, "_NET_CLIENT_LIST"):
        try:
            types |= set(_value(display, display.create_resource_object("window", window), "_NET_WM_WINDOW_TYPE"))
        except BadWindow:
            continue
    wanted = {display.get_atom(f"_NET_WM_WINDOW_TYPE_{name}") for name in ("DESKTOP", "DOCK")}
    return wanted <= types


def _value(display: Display, window: Any, name: str) -> list[int]:
    found = window.get_full_property(display.get_atom(name), X.AnyPropertyType)
    return list(found.value) if found is not None else []

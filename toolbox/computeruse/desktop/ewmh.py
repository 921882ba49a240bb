"""What the session has put on the root window (Extended Window Manager Hints)."""

import time
from typing import Any

from Xlib import X
from Xlib.display import Display
from Xlib.error import BadWindow
from Xlib.protocol.event import ClientMessage

_LOOKS, _LOOK_SECONDS = 20, 0.005


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


def is_answering(display: Display) -> bool:
    """Tell whether the window manager does what it is asked. Blocks for up to 0.1 s.

    Openbox says that it is there before it has read its settings; windows that come until then it never sees.
    """
    root = display.screen().root
    window = root.create_window(0, 0, 1, 1, 0, X.CopyFromParent)
    try:
        kind = display.get_atom("_NET_REQUEST_FRAME_EXTENTS")
        message = ClientMessage(window=window, client_type=kind, data=(32, [0] * 5))
        root.send_event(message, event_mask=X.SubstructureNotifyMask | X.SubstructureRedirectMask)
        display.sync()
        for _ in range(_LOOKS):
            if _value(display, window, "_NET_FRAME_EXTENTS"):
                return True
            time.sleep(_LOOK_SECONDS)
        return False
    finally:
        window.destroy()
        display.sync()


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

"""Reads the windows of an X server by the conventions of window managers (ICCCM and EWMH).

All that is to be known about all windows is asked for at once: what takes time is the way to the server and back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType
from Xlib import X, Xutil
from Xlib.display import Display
from Xlib.error import XError
from Xlib.ext import res
from Xlib.protocol import request

from toolbox.computeruse.windows.compound_text import decode_compound_text
from toolbox.computeruse.windows.models import Frame, WindowInfo

ALL_DESKTOPS = 0xFFFFFFFF
_TITLE_WORDS = 1024
"""Longest title that is read, in units of 4 bytes."""
_LIST_WORDS = 16384
_TYPES = (
    *("normal", "dialog", "desktop", "dock", "toolbar", "menu", "utility", "splash", "dropdown_menu", "popup_menu"),
    *("tooltip", "notification", "combo", "dnd"),
)


def windows(display: Display, only: int | None = None) -> list[WindowInfo]:
    """Return the windows, the lowest first; only the one of that id if one is given.

    Windows that go away meanwhile are left out.
    """
    reader = _Reader(display)
    scene = reader.scene()
    ids = [window_id for window_id in scene.ids if only is None or window_id == only]
    asked = [(window_id, reader.ask(window_id)) for window_id in ids]
    pids = reader.pids(ids)
    found = []
    for window_id, replies in asked:
        try:
            answered = _Answers(display, replies)
        except XError:  # it has gone
            continue
        if scene.managed or answered.is_program_window():
            found.append(answered.info(window_id, scene, pids.get(window_id)))
    return found


def is_managed(display: Display) -> bool:
    """Tell whether a window manager is there."""
    atom = display.get_atom("_NET_SUPPORTING_WM_CHECK")
    named = numbers(property_request(display, display.screen().root.id, atom))
    return _is_alive(display, named)


def _is_alive(display: Display, named: Sequence[int]) -> bool:
    """Tell whether the window that a window manager `named` is still there.

    The property on the root outlives a window manager that was killed, its window does not.
    """
    try:
        atom = display.get_atom("_NET_SUPPORTING_WM_CHECK")
        return bool(named) and numbers(property_request(display, named[0], atom)) == named
    except XError:
        return False


def property_request(display: Display, window_id: int, atom: int, words: int = 64) -> Any:
    """Ask for a property of at most `words` times 4 bytes; the reply is to be waited for."""
    return request.GetProperty(
        display=display.display,
        defer=True,
        window=window_id,
        property=atom,
        type=X.AnyPropertyType,
        long_offset=0,
        long_length=words,
        delete=False,
    )


def numbers(reply: Any) -> list[int]:
    """Wait for a property and return its numbers; none if there is no such property. Raises `XError`."""
    reply.reply()
    return list(reply.value[1]) if reply.value is not None and reply.value[0] == 32 else []  # noqa: PLR2004 -- bits


@dataclass(frozen=True, slots=True)
class _Scene:
    """What windows there are, as the root window tells."""

    ids: Sequence[int]
    active: int
    managed: bool
    """A window manager tells; otherwise these are all children of the root."""


class _Reader:
    def __init__(self, display: Display) -> None:
        self._display = display
        self._root: int = display.screen().root.id

    def scene(self) -> _Scene:
        check, stacking, mapping, active = (
            property_request(self._display, self._root, self._display.get_atom(name), _LIST_WORDS)
            for name in (
                "_NET_SUPPORTING_WM_CHECK",
                "_NET_CLIENT_LIST_STACKING",
                "_NET_CLIENT_LIST",
                "_NET_ACTIVE_WINDOW",
            )
        )
        tree: Any = request.QueryTree(display=self._display.display, defer=True, window=self._root)
        focus: Any = request.GetInputFocus(display=self._display.display, defer=True)
        for reply in (check, stacking, mapping, active, tree, focus):
            reply.reply()
        if _is_alive(self._display, numbers(check)) and (stacking.value or mapping.value):
            return _Scene(numbers(stacking) or numbers(mapping), next(iter(numbers(active)), 0), managed=True)
        ids = [child.id for child in tree.children]
        return _Scene(ids, self._top_level(focus.focus, ids), managed=False)

    def _top_level(self, focus: Any, ids: Sequence[int]) -> int:
        """Return which of `ids` has the keyboard; 0 for none. `focus` may be a window inside of it."""
        window_id = focus if isinstance(focus, int) else focus.id
        try:
            while window_id not in ids and window_id not in {X.NONE, X.PointerRoot, self._root}:
                tree: Any = request.QueryTree(display=self._display.display, window=window_id)
                window_id = tree.parent.id
        except XError:
            return 0
        return window_id if window_id in ids else 0

    def ask(self, window_id: int) -> dict[str, Any]:
        """Ask for everything about a window."""
        display = self._display.display
        replies: dict[str, Any] = {
            name: property_request(
                self._display, window_id, self._display.get_atom(name), _TITLE_WORDS if name in _TITLES else 64
            )
            for name in _PROPERTIES
        }
        replies["geometry"] = request.GetGeometry(display=display, defer=True, drawable=window_id)
        replies["attributes"] = request.GetWindowAttributes(display=display, defer=True, window=window_id)
        replies["position"] = request.TranslateCoords(
            display=display, defer=True, src_wid=window_id, dst_wid=self._root, src_x=0, src_y=0
        )
        return replies

    def pids(self, ids: Sequence[int]) -> dict[int, int]:
        """Return the process of each window, as the kernel told the X server."""
        if not ids or not self._display.has_extension(res.extname):
            return {}
        try:
            reply = res.query_client_ids(self._display, [(window_id, res.LocalClientPIDMask) for window_id in ids])
        except XError:
            return {}
        client = ~self._display.display.info.resource_id_mask
        of_client = {each.spec.client & client: each.value[0] for each in reply.ids if each.value}
        return {window_id: of_client[window_id & client] for window_id in ids if window_id & client in of_client}


_TITLES = ("_NET_WM_NAME", "WM_NAME")
_PROPERTIES = (
    *_TITLES,
    "WM_CLASS",
    "WM_STATE",
    "WM_TRANSIENT_FOR",
    "_NET_FRAME_EXTENTS",
    "_NET_WM_DESKTOP",
    "_NET_WM_PID",
    "_NET_WM_STATE",
    "_NET_WM_WINDOW_TYPE",
)


class _Answers:
    """What the X server said about a window. Raises `XError` when the window has gone."""

    def __init__(self, display: Display, replies: dict[str, Any]) -> None:
        for reply in replies.values():
            reply.reply()
        self._replies = replies
        self._atom = display.get_atom

    def is_program_window(self) -> bool:
        """Tell a window of a program from menus, helpers and hidden ones, where no window manager knows."""
        attributes = self._replies["attributes"]
        shown = attributes.map_state != X.IsUnmapped or self._iconic()
        return shown and attributes.win_class == X.InputOutput and not attributes.override_redirect

    def info(self, window_id: int, scene: _Scene, pid: int | None) -> WindowInfo:
        geometry, position = self._replies["geometry"], self._replies["position"]
        states = set(self._numbers("_NET_WM_STATE"))
        extents = self._numbers("_NET_FRAME_EXTENTS") if scene.managed else []
        frame = (*extents, *[geometry.border_width] * 4)
        desktop = next(iter(self._numbers("_NET_WM_DESKTOP")), 0)
        return WindowInfo(
            id=window_id,
            title=self._title(),
            x=position.x,
            y=position.y,
            width=geometry.width,
            height=geometry.height,
            is_active=window_id == scene.active,
            minimized=self._iconic() or self._all_in(states, ["HIDDEN"]),
            maximized=self._all_in(states, ["MAXIMIZED_HORZ", "MAXIMIZED_VERT"]),
            fullscreen=self._all_in(states, ["FULLSCREEN"]),
            desktop=-1 if desktop == ALL_DESKTOPS else desktop,
            type=self._type(),
            class_=self._class(),
            frame=Frame(left=frame[0], right=frame[1], top=frame[2], bottom=frame[3]),
            pid=pid or self._told_pid(),
        )

    def _numbers(self, name: str) -> list[int]:
        return numbers(self._replies[name])

    def _all_in(self, states: set[int], names: Iterable[str]) -> bool:
        return all(self._atom(f"_NET_WM_STATE_{name}") in states for name in names)

    def _iconic(self) -> bool:
        return self._numbers("WM_STATE")[:1] == [Xutil.IconicState]

    def _told_pid(self) -> int | UnsetType:
        return next(iter(self._numbers("_NET_WM_PID")), 0) or UNSET

    def _text(self, name: str) -> str:
        reply = self._replies[name]
        if reply.value is None or reply.value[0] != 8:  # noqa: PLR2004 -- bits
            return ""
        data = bytes(reply.value[1])
        if reply.property_type == self._atom("UTF8_STRING"):
            return data.decode("utf-8", "replace")
        if reply.property_type == self._atom("COMPOUND_TEXT"):
            return decode_compound_text(data)
        return data.decode("latin-1")

    def _title(self) -> str:
        return next((text for name in _TITLES if (text := self._text(name).rstrip("\0"))), "")

    def _class(self) -> str:
        words = self._text("WM_CLASS").rstrip("\0").split("\0")
        return words[-1]

    def _type(self) -> str:
        names = {self._atom(f"_NET_WM_WINDOW_TYPE_{name.upper()}"): name for name in _TYPES}
        known = [names[atom] for atom in self._numbers("_NET_WM_WINDOW_TYPE") if atom in names]
        if known:
            return known[0]
        return "dialog" if any(self._numbers("WM_TRANSIENT_FOR")) else "normal"

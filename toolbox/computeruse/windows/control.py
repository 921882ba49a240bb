"""Asks for changes of a window: of the window manager by EWMH, or of the X server itself where there is none."""

from typing import Any

from Xlib import X, Xutil
from Xlib.display import Display
from Xlib.error import CatchError
from Xlib.protocol import event, request

from toolbox.computeruse.windows.ewmh import is_managed, numbers, property_request
from toolbox.computeruse.windows.models import WindowInfo
from toolbox.computeruse.windows.monitors import displays

_PAGER = 2
"""Source of a request that the user made, which a window manager does not refuse to protect the focus."""
_REMOVE, _ADD = 0, 1


class Control:
    """One window. Requests are sent in order and not waited for; a window that has gone is no error."""

    def __init__(self, display: Display, window: WindowInfo) -> None:
        self._display = display
        self._root: Any = display.screen().root
        self._info = window
        self._window: Any = display.create_resource_object("window", window.id)
        self._managed = is_managed(display)
        self._errors = CatchError()  # so that they are not printed

    def focus(self) -> None:
        """Show the window, on top, and give it the keyboard."""
        if self._managed:
            self._ask_manager("_NET_ACTIVE_WINDOW", _PAGER, X.CurrentTime, 0)
        else:
            self._show()
            self._window.configure(stack_mode=X.Above, onerror=self._errors)
            self._window.set_input_focus(X.RevertToPointerRoot, X.CurrentTime, onerror=self._errors)
        self._display.flush()

    def place(
        self, *, x: int | None = None, y: int | None = None, width: int | None = None, height: int | None = None
    ) -> None:
        """Move or resize the content, after restoring a window that fills the screen."""
        self._restore()
        values = (x, y, width, height)
        if self._managed:
            given = sum(1 << bit for bit, value in enumerate(values) if value is not None)
            flags = X.StaticGravity | given << 8 | _PAGER << 12
            self._ask_manager("_NET_MOVERESIZE_WINDOW", flags, *(value or 0 for value in values))
        else:
            border = self._info.frame
            wanted = {
                "x": None if x is None else x - border.left,
                "y": None if y is None else y - border.top,
                "width": width,
                "height": height,
            }
            self._window.configure(
                onerror=self._errors, **{name: value for name, value in wanted.items() if value is not None}
            )
        self._display.flush()

    def minimize(self) -> None:
        """Hide the window."""
        if self._managed:
            self._ask_manager("WM_CHANGE_STATE", Xutil.IconicState)
        else:
            self._set_state(Xutil.IconicState)
            self._window.unmap(onerror=self._errors)
        self._display.flush()

    def maximize(self) -> None:
        """Let the window fill the screen."""
        if self._managed:
            self._ask_for_states(_ADD, "MAXIMIZED_HORZ", "MAXIMIZED_VERT")
        else:
            self._show()
            screen, border = displays(self._display)[0], self._info.frame
            self._window.configure(
                x=screen.x,
                y=screen.y,
                width=max(1, screen.width - border.left - border.right),
                height=max(1, screen.height - border.top - border.bottom),
                onerror=self._errors,
            )
            self._set_states("MAXIMIZED_HORZ", "MAXIMIZED_VERT")
        self._display.flush()

    def close(self) -> None:
        """Ask the program to close the window; cut a program off that cannot be asked."""
        if self._managed:
            self._ask_manager("_NET_CLOSE_WINDOW", X.CurrentTime, _PAGER)
        elif self._atom("WM_DELETE_WINDOW") in self._numbers("WM_PROTOCOLS"):
            data = [self._atom("WM_DELETE_WINDOW"), X.CurrentTime, 0, 0, 0]
            message = event.ClientMessage(window=self._window, client_type=self._atom("WM_PROTOCOLS"), data=(32, data))
            self._window.send_event(message, onerror=self._errors)
        else:
            self.kill()
        self._display.flush()

    def kill(self) -> None:
        """Cut the connection of the window's program to the X server."""
        request.KillClient(display=self._display.display, resource=self._info.id, onerror=self._errors)
        self._display.flush()

    def _restore(self) -> None:
        if not (self._info.maximized or self._info.fullscreen):
            return
        if self._managed:
            self._ask_for_states(_REMOVE, "MAXIMIZED_HORZ", "MAXIMIZED_VERT")
            self._ask_for_states(_REMOVE, "FULLSCREEN")
        else:
            self._set_states()

    def _show(self) -> None:
        """Undo `minimize`, without a window manager."""
        self._set_state(Xutil.NormalState)
        self._window.map(onerror=self._errors)

    def _set_state(self, state: int) -> None:
        """Write what a window manager would write, so that the list tells it."""
        atom = self._atom("WM_STATE")
        self._window.change_property(atom, atom, 32, [state, X.NONE], onerror=self._errors)

    def _set_states(self, *names: str) -> None:
        atoms = [self._atom(f"_NET_WM_STATE_{name}") for name in names]
        self._window.change_property(self._atom("_NET_WM_STATE"), self._atom("ATOM"), 32, atoms, onerror=self._errors)

    def _ask_for_states(self, action: int, *names: str) -> None:
        atoms = [self._atom(f"_NET_WM_STATE_{name}") for name in names]
        self._ask_manager("_NET_WM_STATE", action, *atoms, *[0] * (2 - len(atoms)), _PAGER)

    def _ask_manager(self, message: str, *values: int) -> None:
        """Send a client message about the window to the window manager."""
        data = [value & 0xFFFFFFFF for value in (*values, 0, 0, 0, 0, 0)[:5]]
        self._root.send_event(
            event.ClientMessage(window=self._window, client_type=self._atom(message), data=(32, data)),
            event_mask=X.SubstructureRedirectMask | X.SubstructureNotifyMask,
            onerror=self._errors,
        )

    def _numbers(self, name: str) -> list[int]:
        return numbers(property_request(self._display, self._info.id, self._atom(name)))

    def _atom(self, name: str) -> int:
        return self._display.get_atom(name)

"""Whether the program that gets the keyboard's events has taken all of them so far. Works in the X server's thread."""

from typing import TYPE_CHECKING, Any

from Xlib import X, Xatom
from Xlib.error import XError
from Xlib.protocol import event

if TYPE_CHECKING:
    from Xlib.display import Display

_DEPTH = 16


class Ping:
    """A question (`_NET_WM_PING`, as window managers ask it) that the focused window answers in the order of events."""

    def __init__(self, display: "Display") -> None:
        self._display = display
        self._root = display.screen().root
        self._ping = display.intern_atom("_NET_WM_PING")
        self._protocols = display.intern_atom("WM_PROTOCOLS")
        self._mask = 0
        self._window: Any = None
        self._count = 0

    def ask(self) -> bool:
        """Ask, and tell whether there will be an answer; `answered` has to be called then until there is."""
        try:
            self._window = self._focused()
            if self._window is None:
                return False
            self._mask = self._root.get_attributes().your_event_mask
            # Answers go to the root window, for whoever manages windows.
            self._root.change_attributes(event_mask=self._mask | X.SubstructureNotifyMask)
            self._count += 1
            data = (32, [self._ping, self._count, self._window.id, 0, 0])
            message = event.ClientMessage(window=self._window, client_type=self._protocols, data=data)
            self._window.send_event(message)
        except XError:  # the window has gone
            return False
        return True

    def answered(self) -> bool:
        """Tell whether the answer has come."""
        if not self._display.pending_events():
            return False
        queue = self._display.display.event_queue
        found = any(map(self._is_answer, queue))
        ours = X.SubstructureNotifyMask & ~self._mask
        queue[:] = [each for each in queue if not (self._is_answer(each) or (ours and self._is_noise(each)))]
        return found

    def end(self) -> None:
        """Stop listening."""
        self._root.change_attributes(event_mask=self._mask)
        self._display.sync()
        self.answered()

    def _is_answer(self, each: Any) -> bool:
        if each.type & 0x7F != X.ClientMessage or each.client_type != self._protocols:
            return False
        return bool(each.data[1][0] == self._ping and each.data[1][1] == self._count)

    def _is_noise(self, each: Any) -> bool:
        kind = each.type & 0x7F
        if not X.CreateNotify <= kind <= X.CirculateNotify:
            return False
        return bool(getattr(each, "event", getattr(each, "parent", None)) == self._root)

    def _focused(self) -> Any:
        """Return the window that gets the keyboard's events if it answers, with those that it stands in."""
        window = self._display.get_input_focus().focus
        if isinstance(window, int):  # none, or the one under the pointer
            window = self._root
            for _ in range(_DEPTH):
                child = window.query_pointer().child
                if isinstance(child, int):
                    break
                window = child
        for _ in range(_DEPTH):
            if isinstance(window, int) or window == self._root:
                return None
            found = window.get_full_property(self._protocols, Xatom.ATOM)
            if found is not None and self._ping in found.value:
                return window
            window = window.query_tree().parent
        return None

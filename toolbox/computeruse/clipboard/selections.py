"""X selections, by the rules of the ICCCM: read from the programs that own them, and owned.

Content travels through window properties: in one piece, or (INCR) piece by piece, the next one put when the last was
taken away. While we wait for another program, we keep answering all of them.
"""

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from Xlib import X, Xatom
from Xlib.display import Display
from Xlib.error import XError
from Xlib.protocol import event, request

from toolbox.computeruse.clipboard.errors import MAX_BYTES, ContentTooLarge, OwnerUnresponsive
from toolbox.computeruse.windows.compound_text import decode_compound_text

ANSWER_SECONDS = 5.0
"""How long a program may take for each step."""
PIECE_BYTES = 128 * 1024
"""Below what any X server takes in one request."""
_MAX_TARGETS = 256
_UTF8 = ("UTF8_STRING", "text/plain;charset=utf-8", "text/plain")
_TEXTS = (*_UTF8, "STRING", "TEXT", "COMPOUND_TEXT")
"""Targets that are text, the best first."""
_PNG = "image/png"

Content = dict[int, tuple[int, bytes]]
"""Target -> type and bytes."""


@dataclass(slots=True)
class _Transfer:
    """A content that goes to a window piece by piece."""

    kind: int
    data: bytes
    sent: int = 0
    last: float = field(default_factory=time.monotonic)


class Selections:
    """A connection to the X server that reads and owns selections. Waiting ends when `wake` becomes readable."""

    def __init__(self, name: str, wake: int) -> None:
        self._display = Display(name)
        self._display.set_error_handler(lambda *_: None)  # other programs' windows may go at any time
        self._root: Any = self._display.screen().root
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLIN)
        self._poll.register(wake, select.POLLIN)
        self._atom = self._display.get_atom
        self._window = self._new_window()
        self._held: dict[int, tuple[int, Content]] = {}
        """What we own: selection -> since when (server time), content."""
        self._transfers: dict[tuple[int, int], _Transfer] = {}
        """By window and property."""
        self._owner = X.NONE
        """The window that we read from."""

    @property
    def socket(self) -> socket.socket:
        """The connection."""
        connection: socket.socket = self._display.display.socket
        return connection

    def close(self) -> None:
        """End the connection."""
        if self._display.display.socket_error is None:
            self._display.close()
        self.socket.close()

    def serve(self) -> None:
        """Answer other programs until woken."""
        if not self._display.pending_events():
            self._wait(ANSWER_SECONDS if self._transfers else None)
        while self._display.pending_events():
            self._dispatch(self._display.next_event())
        late = time.monotonic() - ANSWER_SECONDS
        for key in [key for key, transfer in self._transfers.items() if transfer.last < late]:
            self._end_transfer(key)

    # -- owning

    def own(self, name: str, data: bytes, *, is_text: bool) -> None:
        """Own a selection with this content: UTF-8, or a PNG."""
        selection = self._atom(name.upper())
        content: Content = {}
        if is_text:
            utf8 = self._atom("UTF8_STRING")
            content = {self._atom(target): (self._atom(target), data) for target in _UTF8}
            content[self._atom("TEXT")] = (utf8, data)
            content[Xatom.STRING] = (Xatom.STRING, data.decode().encode("latin-1", "replace"))
        else:
            content = {self._atom(_PNG): (self._atom(_PNG), data)}
        now = self._time()
        self._window.set_selection_owner(selection, now)
        self._held[selection] = (now, content)
        self._display.sync()

    def _answer(self, asked: Any) -> None:
        """Give a program what it asks for."""
        place = asked.property or asked.target  # old programs name no property
        if asked.target == self._atom("MULTIPLE"):
            answered = self._answer_many(asked, place)
        else:
            answered = self._provide(asked.selection, asked.requestor, asked.target, place)
        self._tell(asked, place if answered else X.NONE)

    def _answer_many(self, asked: Any, place: int) -> bool:
        try:
            pairs = self._property(asked.requestor.id, place)
        except (XError, ContentTooLarge):  # it has gone, or is out of its mind
            return False
        if pairs is None or pairs.value is None or pairs.value[0] != 32:  # noqa: PLR2004 -- bits
            return False
        words = list(pairs.value[1])
        for at in range(0, len(words) - 1, 2):
            if not self._provide(asked.selection, asked.requestor, words[at], words[at + 1]):
                words[at + 1] = X.NONE
        asked.requestor.change_property(place, self._atom("ATOM_PAIR"), 32, words)
        return True

    def _provide(self, selection: int, window: Any, target: int, place: int) -> bool:
        """Put the content as `target` into a property of another program's window; tell whether that is possible."""
        if selection not in self._held or place == X.NONE:
            return False
        since, content = self._held[selection]
        if target == self._atom("TARGETS"):
            offered = [*content, target, self._atom("TIMESTAMP"), self._atom("MULTIPLE")]
            window.change_property(place, Xatom.ATOM, 32, offered)
        elif target == self._atom("TIMESTAMP"):
            window.change_property(place, Xatom.INTEGER, 32, [since])
        elif target not in content:
            return False
        else:
            kind, data = content[target]
            if len(data) <= PIECE_BYTES:
                window.change_property(place, kind, 8, data)
            else:
                self._transfers[window.id, place] = _Transfer(kind, data)
                self._attend(window.id)
                window.change_property(place, self._atom("INCR"), 32, [len(data)])
        return True

    def _tell(self, asked: Any, place: int) -> None:
        """Tell a program that the content is there; not, if `place` is none."""
        answer = event.SelectionNotify(
            time=asked.time, requestor=asked.requestor, selection=asked.selection, target=asked.target, property=place
        )
        asked.requestor.send_event(answer)
        self._display.sync()

    def _continue_transfer(self, key: tuple[int, int]) -> None:
        """Put the next piece; an empty one is the end."""
        transfer = self._transfers[key]
        piece = transfer.data[transfer.sent : transfer.sent + PIECE_BYTES]
        window: Any = self._display.create_resource_object("window", key[0])
        window.change_property(key[1], transfer.kind, 8, piece)
        transfer.sent += len(piece)
        transfer.last = time.monotonic()
        if not piece:
            self._end_transfer(key)
        self._display.sync()

    def _end_transfer(self, key: tuple[int, int]) -> None:
        del self._transfers[key]
        self._attend(key[0])

    # -- reading

    def read(self, name: str, form: str) -> tuple[list[str], str | None, bytes | None]:
        """Return the targets of a selection, and its text or image, the one of them that there is.

        `form` is text, image, or auto. Raises `OwnerUnresponsive`, `ContentTooLarge`.
        """
        selection = self._atom(name.upper())
        owner: Any = self._display.get_selection_owner(selection)
        while self._display.pending_events():  # the selection may have been taken from us
            self._dispatch(self._display.next_event())
        if owner == X.NONE:
            return [], None, None
        if selection in self._held:
            content = self._held[selection][1]
            targets = [self._display.get_atom_name(target) for target in content]
            get: Callable[[str], tuple[int, bytes] | None] = lambda target: content.get(self._atom(target))  # noqa: E731
        else:
            targets = self._targets(selection, owner)
            get = lambda target: self._convert(selection, owner, self._atom(target))  # noqa: E731
        text = image = None
        if form != "image":
            text = self._text([target for target in _TEXTS if target in targets], get)
        if form == "image" or (form == "auto" and text is None):
            found = get(_PNG) if _PNG in targets else None
            image = found and found[1]
        return targets, text, image

    def _text(self, targets: list[str], get: Callable[[str], tuple[int, bytes] | None]) -> str | None:
        for target in targets:
            found = get(target)
            if found is not None:
                return self._decode(*found)
        return None

    def _decode(self, kind: int, data: bytes) -> str:
        if kind == self._atom("COMPOUND_TEXT"):
            return decode_compound_text(data)
        if kind == Xatom.STRING:
            return data.decode("latin-1")
        return data.decode("utf-8", "replace")

    def _targets(self, selection: int, owner: Any) -> list[str]:
        """Return what the owner offers; the plainest texts if it does not tell."""
        found = self._convert(selection, owner, self._atom("TARGETS"))
        if found is None:
            return ["UTF8_STRING", "STRING"]
        atoms = memoryview(found[1][: len(found[1]) // 4 * 4]).cast("I")[:_MAX_TARGETS]
        asked: list[Any] = [
            request.GetAtomName(display=self._display.display, defer=True, atom=atom) for atom in atoms if atom
        ]
        names = []
        for reply in asked:
            with contextlib.suppress(XError):  # not an atom
                reply.reply()
                names.append(reply.name)
        return names

    def _convert(self, selection: int, owner: Any, target: int) -> tuple[int, bytes] | None:
        """Return a selection as `target`: its type and bytes; None if the owner refuses, or goes away."""
        place = self._atom("TOOLBOX_SELECTION")
        self._owner = owner.id
        self._attend(owner.id)

        def is_answer(each: Any) -> bool:
            if each.type == X.DestroyNotify:
                return bool(each.window.id == owner.id)
            return bool(each.type == X.SelectionNotify and each.requestor.id == self._window.id)

        try:
            self._window.delete_property(place)
            self._window.convert_selection(selection, target, place, self._time())
            answer = self._expect(is_answer)
            if answer.type == X.DestroyNotify or answer.property == X.NONE:
                return None
            return self._take(place, owner)
        except (OwnerUnresponsive, ContentTooLarge):
            self._renew_window()
            raise
        finally:
            self._owner = X.NONE
            self._attend(owner.id)

    def _take(self, place: int, owner: Any) -> tuple[int, bytes] | None:
        """Take the content out of our window's property."""
        whole = self._property(self._window.id, place)
        if whole is None:
            return None
        if whole.property_type != self._atom("INCR"):
            return whole.property_type, _as_bytes(whole.value)
        pieces = bytearray()

        def is_piece(each: Any) -> bool:
            if each.type == X.DestroyNotify:
                return bool(each.window.id == owner.id)
            return bool(
                each.type == X.PropertyNotify
                and each.window.id == self._window.id
                and each.atom == place
                and each.state == X.PropertyNewValue
            )

        while True:
            if self._expect(is_piece).type == X.DestroyNotify:
                return None
            piece = self._property(self._window.id, place)
            if piece is None:
                continue
            data = _as_bytes(piece.value)
            if not data:
                return piece.property_type, bytes(pieces)
            pieces += data
            if len(pieces) > MAX_BYTES:
                raise ContentTooLarge

    def _property(self, window_id: int, place: int) -> Any:
        """Return a property, and take it away; None if there is none. Raises `ContentTooLarge`."""
        reply: Any = request.GetProperty(
            display=self._display.display,
            window=window_id,
            property=place,
            type=X.AnyPropertyType,
            long_offset=0,
            long_length=MAX_BYTES // 4,
            delete=True,
        )
        if reply.bytes_after:
            raise ContentTooLarge
        return reply if reply.property_type != X.NONE else None

    def _renew_window(self) -> None:
        """Take another window, so that answers that come late reach nobody. Its id is not used again."""
        old, self._window = self._window, self._new_window()
        for selection, (since, _) in self._held.items():
            self._window.set_selection_owner(selection, since)
        request.DestroyWindow(display=self._display.display, window=old.id)
        self._display.sync()

    # -- events

    def _attend(self, window_id: int) -> None:
        """Have us told of what we need to know about another program's window: its end, and that it took a piece."""
        mask = X.StructureNotifyMask if window_id == self._owner else 0
        if any(window_id == other for other, _ in self._transfers):
            mask |= X.StructureNotifyMask | X.PropertyChangeMask
        window: Any = self._display.create_resource_object("window", window_id)
        window.change_attributes(event_mask=mask)

    def _new_window(self) -> Any:
        return self._root.create_window(-1, -1, 1, 1, 0, X.CopyFromParent, event_mask=X.PropertyChangeMask)

    def _time(self) -> int:
        """Return the server's time: that at which it changes a property for us."""
        place = self._atom("TOOLBOX_TIME")
        self._window.change_property(place, Xatom.INTEGER, 32, [], mode=X.PropModeAppend)
        changed = self._expect(
            lambda each: each.type == X.PropertyNotify and each.window.id == self._window.id and each.atom == place
        )
        return int(changed.time)

    def _expect(self, matches: Callable[[Any], bool]) -> Any:
        """Wait for an event, and answer other programs meanwhile. Raises `OwnerUnresponsive`."""
        end = time.monotonic() + ANSWER_SECONDS
        while True:
            while self._display.pending_events():
                each: Any = self._display.next_event()
                if matches(each):
                    return each
                self._dispatch(each)
            if time.monotonic() > end:
                raise OwnerUnresponsive(ANSWER_SECONDS)
            self._wait(end - time.monotonic())  # at once: whatever else talks to the server may queue events

    def _dispatch(self, each: Any) -> None:
        """Do what an event of another program is about."""
        if each.type == X.SelectionRequest:
            self._answer(each)
        elif each.type == X.SelectionClear and each.window.id == self._window.id:
            self._held.pop(each.atom, None)
        elif each.type == X.PropertyNotify and each.state == X.PropertyDelete:
            if (each.window.id, each.atom) in self._transfers:
                self._continue_transfer((each.window.id, each.atom))
        elif each.type == X.DestroyNotify:
            for key in [key for key in self._transfers if key[0] == each.window.id]:
                self._end_transfer(key)

    def _wait(self, seconds: float | None) -> None:
        """Wait until the server says something, somebody wakes us, or the time is over."""
        for descriptor, _ in self._poll.poll(None if seconds is None else max(0, seconds) * 1000):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)


def _as_bytes(value: tuple[int, Any] | None) -> bytes:
    return b"" if value is None else bytes(value[1])

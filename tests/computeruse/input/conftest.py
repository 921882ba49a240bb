"""A window that writes down what the mouse and the keyboard do, and programs that are typed into."""

import asyncio
import select
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from Xlib import X
from Xlib.display import Display
from Xlib.protocol.event import ClientMessage

from tests.computeruse.programs import display_name
from tests.conftest import Daemon
from toolbox.computeruse.input import requests
from toolbox.computeruse.input.keymap import Keymap, read_keymap
from toolbox.computeruse.input.text import character_of
from toolbox.lifetime import TaskSet

KINDS = {
    X.KeyPress: "key down",
    X.KeyRelease: "key up",
    X.ButtonPress: "button down",
    X.ButtonRelease: "button up",
    X.MotionNotify: "move",
}


@dataclass(frozen=True)
class Seen:
    """One event, as a program sees it."""

    kind: str
    detail: int
    """Keycode or button."""
    state: int
    """Modifiers before the event."""
    x: int
    y: int
    keysym: int = 0

    @property
    def character(self) -> str:
        """What a key types."""
        return character_of(self.keysym)


class Observer:
    """A window over the whole screen, on a connection of its own, that has the focus.

    It reads the keymap when the event arrives, as toolkits do, and takes modifiers into account as they do.
    """

    def __init__(self, name: str) -> None:
        self.display = Display(name)
        self.root = self.display.screen().root
        mask = X.KeyPressMask | X.KeyReleaseMask | X.ButtonPressMask | X.ButtonReleaseMask | X.PointerMotionMask
        self.window = self.root.create_window(0, 0, 1280, 720, 0, X.CopyFromParent, event_mask=mask)
        self.window.map()
        self.window.set_input_focus(X.RevertToParent, X.CurrentTime)
        # On another connection: one that speaks XKB is told of changed keymaps in XKB's way only.
        self._asking = Display(name)
        extension = self._asking.query_extension("XKEYBOARD")
        assert extension is not None
        self._xkb = extension.major_opcode
        requests.UseXkb(self._asking.display, opcode=self._xkb, major=1, minor=0)
        self.display.sync()
        self._maps: dict[int, Keymap] = {}
        self.read()

    def close(self) -> None:
        """End the connections."""
        self.display.close()
        self._asking.close()

    def events(self) -> list[Any]:
        """Return the events since the last time."""
        self.display.sync()
        count = self.display.pending_events()
        return [self.display.next_event() for _ in range(count)]

    def answer_pings(self, stop: threading.Event) -> list[Any]:
        """Answer the pings of window managers until `stop`, and return the other events."""
        self._announce_answers(yes=True)
        seen = []
        while not stop.is_set():
            for event in self.events():
                if event.type == X.ClientMessage:
                    self._answer(event)
                else:
                    seen.append(event)
            select.select([self.display.fileno()], [], [], 0.02)
        self._announce_answers(yes=False)
        return seen

    def _announce_answers(self, *, yes: bool) -> None:
        self.window.set_wm_protocols([self.display.intern_atom("_NET_WM_PING")] if yes else [])
        self.display.sync()

    def _answer(self, event: ClientMessage) -> None:
        answer = ClientMessage(window=self.root, client_type=event.client_type, data=event.data)
        self.root.send_event(answer, event_mask=X.SubstructureNotifyMask | X.SubstructureRedirectMask)
        self.display.flush()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[list[Seen]]:
        """See what happens while it happens, as a program does: later the keymap is another one.

        Pings are answered, so that keys keep their meaning however late they are looked up. Gives a list that is
        complete once this is left.
        """
        seen: list[Seen] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                seen.extend(self.read())
                select.select([self.display.fileno()], [], [], 0.01)
            seen.extend(self.read())

        await asyncio.to_thread(self._announce_answers, yes=True)
        async with TaskSet() as tasks:
            task = tasks.start(asyncio.to_thread(watch), "observer")
            try:
                yield seen
            finally:
                stop.set()
                await task
        await asyncio.to_thread(self._announce_answers, yes=False)

    def read(self) -> list[Seen]:
        """Return what has been seen since the last time."""
        found = []
        for event in self.events():
            if event.type == X.MappingNotify:
                self._maps.clear()
            elif event.type == X.ClientMessage:
                self._answer(event)
            elif event.type in KINDS:
                keysym = self._keysym(event.detail, event.state) if "key" in KINDS[event.type] else 0
                found.append(
                    Seen(KINDS[event.type], event.detail, event.state & 0x1FFF, event.root_x, event.root_y, keysym)
                )
        return found

    def _keysym(self, keycode: int, state: int) -> int:
        # Clients that do not speak XKB are told a modifier in place of the layout.
        group = requests.GetState(self._asking.display, opcode=self._xkb, device=requests.CORE_KEYBOARD).group
        if group not in self._maps:
            data = requests.GetMap(
                self._asking.display,
                opcode=self._xkb,
                device=requests.CORE_KEYBOARD,
                full=requests.MAP_PARTS,
                partial=0,
            ).data
            self._maps[group] = read_keymap(data, group)
        strokes = [
            (keysym, stroke) for keysym, stroke in self._maps[group].strokes.items() if stroke.keycode == keycode
        ]
        exact = [keysym for keysym, stroke in strokes if state & stroke.deciding & 0xFF == stroke.modifiers]
        # Modifiers that a key's type does not name give its first level.
        best = (exact or [keysym for keysym, stroke in strokes if not stroke.modifiers] or [0])[0]
        if state & X.LockMask and 0x61 <= best <= 0xFF:  # what libX11 and xkbcommon do with Caps Lock
            return ord(chr(best).upper())
        return best

    def keyboard(self) -> Any:
        """Return the whole keyboard mapping."""
        return [tuple(row) for row in self.display.get_keyboard_mapping(8, 248)]

    def clients(self) -> int:
        """Return how many connections the X server has."""
        clients: list[Any] = self.display.res_query_clients().clients
        return len(clients)

    def pressed(self) -> tuple[list[int], int]:
        """Return the keycodes that are down, and the buttons and modifiers in effect."""
        bits = self.display.query_keymap()
        down = [code for code in range(256) if bits[code >> 3] >> (code & 7) & 1]
        return down, self.root.query_pointer().mask


@dataclass
class Hands:
    """Mouse and keyboard through a daemon."""

    daemon: Daemon

    async def __call__(self, route: str, status: int = 200, **body: Any) -> Any:
        """Call a route of the mouse or the keyboard and return its answer."""
        async with self.daemon.http.post(f"/computeruse/{route}", json=body) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def position(self) -> tuple[int, int]:
        """Return where the pointer is."""
        async with self.daemon.http.get("/computeruse/mouse/position") as response:
            assert response.status == 200, await response.text()
            answer = await response.json()
            return answer["x"], answer["y"]


@pytest.fixture
def observer(bare: Daemon) -> Iterator[Observer]:
    """Return a window over the whole screen."""
    watching = Observer(display_name())
    yield watching
    watching.close()


@pytest.fixture
def hands(bare: Daemon) -> Hands:
    """Return the mouse and the keyboard of a bare desktop."""
    return Hands(bare)

"""A window that writes down what the mouse and the keyboard do, and programs that are typed into."""

import select
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from Xlib import X
from Xlib.display import Display
from Xlib.protocol.event import ClientMessage

from tests.conftest import Daemon
from toolbox.children import tree
from toolbox.computeruse.input import requests
from toolbox.computeruse.input.keymap import Keymap, read_keymap
from toolbox.computeruse.input.text import character_of

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
        ping = self.display.intern_atom("_NET_WM_PING")
        self.window.set_wm_protocols([ping])
        self.display.sync()
        seen = []
        while not stop.is_set():
            for event in self.events():
                if event.type == X.ClientMessage:
                    answer = ClientMessage(window=self.root, client_type=event.client_type, data=event.data)
                    self.root.send_event(answer, event_mask=X.SubstructureNotifyMask | X.SubstructureRedirectMask)
                    self.display.flush()
                else:
                    seen.append(event)
            select.select([self.display.fileno()], [], [], 0.02)
        return seen

    def read(self) -> list[Seen]:
        """Return what has been seen since the last time."""
        found = []
        for event in self.events():
            if event.type == X.MappingNotify:
                self._maps.clear()
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


def find_xvfb() -> tuple[int, str]:
    """Return the process and the display's name of the X server that the daemon of this process has started."""
    with Path("/proc/net/unix").open() as file:
        sockets = {words[6]: words[7] for words in map(str.split, file) if len(words) > 7}  # path by inode
    for pid in tree.direct_children():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                path = sockets.get(entry.readlink().name.removeprefix("socket:[").removesuffix("]"), "")
                if "/.X11-unix/X" in path:
                    return pid, f":{path.rpartition('X')[2]}"
    raise AssertionError("no X server")


@pytest.fixture
def observer(bare: Daemon) -> Iterator[Observer]:
    """Return a window over the whole screen."""
    watching = Observer(find_xvfb()[1])
    yield watching
    watching.close()


@pytest.fixture
def hands(bare: Daemon) -> Hands:
    """Return the mouse and the keyboard of a bare desktop."""
    return Hands(bare)

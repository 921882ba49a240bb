"""A program with windows, for tests: `python window_program.py '[{"title": ...}, ...]'`.

It prints the ids of its windows as one JSON line, and ends when the last was closed. Keys of a window, all optional:
title, icccm_title and compound_title (as WM_NAME), x, y, width, height, class, type, transient_for (the number of an
earlier one), stubborn (does not close), deaf (cannot be asked to close), pid (a false one).
"""

import json
import sys
from typing import Any

from Xlib import X, Xatom
from Xlib.display import Display


class Program:
    """The windows, and what they do."""

    def __init__(self) -> None:
        self.display = Display()
        self.root: Any = self.display.screen().root
        self.open: dict[int, dict[str, Any]] = {}

    def atom(self, name: str) -> int:
        return self.display.get_atom(name)

    def create(self, options: dict[str, Any]) -> int:
        window = self.root.create_window(
            options.get("x", 10), options.get("y", 30), options.get("width", 200), options.get("height", 100), 0,
            self.display.screen().root_depth, event_mask=X.StructureNotifyMask,
        )  # fmt: skip
        if "title" in options:
            title = options["title"].encode()
            window.change_property(self.atom("_NET_WM_NAME"), self.atom("UTF8_STRING"), 8, title)
        if "icccm_title" in options:
            window.change_property(Xatom.WM_NAME, Xatom.STRING, 8, options["icccm_title"].encode("latin-1"))
        if "compound_title" in options:
            text = bytes.fromhex(options["compound_title"])
            window.change_property(Xatom.WM_NAME, self.atom("COMPOUND_TEXT"), 8, text)
        if "class" in options:
            window.set_wm_class(options["class"].lower(), options["class"])
        if "type" in options:
            kind = self.atom(f"_NET_WM_WINDOW_TYPE_{options['type'].upper()}")
            window.change_property(self.atom("_NET_WM_WINDOW_TYPE"), Xatom.ATOM, 32, [kind])
        if "transient_for" in options:
            window.change_property(
                Xatom.WM_TRANSIENT_FOR, Xatom.WINDOW, 32, [list(self.open)[options["transient_for"]]]
            )
        if "pid" in options:
            window.change_property(self.atom("_NET_WM_PID"), Xatom.CARDINAL, 32, [options["pid"]])
        if not options.get("deaf"):
            window.set_wm_protocols([self.atom("WM_DELETE_WINDOW")])
        # The place is the user's wish, so that a window manager keeps it.
        window.set_wm_normal_hints(flags=1 | 2, x=options.get("x", 10), y=options.get("y", 30))
        window.map()
        self.open[window.id] = options
        return int(window.id)

    def run(self) -> None:
        while self.open:
            event = self.display.next_event()
            if event.type == X.ClientMessage and not self.open[event.window.id].get("stubborn"):
                event.window.destroy()
                del self.open[event.window.id]
                self.display.sync()


program = Program()
ids = [program.create(each) for each in json.loads(sys.argv[1])]
program.display.sync()
print(json.dumps(ids), flush=True)
program.run()

"""A program that owns or reads the clipboard, for tests: `python clipboard_program.py ROLE`. It says when it is ready.

silent: owns it and never answers. dies: owns it and ends when it is asked. stalls: says that it comes piece by piece,
and sends none. endless: pieces without end. old: a text as STRING, and it does not tell targets. many: reads several
targets at once, and prints what came.
"""

import sys
from typing import Any

from Xlib import X, Xatom
from Xlib.display import Display
from Xlib.protocol import event

role = sys.argv[1]
display = Display()
root: Any = display.screen().root
window = root.create_window(0, 0, 1, 1, 0, X.CopyFromParent)
atom = display.get_atom
CLIPBOARD, UTF8, INCR = atom("CLIPBOARD"), atom("UTF8_STRING"), atom("INCR")


def tell(asked: Any, place: int) -> None:
    asked.requestor.send_event(
        event.SelectionNotify(
            time=asked.time, requestor=asked.requestor, selection=asked.selection, target=asked.target, property=place
        )
    )
    display.sync()


def answer(asked: Any) -> None:
    if role == "dies":
        sys.exit()
    if role == "silent":
        return
    if asked.target == atom("TARGETS") and role != "old":
        asked.requestor.change_property(asked.property, Xatom.ATOM, 32, [UTF8])
    elif asked.target == Xatom.STRING and role == "old":
        asked.requestor.change_property(asked.property, Xatom.STRING, 8, "Grüße".encode("latin-1"))
    elif asked.target == UTF8 and role != "old":
        asked.requestor.change_attributes(event_mask=X.PropertyChangeMask)
        asked.requestor.change_property(asked.property, INCR, 32, [1])
    else:
        tell(asked, X.NONE)
        return
    tell(asked, asked.property)


def own() -> None:
    window.set_selection_owner(CLIPBOARD, X.CurrentTime)
    display.sync()
    print("ready", flush=True)
    while True:
        each: Any = display.next_event()
        if each.type == X.SelectionRequest:
            answer(each)
        elif role == "endless" and each.type == X.PropertyNotify and each.state == X.PropertyDelete:
            each.window.change_property(each.atom, UTF8, 8, b"x" * 200_000)
            display.flush()


def read_many() -> None:
    asked = ["UTF8_STRING", "image/png", "STRING", "TIMESTAMP"]
    pairs = [number for name in asked for number in (atom(name), atom(f"PLACE_{name}"))]
    window.change_property(atom("PAIRS"), atom("ATOM_PAIR"), 32, pairs)
    window.convert_selection(CLIPBOARD, atom("MULTIPLE"), atom("PAIRS"), X.CurrentTime)
    while display.next_event().type != X.SelectionNotify:
        pass
    answered = list(window.get_full_property(atom("PAIRS"), X.AnyPropertyType).value)
    for name, place in zip(asked, answered[1::2], strict=True):
        print(name, place and window.get_full_property(place, X.AnyPropertyType).value, flush=True)


if role == "many":
    read_many()
else:
    own()

"""Requests to the X server that python-xlib does not have, or packs slowly."""

import struct
from typing import TYPE_CHECKING

from Xlib.protocol import rq

if TYPE_CHECKING:
    from Xlib.protocol.display import Display

CORE_KEYBOARD = 0x0100
_MAP_TYPES, _MAP_SYMS, _MAP_MODIFIERS = 1, 2, 4
MAP_PARTS = _MAP_TYPES | _MAP_SYMS | _MAP_MODIFIERS

_FAKE_INPUT = struct.Struct("=BBHBB2xLL8xhh8x")


class FakeInput(rq.Request):
    """XTEST's FakeInput, packed in a tenth of the time that python-xlib's takes: typing is thousands of them."""

    def __init__(self, display: "Display", opcode: int, kind: int, detail: int, x: int = 0, y: int = 0) -> None:
        self._errorhandler = None
        self._binary = _FAKE_INPUT.pack(opcode, 2, 9, kind, detail, 0, 0, x, y)
        self._serial = None
        display.send_request(self, False)


class UseXkb(rq.ReplyRequest):
    """XKB's UseExtension: it comes before the others."""

    _request = rq.Struct(rq.Card8("opcode"), rq.Opcode(0), rq.RequestLength(), rq.Card16("major"), rq.Card16("minor"))
    _reply = rq.Struct(rq.ReplyCode(), rq.Card8("supported"), rq.Card16("sequence_number"), rq.ReplyLength())


class GetState(rq.ReplyRequest):
    """XKB's GetState: which modifiers are in effect, and why, and which layout (group)."""

    _request = rq.Struct(rq.Card8("opcode"), rq.Opcode(4), rq.RequestLength(), rq.Card16("device"), rq.Pad(2))
    _reply = rq.Struct(
        rq.ReplyCode(),
        rq.Card8("device"),
        rq.Card16("sequence_number"),
        rq.ReplyLength(),
        rq.Card8("mods"),
        rq.Card8("base_mods"),
        rq.Card8("latched_mods"),
        rq.Card8("locked_mods"),
        rq.Card8("group"),
        rq.Pad(19),
    )


class LockModifiers(rq.Request):
    """XKB's LatchLockState: locks and unlocks modifiers, without a key being pressed."""

    _request = rq.Struct(
        rq.Card8("opcode"),
        rq.Opcode(5),
        rq.RequestLength(),
        rq.Card16("device"),
        rq.Card8("affected"),
        rq.Card8("locked"),
        rq.Pad(8),
    )


class GetMap(rq.ReplyRequest):
    """XKB's GetMap: key types, keysyms and modifiers; `data` is the reply after its first 8 bytes."""

    _request = rq.Struct(
        rq.Card8("opcode"),
        rq.Opcode(8),
        rq.RequestLength(),
        rq.Card16("device"),
        rq.Card16("full"),
        rq.Card16("partial"),
        rq.Pad(18),
    )
    _reply = rq.Struct(
        rq.ReplyCode(),
        rq.Card8("device"),
        rq.Card16("sequence_number"),
        rq.ReplyLength(),
        rq.Binary("data", pad=0),
    )

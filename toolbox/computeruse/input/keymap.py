"""What the keys of the current layout give, as XKB tells it (reply to GetMap, protocol of XKB 1.0)."""

import struct
from dataclasses import dataclass, field

from toolbox.computeruse.input.text import character_of

SHIFT, LOCK = 1, 2

_NUM_LOCK = 0xFF7F
_SHIFTING = {0xFFE1, 0xFFE2, 0xFE03, 0xFE11, 0xFF7E}
"""Shift_L, Shift_R, ISO_Level3_Shift, ISO_Level5_Shift, Mode_switch: what may be pressed to reach a level of a key."""

_FIRST_FAR_KEY, _FAR_COST = 94, 4
"""Keys behind the typewriter's: a shifted key of those is better than one that most keyboards do not have."""

_HEAD = struct.Struct("=7xBxBxxB12xB")
_HEAD_SIZE = 32
_TYPE = struct.Struct("=BBHBBBx")
_ENTRY = struct.Struct("=BBB5x")
_KEY = struct.Struct("=4BBBH")


@dataclass(frozen=True, slots=True)
class Stroke:
    """How a keysym is reached: a key, with `modifiers` of those that matter to it (`deciding`) in effect."""

    keycode: int
    modifiers: int = 0
    deciding: int = 0


@dataclass(slots=True)
class _Type:
    deciding: int
    levels: int
    entries: list[tuple[int, int]]
    """Levels by modifiers; without an entry it is level 0."""


@dataclass(slots=True)
class Keymap:
    """The keys of one layout (group)."""

    strokes: dict[int, Stroke] = field(default_factory=dict)
    """By keysym: the way that takes the fewest modifiers."""
    characters: dict[str, Stroke] = field(default_factory=dict)
    spare: list[int] = field(default_factory=list)
    """Keycodes without a meaning."""
    holders: dict[int, int] = field(default_factory=dict)
    """The key to press for a modifier's bit, of those that reach levels."""
    modifiers: dict[int, int] = field(default_factory=dict)
    """The bits that a key sets."""
    num_lock: int = 0
    """The bit of Num Lock."""

    @property
    def locks(self) -> int:
        """The bits of what is switched, not held."""
        return LOCK | self.num_lock


def read_keymap(reply: bytes, group: int) -> Keymap:
    """Return the keys as they are while `group` is in effect."""
    count, first, keys, modifiers = _HEAD.unpack_from(reply)
    types, at = _read_types(reply, count)
    levels: list[tuple[int, _Type | None, tuple[int, ...]]] = []
    for keycode in range(first, first + keys):
        *indices, groups, width, size = _KEY.unpack_from(reply, at)
        at += _KEY.size
        syms = struct.unpack_from(f"={size}L", reply, at)
        at += 4 * size
        which = _effective(group, groups)
        levels.append((keycode, types[indices[which]] if size else None, syms[which * width : (which + 1) * width]))
    keymap = Keymap()
    for number in range(modifiers):
        keycode, bits = reply[at + 2 * number], reply[at + 2 * number + 1]
        keymap.modifiers[keycode] = bits
    _fill(keymap, levels)
    return keymap


def _read_types(reply: bytes, count: int) -> tuple[list[_Type], int]:
    types, at = [], _HEAD_SIZE
    for _ in range(count):
        deciding, _, _, number, entries, preserve = _TYPE.unpack_from(reply, at)
        at += _TYPE.size
        read = [_ENTRY.unpack_from(reply, at + _ENTRY.size * n) for n in range(entries)]
        at += _ENTRY.size * entries + (4 * entries if preserve else 0)
        types.append(_Type(deciding, number, [(mods, level) for active, mods, level in read if active]))
    return types, at


def _effective(group: int, info: int) -> int:
    """Return the group of a key that has fewer of them than there are: it wraps, clamps, or goes to one."""
    count = info & 0x0F
    if group < count:
        return group
    if info & 0x80:
        target = info >> 4 & 0x03
        return target if target < count else 0
    if info & 0x40:
        return max(count - 1, 0)
    return group % count if count else 0


def _fill(keymap: Keymap, levels: list[tuple[int, _Type | None, tuple[int, ...]]]) -> None:
    for keycode, _, syms in levels:
        bits = keymap.modifiers.get(keycode, 0)
        if syms and syms[0] in _SHIFTING:
            for bit in (1 << n for n in range(8) if bits >> n & 1):
                keymap.holders.setdefault(bit, keycode)
        if syms and syms[0] == _NUM_LOCK:
            keymap.num_lock |= bits
    best: dict[int, int] = {}
    for keycode, kind, syms in levels:
        if not any(syms) and not keymap.modifiers.get(keycode):
            keymap.spare.append(keycode)
        for level, keysym in enumerate(syms if kind else ()):
            if keysym and (reached := _reach(keymap, kind, level)) is not None:
                modifiers, cost = reached
                cost += _FAR_COST if keycode >= _FIRST_FAR_KEY else 0
                if cost < best.get(keysym, 100):
                    best[keysym] = cost
                    keymap.strokes[keysym] = Stroke(keycode, modifiers, kind.deciding if kind else 0)
    for keysym, stroke in keymap.strokes.items():
        if (character := character_of(keysym)) and not stroke.modifiers & keymap.num_lock:
            keymap.characters.setdefault(character, stroke)


def _reach(keymap: Keymap, kind: _Type | None, level: int) -> tuple[int, int] | None:
    """Return the modifiers that reach a level of a key, and how many of them have to be held."""
    if kind is None or level == 0:
        return 0, 0
    ways = []
    for modifiers, reached in kind.entries:
        held = [bit for bit in (1 << n for n in range(8)) if modifiers & bit & ~keymap.num_lock]
        if reached == level and all(bit in keymap.holders for bit in held):
            ways.append((len(held), modifiers))
    return (min(ways)[1], min(ways)[0]) if ways else None

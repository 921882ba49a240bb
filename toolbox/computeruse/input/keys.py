"""The names of keys, and the grammar of chords. Knows no X: a key is the names of the keysyms it may be."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolbox.errors import BadRequest

_NAMES: dict[str, tuple[str, ...]] = {
    "alt": ("Alt_L",),
    "altgr": ("ISO_Level3_Shift", "Mode_switch", "Alt_R"),
    "backspace": ("BackSpace",),
    "capslock": ("Caps_Lock",),
    "cmd": ("Super_L",),
    "compose": ("Multi_key",),
    "ctrl": ("Control_L",),
    "delete": ("Delete",),
    "down": ("Down",),
    "end": ("End",),
    "enter": ("Return",),
    "escape": ("Escape",),
    "home": ("Home",),
    "insert": ("Insert",),
    "lalt": ("Alt_L",),
    "lcmd": ("Super_L",),
    "lctrl": ("Control_L",),
    "left": ("Left",),
    "lshift": ("Shift_L",),
    "menu": ("Menu",),
    "num_asterisk": ("KP_Multiply",),
    "num_decimal": ("KP_Decimal", "KP_Separator"),
    "num_enter": ("KP_Enter",),
    "num_equal": ("KP_Equal",),
    "num_lock": ("Num_Lock",),
    "num_minus": ("KP_Subtract",),
    "num_plus": ("KP_Add",),
    "num_slash": ("KP_Divide",),
    "pagedown": ("Next",),
    "pageup": ("Prior",),
    "pause": ("Pause",),
    "print": ("Print",),
    # Where the right Alt key is AltGr, that is what it gives.
    "ralt": ("Alt_R", "ISO_Level3_Shift"),
    "rcmd": ("Super_R",),
    "rctrl": ("Control_R",),
    "right": ("Right",),
    "rshift": ("Shift_R",),
    "scroll_lock": ("Scroll_Lock",),
    "shift": ("Shift_L",),
    "space": ("space",),
    "tab": ("Tab",),
    "up": ("Up",),
    "volume_up": ("XF86AudioRaiseVolume",),
    "volume_down": ("XF86AudioLowerVolume",),
    "volume_mute": ("XF86AudioMute",),
    "media_play": ("XF86AudioPlay",),
    "media_pause": ("XF86AudioPause",),
    "media_stop": ("XF86AudioStop",),
    "media_next": ("XF86AudioNext",),
    "media_previous": ("XF86AudioPrev",),
    "brightness_up": ("XF86MonBrightnessUp",),
    "brightness_down": ("XF86MonBrightnessDown",),
    "browser_back": ("XF86Back",),
    "browser_forward": ("XF86Forward",),
    **{f"f{number}": (f"F{number}",) for number in range(1, 25)},
    **{f"num{digit}": (f"KP_{digit}",) for digit in range(10)},
}

_ALIASES = {
    "alt_gr": "altgr",
    "arrow_down": "down",
    "arrow_left": "left",
    "arrow_right": "right",
    "arrow_up": "up",
    "arrowdown": "down",
    "arrowleft": "left",
    "arrowright": "right",
    "arrowup": "up",
    "audio_mute": "volume_mute",
    "audio_volume_down": "volume_down",
    "audio_volume_up": "volume_up",
    "caps_lock": "capslock",
    "command": "cmd",
    "control": "ctrl",
    "del": "delete",
    "esc": "escape",
    "media_play_pause": "media_play",
    "media_prev": "media_previous",
    "meta": "cmd",
    "mute": "volume_mute",
    "numlock": "num_lock",
    "option": "alt",
    "page_down": "pagedown",
    "page_up": "pageup",
    "print_screen": "print",
    "printscreen": "print",
    "prtsc": "print",
    "return": "enter",
    "scrolllock": "scroll_lock",
    "spacebar": "space",
    "super": "cmd",
    "win": "cmd",
    "windows": "cmd",
    **{
        f"{side}_{name}": f"{side[0]}{key}"
        for side in ("left", "right")
        for name, key in (
            ("alt", "alt"),
            ("cmd", "cmd"),
            ("command", "cmd"),
            ("control", "ctrl"),
            ("ctrl", "ctrl"),
            ("shift", "shift"),
        )
    },
}

NAMES = frozenset(_NAMES) | frozenset(_ALIASES)
"""Every name that is no keysym's; any case, and `-` is as good as `_`."""

_MODIFIERS = ("ctrl", "alt", "shift", "cmd")
_SIDES = {f"{side}{name}": name for side in "lr" for name in _MODIFIERS}
_KEYPAD_SYMBOLS = {"+": "plus", "-": "minus", "*": "asterisk", "/": "slash", ".": "decimal", "=": "equal"}
_BLANKS = {" ": "space", "\t": "tab", "\n": "enter", "\r": "enter"}


@dataclass(frozen=True, slots=True)
class Key:
    """A key by the keysyms it may be, best first; `character` instead for one that is asked for by what it types."""

    text: str
    keysyms: tuple[str, ...] = ()
    character: str = ""


@dataclass(frozen=True, slots=True)
class Chord:
    """A key, and the modifiers held while it is pressed."""

    key: Key
    modifiers: tuple[Key, ...] = ()


def parse_key(text: str) -> Key:
    """Return the key of that name. Raises `BadRequest` for what no key can be called.

    A name that is not ours is taken for a keysym's; whether there is one is found out later.
    """
    if len(text) == 1:
        if text in _BLANKS:
            raise BadRequest(f'unsupported key {text!r}: this key is named "{_BLANKS[text]}"')
        if not text.isprintable():
            raise BadRequest(f"unsupported key: control character U+{ord(text):04X}")
        return Key(text, character=text.lower() if text.isascii() else text)
    stripped = text.strip()
    if not stripped:
        raise BadRequest("unsupported key: the name is empty")
    if stripped[:3].lower() == "num" and stripped[3:] in _KEYPAD_SYMBOLS:
        raise BadRequest(f'unsupported key "{stripped}": this key is named "num_{_KEYPAD_SYMBOLS[stripped[3:]]}"')
    name = _canonical(stripped)
    return Key(stripped, _NAMES.get(name, (stripped,)))


def parse_chord(key: str, modifiers: Sequence[str]) -> Chord:
    """Return the chord of a key and the names of modifiers. Raises `BadRequest`."""
    if not key.strip() and key not in _BLANKS:
        raise BadRequest("unsupported key: the name is empty")
    main = _canonical(key)
    return Chord(parse_key(key), parse_modifiers(modifiers, _SIDES.get(main, main)))


def parse_hotkey(text: str) -> Chord:
    """Return the chord of a text like `ctrl+shift+t`. Raises `BadRequest`."""
    *modifiers, key = (part.strip() for part in text.split("+"))
    try:
        if not all((*modifiers, key)):
            raise BadRequest('a key\'s name is empty (the key + is named "plus")')  # noqa: TRY301
        if any(len(part.split()) > 1 for part in (*modifiers, key)):
            raise BadRequest("one chord at a time")  # noqa: TRY301
        for name in map(_canonical, modifiers):
            if name not in _MODIFIERS and name not in _SIDES and (len(name) == 1 or name in NAMES):
                raise BadRequest("a chord has one key that is not a modifier, at its end")  # noqa: TRY301
        return parse_chord(key, modifiers)
    except BadRequest as error:
        raise BadRequest(f'invalid hotkey "{text}": {error.message}') from None


def parse_modifiers(names: Sequence[str], main: str = "") -> tuple[Key, ...]:
    """Return the modifiers of these names, without doubles and without `main`. Raises `BadRequest`."""
    found: list[str] = []
    for name in names:
        modifier = _canonical(name)
        if modifier not in _MODIFIERS:
            hint = "; left and right ones can only be the key itself" if modifier in _SIDES else ""
            raise BadRequest(f'unsupported modifier "{name}": use one of {", ".join(_MODIFIERS)}{hint}')
        if modifier in found or modifier == main:
            raise BadRequest(f'duplicate modifier "{modifier}"')
        found.append(modifier)
    return tuple(Key(name, _NAMES[name]) for name in found)


def _canonical(name: str) -> str:
    name = name.strip().lower().replace("-", "_")
    return _ALIASES.get(name, name)

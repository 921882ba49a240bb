"""The keysyms that X has names for. Imported when first used: it loads Xlib's tables."""

import difflib
import importlib
import pkgutil
import re
from functools import cache

from Xlib import keysymdef

from toolbox.computeruse.input.keys import NAMES, Key
from toolbox.computeruse.input.text import keysym_of
from toolbox.errors import BadRequest

_UNICODE_NAME = re.compile(r"[Uu]\+?([0-9A-Fa-f]{4,6})")
_TERMINATE_SERVER = 0xFED5


@cache
def named_keysyms() -> dict[str, int]:
    """Return every keysym that has a name, by it."""
    found = {}
    for module in pkgutil.iter_modules(keysymdef.__path__):
        for name, value in vars(importlib.import_module(f"{keysymdef.__name__}.{module.name}")).items():
            if name.startswith("XK_"):
                found[re.sub(r"^XF86_", "XF86", name[3:])] = value
    return found


@cache
def _by_lower_name() -> dict[str, int]:
    """Return keysyms by names without regard to case; those that only case tells apart are left out."""
    found: dict[str, int] = {}
    clashing = set()
    for name, value in named_keysyms().items():
        if found.setdefault(name.lower(), value) != value:
            clashing.add(name.lower())
    return {name: value for name, value in found.items() if name not in clashing}


def keysyms_of(key: Key) -> tuple[int, ...]:
    """Return the keysyms that a key may be, best first. Raises `BadRequest` when it is none, with names near to it."""
    if key.character:
        return (keysym_of(key.character),)
    found = tuple(value for name in key.keysyms if (value := _named(name)))
    if not found:
        lower = key.text.lower().replace("-", "_")
        near = difflib.get_close_matches(lower, NAMES, 4) or difflib.get_close_matches(lower, _by_lower_name(), 4)
        raise BadRequest(f'unsupported key "{key.text}"' + (f": did you mean {', '.join(near)}?" if near else ""))
    if _TERMINATE_SERVER in found:
        raise BadRequest(f'unsupported key "{key.text}": it ends the X server')
    return found


def _named(name: str) -> int | None:
    found = named_keysyms().get(name) or _by_lower_name().get(name.lower().replace("-", "_"))
    if found is None and (match := _UNICODE_NAME.fullmatch(name)):
        code = int(match[1], 16)
        if code <= 0x10FFFF and chr(code).isprintable() and not chr(code).isspace():  # noqa: PLR2004
            return keysym_of(chr(code))
    return found

"""Names of AT-SPI, the D-Bus protocol between programs and assistive technology."""

import re

REGISTRY = "org.a11y.atspi.Registry"
ROOT_PATH = "/org/a11y/atspi/accessible/root"
NULL_PATH = "/org/a11y/atspi/null"
CACHE_PATH = "/org/a11y/atspi/cache"

ACCESSIBLE = "org.a11y.atspi.Accessible"
ACTION = "org.a11y.atspi.Action"
CACHE = "org.a11y.atspi.Cache"
COMPONENT = "org.a11y.atspi.Component"
EDITABLE_TEXT = "org.a11y.atspi.EditableText"
TEXT = "org.a11y.atspi.Text"
VALUE = "org.a11y.atspi.Value"
PROPERTIES = "org.freedesktop.DBus.Properties"

SCREEN_COORDINATES = 0

ROLE_EXTENDED = 70
"""The role number of what only has a role name."""

_STATE_ORDER = (
    "invalid active armed busy checked collapsed defunct editable enabled expandable expanded focusable focused "
    "has_tooltip horizontal iconified modal multi_line multiselectable opaque pressed resizable selectable selected "
    "sensitive showing single_line stale transient vertical visible manages_descendants indeterminate required "
    "truncated animated invalid_entry supports_autocompletion selectable_text is_default visited checkable has_popup "
    "read_only"
)
STATES = tuple(_STATE_ORDER.split())
"""Names of the states by their number."""


def state_bits(words: list[int]) -> int:
    """Return a state set as one number, from its words of 32 bits."""
    return sum(word << 32 * number for number, word in enumerate(words))


def state_names(bits: int) -> list[str]:
    """Return the names of the states in a set."""
    return [name for number, name in enumerate(STATES) if bits >> number & 1]


def state_bit(name: str) -> int:
    """Return the set of one state. Raises `ValueError`."""
    return 1 << STATES.index(name)


_BUS_NAME = re.compile(r"(?=.{1,255}\Z):?[\w-]+(\.[\w-]+)+", re.ASCII)
_OBJECT_PATH = re.compile(r"(/\w+)+", re.ASCII)


def parse_id(node_id: str) -> tuple[str, str]:
    """Return the bus name and the path of a node's id. Raises `ValueError`, with what is wrong."""
    name, slash, path = node_id.partition("/")
    if not slash:
        raise ValueError("it has no object path")
    if not name.endswith(":"):
        raise ValueError("no ':' before its object path")
    if not _OBJECT_PATH.fullmatch(slash + path):
        raise ValueError("malformed object path")
    if not _BUS_NAME.fullmatch(name[:-1]):
        raise ValueError("malformed bus name")
    return name[:-1], slash + path

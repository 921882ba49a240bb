"""What shape of output a client reads, by the version of its SDK (contract, section 3)."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum

VERSION_HEADER = "X-Daytona-SDK-Version"
SPLIT_HEADER = "X-Daytona-Split-Output"
_VERSION_PROTOCOL = VERSION_HEADER + "~"
_NUMBERS = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


class Shape(Enum):
    """How output is told apart."""

    COMBINED = 1
    """One text; clients before 0.27.0 and unknown ones."""
    MARKED = 2
    """One text with markers; clients before 0.167.0."""
    SPLIT = 3
    """JSON with both streams, beside the marked text."""


def shape_for(headers: Mapping[str, str], protocols: Sequence[str] = ()) -> Shape:
    """Return the shape for a client with these request headers and offered websocket subprotocols."""
    version = headers.get(VERSION_HEADER) or next(
        (token.partition("~")[2] for token in protocols if token.startswith(_VERSION_PROTOCOL)), ""
    )
    if not version:
        return Shape.SPLIT if headers.get(SPLIT_HEADER, "").lower() == "true" else Shape.COMBINED
    if "dev" in version:
        return Shape.SPLIT
    numbers = _NUMBERS.match(version)
    if numbers is None:
        return Shape.MARKED
    number = tuple(map(int, numbers.groups()))
    if number < (0, 27, 0):
        return Shape.COMBINED
    return Shape.SPLIT if number >= (0, 167, 0) else Shape.MARKED

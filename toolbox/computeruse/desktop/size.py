"""The size of a screen."""

import re
from typing import NamedTuple, Self

from toolbox.errors import BadRequest

SMALLEST = (64, 64)
LARGEST = (3840, 2160)
_TEXT = re.compile(r"(\d{1,5})x(\d{1,5})(?:x\d{1,2})?\Z")


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `WIDTHxHEIGHT`; a depth behind it is ignored. Raises `ValueError`."""
        found = _TEXT.match(text)
        if found is None:
            raise ValueError(text)
        return cls(int(found[1]), int(found[2]))

    def largest(self) -> "Size":
        """Return the largest size that a screen which begins with this one can have."""
        return Size(max(self.width, LARGEST[0]), max(self.height, LARGEST[1]))

    def check(self, largest: "Size") -> None:
        """Raise `BadRequest` for a size that a screen cannot have."""
        for name, value, low, high in zip(self._fields, self, SMALLEST, largest, strict=True):
            if not low <= value <= high:
                raise BadRequest(f"invalid {name}: {value}: must be from {low} to {high} pixels")

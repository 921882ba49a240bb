"""Amounts as Kubernetes writes them."""

import math
import re

_FACTORS = {
    "": 1,
    **{
        name: 1000.0**power
        for power, name in ((-3, "n"), (-2, "u"), (-1, "m"), (1, "k"), (2, "M"), (3, "G"), (4, "T"), (5, "P"), (6, "E"))
    },
    **{f"{name}i": 1024**power for power, name in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"\s*([+-]?[0-9.]+)(?:[eE]([+-]?\d+))?([numkKMGTPE]?i?)\s*\Z")
GIB = 1024**3


def parse_quantity(text: object) -> float:
    """Return an amount in cores or bytes. Raises `ValueError`."""
    match = _QUANTITY.match(str(text))
    if match is None or match[3] not in _FACTORS:
        raise ValueError(f"not a quantity: {text!r}")
    return float(float(match[1]) * 10.0 ** int(match[2] or 0) * _FACTORS[match[3]])


def whole(amount: float) -> int:
    """Return an amount as clients see it: at least 1, and not less than it is."""
    return max(1, math.ceil(round(amount, 6)))

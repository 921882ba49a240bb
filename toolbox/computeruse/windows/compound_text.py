"""Compound Text, the encoding of X titles before UTF-8: ISO 2022 with the sets that X clients use."""

import re
from collections.abc import Callable

_ESCAPE = re.compile(
    rb"(\x1b%[@G]|\x1b%/[0-4]..|\x1b[()*+,\-./][\x30-\x7e]|\x1b\$[()]?[\x30-\x7e]|\x9b[12]?\])", re.DOTALL
)
_LATIN = dict(zip(b"ABCDFGHLM", (1, 2, 3, 4, 7, 6, 8, 5, 9), strict=True))
"""The final byte of an escape sequence -> which ISO 8859."""
_DOUBLE = {ord("A"): "gb2312", ord("B"): "euc_jp", ord("C"): "euc_kr"}


def decode_compound_text(data: bytes) -> str:
    """Return the text; what is not understood is U+FFFD."""
    low: Callable[[bytes], str] = _ascii
    high: Callable[[bytes], str] = _codec("iso8859-1")
    utf8 = False
    parts = []
    for piece in _ESCAPE.split(data):
        if piece == b"\x1b%G":
            utf8 = True
        elif piece == b"\x1b%@":
            utf8 = False
        elif piece[:1] in {b"\x1b", b"\x9b"}:
            low, high = _designate(piece, low, high)
        elif utf8:
            parts.append(piece.decode("utf-8", "replace"))
        else:
            runs = re.findall(rb"[\x80-\xff]+|[\x00-\x7f]+", piece)
            parts += [(high if run[0] >= 0x80 else low)(run) for run in runs]  # noqa: PLR2004 -- the upper half
    return "".join(parts)


def _designate(
    escape: bytes, low: Callable[[bytes], str], high: Callable[[bytes], str]
) -> tuple[Callable[[bytes], str], Callable[[bytes], str]]:
    """Return how the lower and the upper half are read after an escape sequence."""
    final = escape[-1]
    if escape[1:2] == b"$":
        codec = _DOUBLE.get(final, "ascii")
        return (low, _codec(codec)) if escape[2:3] == b")" else (_raised(codec), high)
    if escape[1:2] == b"-":
        return low, _codec(f"iso8859-{_LATIN.get(final, 1)}")
    if escape[1:2] == b"(":
        return _ascii, high
    if escape[1:3] == b")I":
        return low, _codec("shift_jis")  # half-width katakana
    return low, high


def _codec(name: str) -> Callable[[bytes], str]:
    return lambda run: run.decode(name, "replace")


def _raised(name: str) -> Callable[[bytes], str]:
    """Return a decoder of what has its upper bits cleared; spaces and controls stay what they are."""

    def decode(run: bytes) -> str:
        return "".join(
            bytes(byte | 0x80 for byte in part).decode(name, "replace") if part[0] > 0x20 else part.decode("ascii")  # noqa: PLR2004
            for part in re.findall(rb"[\x21-\x7e]+|[\x00-\x20\x7f]+", run)
        )

    return decode


def _ascii(run: bytes) -> str:
    return run.decode("ascii", "replace")

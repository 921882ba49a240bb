r"""Name patterns, as the reference daemon understands them, as regular expressions.

`*` is any run of characters, `?` one character, `[a-z]` one of a set, `[^a]` one not of a set, `\x` the character
itself. A slash is matched by nothing but a slash.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from operator import methodcaller

Match = Callable[[str], object]

_NOTHING = "(?!)"
_ANY = "[^/]"
_SPECIAL = re.compile(r"[*?\[\\]")


class BadPattern(ValueError):
    """A pattern that can match nothing: a set or an escape without an end."""


def name_matcher(pattern: str) -> Match:
    """Return what tells whether a base name matches. Raises `BadPattern`."""
    head, star, tail = pattern.partition("*")
    if not _SPECIAL.search(head + tail):
        # The usual patterns, without the cost of an expression for each of many names.
        if not star:
            return pattern.__eq__
        if not head or not tail:
            return methodcaller("startswith", head) if head else methodcaller("endswith", tail)
    return re.compile(_chunks(pattern) + r"\Z").match


def path_matcher(patterns: Iterable[str]) -> Match | None:
    """Return what tells whether a relative path matches one of `patterns`; None if there are none.

    A pattern without a slash is one for base names, at any depth; `**` as a whole word is any number of
    directories. Raises `BadPattern`.
    """
    expressions = []
    for pattern in patterns:
        if "/" not in pattern:
            expressions.append(f"(?:.*/)?{_chunks(pattern)}")
            continue
        words = pattern.strip("/").split("/")
        parts = ["(?:[^/]+/)*" if word == "**" else _chunks(word) + "/" for word in words[:-1]]
        parts.append(".*" if words[-1] == "**" else _chunks(words[-1]))
        expressions.append("".join(parts))
    if not expressions:
        return None
    return re.compile("(?s:" + "|".join(expressions) + r")\Z").match


def _chunks(pattern: str) -> str:
    """Return the expression for a pattern.

    What follows a star is looked for once, from the left, and then kept: a later star can make up for any distance,
    so that no pattern takes more than one attempt per character and star.
    """
    chunks = [""]
    for piece in _pieces(pattern):
        if piece is None:
            chunks.append("")
        else:
            chunks[-1] += piece
    if len(chunks) == 1:
        return chunks[0]
    first, *middle, last = chunks
    kept = "".join(f"(?>{_ANY}*?{chunk})" for chunk in middle if chunk)
    return f"{first}{kept}{_ANY}*{last}"


def _pieces(pattern: str) -> Iterator[str | None]:
    """Yield the expression of each element, None for a star."""
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            yield None
        elif letter == "?":
            yield _ANY
        elif letter == "[":
            text, at = _set(pattern, at)
            yield text
        elif letter == "\\":
            if at == len(pattern):
                raise BadPattern(pattern)
            yield re.escape(pattern[at])
            at += 1
        else:
            yield re.escape(letter)


def _set(pattern: str, at: int) -> tuple[str, int]:
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[str, str]] = []
    while not ranges or pattern[at : at + 1] != "]":
        low, at = _set_letter(pattern, at)
        high = low
        if pattern[at] == "-":
            high, at = _set_letter(pattern, at + 1)
        ranges.append((low, high))
    inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if not inside:
        return (_ANY if negated else _NOTHING), at + 1
    return (f"[^/{inside}]" if negated else f"(?!/)[{inside}]"), at + 1


def _set_letter(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] in ("", "-", "]"):
        raise BadPattern(pattern)
    at += pattern[at] == "\\"
    # Something must follow, at least the end of the set.
    if at + 1 >= len(pattern):
        raise BadPattern(pattern)
    return pattern[at], at + 1

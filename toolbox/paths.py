r"""Paths as clients write them, and as the kernel takes them.

A Linux name is any bytes; JSON is Unicode. A byte that is not part of valid UTF-8 is written as U+FFFD (the
replacement character), `x` and two hexadecimal digits: the name `b"caf\xe9"` travels as `caf<U+FFFD>xe9`. Every route
takes that form back. A name that really contains those characters has its own U+FFFD written in the same way, so two
different names never share one text.
"""

import os
import re

from toolbox.errors import InvalidPath

_MARK = "\N{REPLACEMENT CHARACTER}"
_ESCAPE = re.compile(_MARK + "x([89a-f][0-9a-f])")
_NOT_UNICODE = re.compile("[\ud800-\udfff]")
_SURROGATE = re.compile("[\udc80-\udcff]")


def escape(path: str) -> str:
    """Return the text for a path as `os` gives it (undecodable bytes as lone surrogates)."""
    if path.isascii():
        return path
    if _MARK in path:
        path = _ESCAPE.sub(_spell_out_mark, path)
    elif _is_unicode(path):
        return path
    return _SURROGATE.sub(lambda found: f"{_MARK}x{ord(found[0]) - 0xDC00:02x}", path)


def _is_unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spell_out_mark(found: re.Match[str]) -> str:
    return "".join(f"{_MARK}x{byte:02x}" for byte in _MARK.encode()) + found[0][1:]


def unescape(text: str) -> str:
    """Return the path that `text` stands for, as `os` takes it. Raises `InvalidPath`."""
    if text.isascii():
        path = text
    else:
        marked = _ESCAPE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text) if _MARK in text else text
        try:
            # By way of bytes: escapes side by side may spell a character that is valid after all.
            path = os.fsdecode(os.fsencode(marked))
        except UnicodeEncodeError:
            raise InvalidPath(f"not a valid path: {lossy(text)}") from None
    if "\0" in path:
        raise InvalidPath("a path cannot contain NUL")
    return path


def lossy(name: str) -> str:
    """Return `name` with what is not Unicode replaced by U+FFFD: good to read, not to be sent back."""
    return name if name.isascii() else _NOT_UNICODE.sub(_MARK, name)


def clean(path: str) -> str:
    """Return an absolute path without doubled or trailing slashes and `.`; `..` stays, since links give it meaning."""
    return "/" + "/".join(filter(_not_idle, path.split("/")))


def _not_idle(word: str) -> bool:
    return word not in ("", ".")


def base_name(path: str) -> str:
    """Return the last word of `path`, `/` for the root."""
    return path.rstrip("/").rpartition("/")[2] or "/"


def parent(path: str) -> str:
    """Return the directory of a clean absolute path."""
    return path.rpartition("/")[0] or "/"

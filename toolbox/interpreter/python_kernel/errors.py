"""Errors of the user's code as text, as Python itself shows them: no frames of ours, no colours."""

from __future__ import annotations

import traceback
from typing import Any

_LIMIT = 256 * 1024


def describe(kind: type[BaseException], error: BaseException, trace: Any, current: str) -> dict[str, str]:
    """Return `name`, `value` and `traceback`; `current` is the file name of the code that runs, shown as `<stdin>`."""
    try:
        value = str(error)
    except Exception:
        value = "<exception str() failed>"
    try:
        found = traceback.TracebackException(kind, error, trace)
        _tidy(found, current, set())
        text = "".join(found.format())
    except Exception:
        text = f"{kind.__name__}: {value}\n"
    return {"name": cut(kind.__name__), "value": cut(value.replace(current, "<stdin>")), "traceback": cut(text)}


def cut(text: str) -> str:
    """Return the text, its middle left out if it is very long."""
    if len(text) <= _LIMIT:
        return text
    half = _LIMIT // 2
    return f"{text[:half]}\n[... {len(text) - _LIMIT} characters cut ...]\n{text[-half:]}"


def _is_machinery(filename: str) -> bool:
    return any(part in filename for part in ("/IPython/", "/ipykernel/", "_toolbox_kernel", "/python_kernel/"))


def _tidy(found: Any, current: str, seen: set[int]) -> None:
    """Take out our frames, and name the code that runs as it would be at a prompt; of all errors that are chained."""
    if found is None or id(found) in seen:
        return
    seen.add(id(found))
    for frame in found.stack:
        if frame.filename == current:
            frame.line  # noqa: B018 -- the source is looked up by the old name
            frame.filename = "<stdin>"
    found.stack[:] = [frame for frame in found.stack if not _is_machinery(frame.filename)]
    if getattr(found, "filename", None) == current:  # a SyntaxError
        found.filename = "<stdin>"
    for other in (found.__cause__, found.__context__, *(getattr(found, "exceptions", None) or ())):
        _tidy(other, current, seen)

"""What some programs need of `bootstrap.py`: charts, and the lines of tracebacks. Never on the program's `sys.path`.

Runs in the user's interpreter, Python 3.8 or newer.
"""

# ruff: noqa: BLE001, PLC0415

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Channel:
    """The file that charts are written to: `length (8 bytes, big-endian) JSON` each. A string is an error of ours."""

    def __init__(self, written_to: os.stat_result, descriptor: int, hook: str, limit: int) -> None:
        self.descriptor = descriptor
        self.hook = hook
        self.room = limit
        self.process = os.getpid()
        self.file = written_to.st_dev, written_to.st_ino

    def emit(self, chart: dict[str, Any], png: bytes | None) -> None:
        """Write a chart. Raises `ValueError` when there are too many, and `OSError`."""
        import binascii

        if png is not None:
            chart = {**chart, "png": binascii.b2a_base64(png, newline=False).decode()}
        self.write(chart)

    def failed(self, text: str) -> None:
        """Write what went wrong on our side."""
        self.write(text)

    def write(self, value: Any) -> None:
        """Write a frame."""
        import json

        content = json.dumps(value, allow_nan=False).encode()
        now = os.fstat(self.descriptor)
        # A fork has other charts, and a program may close descriptors and open its own files in their place.
        if os.getpid() != self.process or (now.st_dev, now.st_ino) != self.file:
            return
        if len(content) + 8 > self.room:
            raise ValueError("more charts than are kept of one program")
        self.room -= len(content) + 8
        frame = memoryview(len(content).to_bytes(8, "big") + content)
        while frame:
            frame = frame[os.write(self.descriptor, frame) :]

    def load_hook(self) -> None:
        """Load the charts' hook and start it."""
        with OwnPath():
            import importlib.util as importing

            spec: Any = importing.spec_from_file_location("_toolbox_charts", self.hook)
            module = sys.modules[spec.name] = importing.module_from_spec(spec)
            spec.loader.exec_module(module)
        module.install(self.emit, self.failed)


class State:
    """What `begin` was given."""

    source: str
    teach: Any
    channel: Channel
    prepared: set[str] = set()


def begin(source: str, teach: Any, *channel: Any) -> None:
    """Take over what the bootstrap knows; `teach` gives the module `linecache` the lines of the program."""
    State.source = source
    State.teach = teach
    State.channel = Channel(*channel)


def find_spec(finder: Any, name: str, path: Any, target: Any) -> Any:
    """Prepare the first import of matplotlib or linecache, of which the bootstrap's `finder` was asked for the spec."""
    if name in State.prepared:
        return None  # also when another finder, asked by this one, asks in its turn
    State.prepared.add(name)
    if name == "matplotlib":
        try:
            State.channel.load_hook()
        except Exception as error:
            complain(error)
    # The hook's finder stands before this one now: it would be passed over.
    for other in list(sys.meta_path):
        find = None if other is finder else getattr(other, "find_spec", None)
        spec = find(name, path, target) if find else None
        if spec is not None:
            if name == "linecache" and spec.loader is not None:
                spec.loader = Taught(spec.loader)
            return spec
    return None


def complain(error: Exception) -> None:
    """Tell the daemon that the hook cannot be loaded."""
    try:  # noqa: SIM105 -- contextlib is not loaded
        State.channel.failed(f"the charts' hook cannot be loaded: {error!r}")
    except Exception:  # noqa: S110 -- nobody is left to tell
        pass


class Taught:
    """A loader of `linecache` that adds the lines of the program, which is in no file."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: Any) -> Any:
        """Create the module as its own loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Run the module's code, then add the lines."""
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        State.teach(module)


class OwnPath:
    """While this is entered, modules of the working directory are not found."""

    def __enter__(self) -> None:
        self.path = sys.path[:]
        sys.path[:] = [entry for entry in self.path if entry]

    def __exit__(self, *_: object) -> None:
        sys.path[:] = self.path


def report(error: BaseException) -> int:
    """Show an uncaught error as the interpreter does, and return the exit code."""
    if isinstance(error, (SyntaxError, ValueError)) and error.__traceback__ is None and "\0" in State.source:
        error = SyntaxError("source code cannot contain null bytes")  # each version says it in its own way
    trace = error.__traceback__
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    sys.last_exc = error  # type: ignore[attr-defined, unused-ignore]
    hook = getattr(sys, "excepthook", sys.__excepthook__)
    if hook is sys.__excepthook__:
        show(error)
        return status(error)
    failure = None
    try:
        hook(type(error), error, trace)
    except SystemExit:
        raise
    except BaseException as second:
        failure = second.with_traceback(second.__traceback__ and second.__traceback__.tb_next)
    if failure is not None:
        sys.stderr.write("Error in sys.excepthook:\n")
        show(failure)
        sys.stderr.write("\nOriginal exception was:\n")
        show(error)
    return status(error)


def status(error: BaseException) -> int:
    """Return the exit code of an uncaught error, as a shell has it."""
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def show(error: BaseException) -> None:
    """Print a traceback to stderr, if there is one."""
    if sys.stderr is None:
        return  # `traceback` would print to stdout
    try:
        with OwnPath():
            import traceback
        traceback.print_exception(type(error), error, error.__traceback__)
    except Exception:
        # The interpreter's own way needs no module, but older versions then leave out the lines.
        sys.__excepthook__(type(error), error, error.__traceback__)

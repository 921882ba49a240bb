"""Starts the user's program inside its interpreter (Python 3.8 or newer), as that would have started it from stdin.

The daemon hands this text to `python -c`, followed by a call of `start`. It is compiled at every start and so as short
as can be; what only some programs need is in `companion.py`.
"""

# Types would need `typing`, which takes longer to load than the rest.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: ANN001, ANN002, ANN201, ANN202, ANN204, BLE001, D102, S102

import io
import os
import sys


class Imports:
    """A finder that finds nothing itself, and calls the companion before the modules that it is interested in."""

    def __init__(self, companion):
        self.companion = companion

    def find_spec(self, name, path=None, target=None):
        if name == "matplotlib" or name == "linecache":  # noqa: PLR1714 -- the quickest way
            companion = self.companion()
            return companion and companion.find_spec(self, name, path, target)
        return None


def start(program, companion, *channel):
    """Run the program behind the descriptor `program`, and return at its end.

    An uncaught error is shown, without our frames, and becomes `SystemExit`. `companion` is the path of that file, and
    `channel` what it needs for charts.
    """
    with open(program, encoding="utf-8", errors="surrogatepass", newline="") as file:  # noqa: PTH123
        source = file.read()
    os.set_inheritable(channel[0], False)
    written_to = os.fstat(channel[0])

    def teach(linecache):
        """Give `linecache` the lines of the program, which is in no file, and take those of our `-c` out of it."""
        if hasattr(linecache, "cache"):  # not so in a module of the user's with that name
            lines = io.StringIO(source + "\n", newline=None).readlines()
            linecache.cache["<stdin>"] = len(source), None, lines, "<stdin>"
            linecache.cache.pop("<string>", None)

    def load():
        """Load the companion as a file of a package would be, so that its bytecode is kept; None if that fails."""
        if "_toolbox_program" not in sys.modules:
            loader = sys.modules["_frozen_importlib_external"].SourceFileLoader("_toolbox_program", companion)
            module = type(sys)("_toolbox_program")
            try:
                loader.exec_module(module)
                module.begin(source, teach, written_to, *channel)
                sys.modules["_toolbox_program"] = module
            except Exception:
                sys.modules["_toolbox_program"] = None  # type: ignore[assignment]
        return sys.modules["_toolbox_program"]

    sys.meta_path.insert(0, Imports(load))
    if "linecache" in sys.modules:  # newer versions import it for `-c`
        teach(sys.modules["linecache"])
    sys.argv[0] = "-"
    failure = run(source)
    # Here no error is being handled any more, as is the case when the interpreter itself reports one.
    if failure is None:
        return
    if load() is None:
        sys.excepthook(type(failure), failure, failure.__traceback__)
        raise SystemExit(1)
    raise SystemExit(load().report(failure))


def run(source):
    """Run the program; return the error that nobody has caught, as it would be without this frame."""
    try:
        code = compile(source, "<stdin>", "exec", dont_inherit=True)
    except Exception as error:
        return error.with_traceback(None)
    try:
        exec(code, sys.modules["__main__"].__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    return None

"""Start an IPython kernel whose output goes to the daemon by a socket of its own.

    python launch.py '{"connection": PATH, "channel": DESCRIPTOR, "charts": PATH}'

Runs in the user's interpreter, Python 3.9 or newer with ipykernel 6 or newer. The files beside this one are its private
package `_toolbox_kernel`; nothing of ours is put on `sys.path`.
"""

import sys

# This directory, which an isolated Python does not put there: a user's own modules of the same names must win.
if not getattr(sys.flags, "safe_path", sys.flags.isolated):
    del sys.path[0]


def main() -> None:
    """Load the package by its path and run the kernel."""
    import json
    import os

    package = type(sys)("_toolbox_kernel")
    package.__path__ = [os.path.dirname(__file__)]
    sys.modules["_toolbox_kernel"] = package
    options = json.loads(sys.argv[1])
    sys.argv[:] = [""]
    # Half of the start would go into a debugger that nobody can reach.
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    from _toolbox_kernel.app import run  # type: ignore[import-not-found]

    run(options["connection"], options["channel"], options["charts"])


if __name__ == "__main__":
    main()

"""Chart extraction: code that runs inside the user's interpreter.

The files beside this one are loaded there by file path as the private package `_toolbox_charts`, so that a user's own
`charts.py` wins. They are written for Python 3.9 and matplotlib 3.5, and need nothing else.
"""

from pathlib import Path

HOOK = Path(__file__).with_name("hook.py")
"""The file to load as module `_toolbox_charts`; its `install` is the way in."""

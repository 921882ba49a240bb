"""Runs first in the bundle's Python: puts the environment back as it was and finds the packages.

What the launcher set aside is for the programs of the system around us, and those are started from here.
"""

import os
import site
import sys

_KEPT = "SANDBOX_TOOLBOX_KEPT_"

os.environ.pop("LC_ALL", None)
for _name in [name for name in os.environ if name.startswith(_KEPT)]:
    os.environ[_name.removeprefix(_KEPT)] = os.environ.pop(_name)
site.addsitedir(f"{sys.prefix}/packages")

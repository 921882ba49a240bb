"""Where the daemon that goes into containers comes from."""

import sys
from pathlib import Path

import toolbox
from toolbox.config import ConfigError

INSIDE = "/opt/sandbox-toolbox"
"""Where containers see it."""


def find_bundle(configured: Path | None) -> Path:
    """Return the folder of the bundle: the configured one, the one we run from, or `build/bundle`.

    Blocks. Raises `ConfigError` when there is none.
    """
    if configured is not None:
        if not _is_bundle(configured):
            raise ConfigError(f"bundle: no bundle of the daemon: {configured}")
        return configured
    around = Path(sys.executable).parent.parent
    source = Path(toolbox.__file__).parent.parent
    for place in (around, source / "build/bundle"):
        if _is_bundle(place):
            return place
    raise ConfigError("the docker driver needs the daemon as a bundle: `make bundle`, or name one by --bundle")


def _is_bundle(place: Path) -> bool:
    return all((place / part).exists() for part in ("bin/toolboxd", "loader", "packages/toolbox"))

"""`toolboxd install DIRECTORY`: copies the bundle, for a container whose image has no daemon.

An init container does it, into a volume that both share; its image need not have a program that copies.
"""

import shutil
import sys
from pathlib import Path

from toolbox.config import ConfigError

_PROGRAM = "bin/toolboxd"
_INCOMPLETE = ".incomplete"
"""In the directory until all is there."""
_NOT_OURS = frozenset({"lost+found"})
"""What a file system of its own has, however new."""


def install(directory: Path) -> bool:
    """Copy the bundle that runs this into `directory`, which is made; return False if it was there already.

    What an earlier attempt has left is replaced. Raises `ConfigError` where it cannot be done, or must not: in a
    directory with anything else in it.
    """
    source = Path(sys.prefix)
    if not (source / _PROGRAM).is_file():
        raise ConfigError("only a bundle can be installed elsewhere; this is none (see `make bundle`)")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in directory.iterdir()} - _NOT_OURS
        if _INCOMPLETE not in names and names:
            if _version(directory) == _version(source):
                return False
            raise ConfigError(f"cannot install into {directory}: there is something else in it")
        (directory / _INCOMPLETE).touch()
        _empty(directory)
        shutil.copytree(source, directory, symlinks=True, dirs_exist_ok=True)
        (directory / _INCOMPLETE).unlink()
    except (OSError, shutil.Error) as error:
        raise ConfigError(f"cannot install into {directory}: {_reason(error)}") from None
    return True


def _version(bundle: Path) -> str | None:
    found = bundle.glob("packages/sandbox_toolbox-*.dist-info")
    return next((path.name for path in found), None) if (bundle / _PROGRAM).is_file() else None


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path.name not in _NOT_OURS:
                shutil.rmtree(path)
        elif path.name != _INCOMPLETE:
            path.unlink()


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):  # of each file: from, to, why
        source, _, why = error.args[0][0]
        return f"{source}: {why}"
    return str(error.strerror).lower()

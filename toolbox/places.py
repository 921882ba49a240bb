"""The directories that a server needs to write to, where little can be written: a container's root may be read-only.

Whose name nobody knows (any user id may be given to a container) has what `$HOME` says, no more.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from toolbox.config import CommonConfig, ConfigError, ServeConfig, home_of

log = logging.getLogger(__name__)

_USUAL = Path("/tmp")  # noqa: S108 -- what every program falls back to
_BELOW_HOME = ".cache/toolbox-tmp"
"""Short, since sockets lie in it (`children.scratch`)."""


@contextmanager
def writable_places(config: CommonConfig) -> Iterator[None]:
    """See to a directory for temporary files, and say in the log what cannot be written to.

    Where `$TMPDIR` and `/tmp` cannot be written to, it is below the home directory, or else the state directory, and
    `$TMPDIR` says so to all that is started. Raises `ConfigError` where there is none.
    """
    usual = (os.environ.get("TMPDIR"), _USUAL)
    if any(each and can_write(Path(each)) for each in usual):
        _tell(config)
        yield
        return
    path = _temporary_below(config)
    log.info("%s cannot be written to; temporary files are in %s", _USUAL, path)
    lock = _take(path)
    os.environ["TMPDIR"] = tempfile.tempdir = str(path)
    try:
        _tell(config)
        yield
    finally:
        tempfile.tempdir = None
        os.close(lock)


def can_write(directory: Path) -> bool:
    """Tell whether files can be made in it."""
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)


def _temporary_below(config: CommonConfig) -> Path:
    if isinstance(config, ServeConfig) and config.user is not None:
        raise ConfigError(f"{_USUAL} cannot be written to; a volume is needed there, or at what TMPDIR says")
    home = home_of(os.environ)
    for path in (home / _BELOW_HOME, config.state_dir / "tmp"):
        with suppress(OSError):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if can_write(path):
                return path
    raise ConfigError(
        f"neither {_USUAL} nor the home directory {home} nor the state directory {config.state_dir} can be written to: "
        "a volume is needed at one of them (HOME says where the home directory is)"
    )


def _take(path: Path) -> int:
    """Empty what a server that has ended left, as a restart empties `/tmp`; return the descriptor of our lock.

    Raises `ConfigError`.
    """
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot use {path} for temporary files: {error.strerror}") from None
    with suppress(OSError):  # another server lives here, or a file system without locks
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return lock


def _tell(config: CommonConfig) -> None:
    """Say what cannot be written to, and what is elsewhere for that; nothing where all is as usual."""
    if isinstance(config, ServeConfig) and config.user is not None:
        return  # root can write, and what the other user can is that user's
    home = home_of(os.environ)
    if not can_write(home):
        log.warning("the home directory %s cannot be written to; state is kept in %s", home, config.state_dir)
    if isinstance(config, ServeConfig) and config.work_dir != home and not can_write(config.work_dir):
        log.warning("the work directory %s cannot be written to", config.work_dir)

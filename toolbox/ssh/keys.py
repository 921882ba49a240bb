"""The host key: made at the first start, the same ever after."""

import os
import secrets
from pathlib import Path
from typing import Any

from toolbox.config import ConfigError


def host_key(path: Path) -> Any:
    """Return the key kept in `path`, made and stored (0600) if there is none. Blocks. Raises `ConfigError`."""
    import asyncssh  # noqa: PLC0415 -- heavy

    try:
        if not path.exists():
            _store(path, asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        return asyncssh.read_private_key(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot keep the SSH host key: {error}") from None


def _store(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise

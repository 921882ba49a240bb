"""The keys of this machine, made at the first start and the same ever after, and those of its sandboxes."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from toolbox.config import ConfigError

KEY_FILE = "api-key"
"""Name of the file in the control plane's directory that holds the API key of this machine."""
ADDRESS_FILE = "address"
"""Name of the one that says where its API was last served."""
_PREFIX = "dtn_"
TOOLBOX_PORT = 1
"""The port whose preview token stands for the whole sandbox: SDKs in browsers open the toolbox's websockets with it."""


def machine_key(path: Path) -> str:
    """Return the key kept in `path`, made and stored (0600) if there is none. Raises `ConfigError`."""
    try:
        if not path.exists():
            store_secret(path, _PREFIX + secrets.token_urlsafe(32))
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot keep the API key: {error}") from None
    if not key:
        raise ConfigError(f"the API key file is empty: {path}")
    return key


def store_secret(path: Path, text: str) -> None:
    """Write `text` to a file that only its owner can read, whole or not at all. Raises `OSError`."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class SandboxKeys:
    """The keys of sandboxes, all derived from one secret of this machine: nothing is stored for each."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def preview_token(self, sandbox_id: str, port: int) -> str:
        """Return the token that opens previews of one port."""
        return self._derive(f"preview:{sandbox_id}:{port}")

    def opens_preview(self, sandbox_id: str, port: int, token: str) -> bool:
        """Tell, in constant time, whether `token` opens previews of `port`."""
        given = token.encode("utf-8", "surrogateescape")
        allowed = [self.preview_token(sandbox_id, each).encode() for each in (port, TOOLBOX_PORT)]
        return any([hmac.compare_digest(given, each) for each in allowed])  # noqa: C419 -- both, always

    def opens_toolbox(self, sandbox_id: str, token: str) -> bool:
        """Tell, in constant time, whether `token` opens websockets of the sandbox's toolbox."""
        return self.opens_preview(sandbox_id, TOOLBOX_PORT, token)

    def signing_key(self, sandbox_id: str, generation: int) -> str:
        """Return the key that file URLs of a sandbox are signed with; each rotation is a new generation."""
        return self._derive(f"signing:{sandbox_id}:{generation}")

    def daemon_token(self, sandbox_id: str) -> str:
        """Return the token of a sandbox's daemon where replicas have to agree on it."""
        return self._derive(f"daemon:{sandbox_id}")

    def egress_token(self, sandbox_id: str) -> str:
        """Return the password of a sandbox at the egress proxy."""
        return self._derive(f"egress:{sandbox_id}")

    def _derive(self, purpose: str) -> str:
        return hmac.new(self._secret, purpose.encode(), hashlib.sha256).hexdigest()

"""Values that are kept so that only this control plane can read them."""

import base64
import hashlib
import os

from toolbox.errors import Unavailable

_NONCE = 12


class Vault:
    """Seals and opens short texts by AES-256-GCM under one key of this machine."""

    def __init__(self, key: str) -> None:
        # The key is 256 random bits written as text: a hash is all the derivation that it needs.
        self._key = hashlib.sha256(b"vault:" + key.encode()).digest()

    def seal(self, text: str, *, purpose: str) -> str:
        """Return `text` as it may be stored; only `open` with the same `purpose` gives it back."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 -- heavy

        nonce = os.urandom(_NONCE)
        sealed = AESGCM(self._key).encrypt(nonce, text.encode(), purpose.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, *, purpose: str) -> str:
        """Return what was sealed. Raises `Unavailable` when it was sealed by another key or changed since."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        data = base64.b64decode(sealed)
        try:
            return AESGCM(self._key).decrypt(data[:_NONCE], data[_NONCE:], purpose.encode()).decode()
        except InvalidTag:
            raise Unavailable("a sealed value cannot be opened: the key of this control plane is another") from None

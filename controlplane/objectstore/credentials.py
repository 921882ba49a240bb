"""Short-lived S3 credentials of one organisation. Nothing is stored: the session token says all, and is sealed."""

import base64
import binascii
import hashlib
import hmac
import secrets
import time

import msgspec

from controlplane.objectstore.errors import S3Error

LIFETIME_SECONDS = 3600
_ACCESS_KEY_LENGTH = 20
_SEAL_BYTES = 32


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a session token says."""

    access_key: str
    organization_id: str
    expires: int
    """Unix time."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a client signs with."""

    access_key: str
    secret: str
    session_token: str


class Issuer:
    """Gives out credentials and recognises them, by a secret of this machine."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def issue(self, organization_id: str) -> Credentials:
        """Return new credentials, good for `LIFETIME_SECONDS`."""
        session = Session(
            access_key=("TB" + secrets.token_hex(_ACCESS_KEY_LENGTH).upper())[:_ACCESS_KEY_LENGTH],
            organization_id=organization_id,
            expires=int(time.time()) + LIFETIME_SECONDS,
        )
        text = msgspec.json.encode(session)
        token = base64.urlsafe_b64encode(self._seal(b"token", text) + text).decode()
        return Credentials(access_key=session.access_key, secret=self.secret(token), session_token=token)

    def secret(self, session_token: str) -> str:
        """Return the secret key that belongs to a session token."""
        return base64.urlsafe_b64encode(self._seal(b"secret", session_token.encode())).decode().rstrip("=")

    def open(self, access_key: str, session_token: str) -> Session:
        """Return what a session token says. Raises `S3Error` for one that is not ours, or not good any more."""
        try:
            sealed = base64.urlsafe_b64decode(session_token.encode("ascii"))
            seal, text = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
            if not hmac.compare_digest(seal, self._seal(b"token", text)):
                raise S3Error("InvalidToken", "The provided token is malformed or otherwise invalid.")
            session = msgspec.json.decode(text, type=Session)
        except (UnicodeEncodeError, binascii.Error, msgspec.MsgspecError):
            raise S3Error("InvalidToken", "The provided token is malformed or otherwise invalid.") from None
        if session.access_key != access_key:
            raise S3Error("InvalidAccessKeyId", "The access key is not that of the session token.")
        if session.expires < time.time():
            raise S3Error("ExpiredToken", "The provided token has expired.")
        return session

    def _seal(self, purpose: bytes, text: bytes) -> bytes:
        return hmac.new(self._secret, b"object-storage:" + purpose + b":" + text, hashlib.sha256).digest()

"""Signed file URLs: a link that reads or writes one file, for whoever has it, until it expires."""

import base64
import hashlib
import hmac
import time

from aiohttp import web

from toolbox.errors import Unauthorized

ROUTES = {"GET": "/files/download", "HEAD": "/files/download", "POST": "/files/upload-v2"}
"""What can be signed; a signature for GET is good for HEAD."""
_VERSION = "v1"


def sign(key: str, method: str, path: str, expires: int) -> str:
    """Return the signature by which `method` may be used on the file `path` until `expires` (0: for ever)."""
    text = f"{_VERSION}:files:{method}:{path}:{expires}".encode("utf-8", "surrogateescape")
    digest = hmac.new(key.encode(), text, hashlib.sha256).digest()
    return f"{_VERSION}_" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Signatures:
    """Verifies signed requests with the sandbox's key."""

    def __init__(self, key: str) -> None:
        self._key = key

    @staticmethod
    def concern(request: web.BaseRequest, method: str) -> bool:
        """Tell whether a request brings a signature, to where one means something."""
        return ROUTES.get(method) == request.path and "signature" in request.query

    def verify(self, request: web.BaseRequest, method: str) -> None:
        """Raise `Unauthorized` unless the signature allows `method` on exactly the file that the request names."""
        query = request.query
        expires = query.get("expires", "")
        number = int(expires) if expires.isascii() and expires.isdigit() and len(expires) <= len(str(2**63)) else -1
        signed = "GET" if method == "HEAD" else method
        expected = sign(self._key, signed, query.get("path", ""), number)
        given = query["signature"].encode("utf-8", "surrogateescape")
        # Compared in any case, so that nothing is to be learned from the time it takes.
        if not hmac.compare_digest(given, expected.encode()) or number < 0:
            raise Unauthorized("the signature of the link is not valid")
        if 0 < number < time.time():
            raise Unauthorized("the link has expired")

"""Digests of what is uploaded: the entity tag, the signed SHA-256, and the checksum that a client named."""

import base64
import hashlib
import hmac
import zlib
from collections.abc import Mapping
from typing import Any

from controlplane.objectstore.errors import S3Error

PREFIX = "x-amz-checksum-"
KNOWN = ("crc32", "sha1", "sha256")


class Crc32:
    """CRC-32 with the methods of a hash."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        """Add data."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """Return the checksum, big-endian."""
        return self._value.to_bytes(4)


class Digests:
    """All digests of one upload. `algorithms` are those of `KNOWN` that are wanted beside MD5 and SHA-256."""

    def __init__(self, algorithms: set[str]) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._others: dict[str, Any] = {}
        if "crc32" in algorithms:
            self._others["crc32"] = Crc32()
        if "sha1" in algorithms:
            self._others["sha1"] = hashlib.sha1(usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Add data (long: for threads)."""
        self._md5.update(data)
        self._sha256.update(data)
        for each in self._others.values():
            each.update(data)

    @property
    def md5(self) -> bytes:
        """The MD5 digest, which entity tags are made of."""
        return self._md5.digest()

    @property
    def sha256(self) -> str:
        """The SHA-256 digest in hexadecimal."""
        return self._sha256.hexdigest()

    def verify(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Compare with the checksums that a client sent, and return those. Raises `S3Error`.

        `headers` have lower-case names; those that came after the body are among them.
        """
        given = headers.get("content-md5")
        if given is not None:
            _same("Content-MD5", base64.b64encode(self.md5).decode(), given)
        confirmed = {}
        for name in KNOWN:
            value = headers.get(PREFIX + name)
            if value is not None:
                digest = self._sha256.digest() if name == "sha256" else self._others[name].digest()
                _same(PREFIX + name, base64.b64encode(digest).decode(), value)
                confirmed[PREFIX + name] = value
        return confirmed


def wanted_algorithms(headers: Mapping[str, str]) -> set[str]:
    """Return the algorithms whose checksums a request brings, before or after its body. Raises `S3Error`."""
    named = {name for name in headers if name.startswith(PREFIX)}
    named |= {each.strip().lower() for each in headers.get("x-amz-trailer", "").split(",")}
    found = {name.removeprefix(PREFIX) for name in named if name.startswith(PREFIX)} - {"algorithm", "type", "mode"}
    for name in found - set(KNOWN):
        raise S3Error("NotImplemented", f"Checksums by {name} are not verified here: use {', '.join(KNOWN)}.")
    return found


def _same(name: str, found: str, given: str) -> None:
    if not hmac.compare_digest(found.encode(), given.encode("utf-8", "surrogateescape")):
        raise S3Error("BadDigest", f"The {name} you specified did not match what was received.")

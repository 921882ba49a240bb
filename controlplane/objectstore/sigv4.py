"""AWS Signature Version 4, as S3 reads it: who signed a request, and whether the signature is right."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

import msgspec

from controlplane.objectstore.errors import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_MOST_SKEW = timedelta(minutes=15)
_UNSIGNED_OK = frozenset({"x-amz-user-agent"})
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<credential>[^,\s]+) *, *SignedHeaders=(?P<headers>[^,\s]+) *, *"
    r"Signature=(?P<signature>[0-9a-f]{64})\Z"
)
_SCOPE_PARTS = 5
_SPACES = re.compile(r"\s+")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What the Authorization header of a request says."""

    access_key: str
    scope: str
    """`date/region/s3/aws4_request`."""
    moment: str
    """`x-amz-date`."""
    signed_headers: list[str]
    signature: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed of a request, as it came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, list[str]]
    """Lower-case name -> values."""

    def header(self, name: str) -> str:
        """Return the first value of a header, empty if there is none."""
        return (self.headers.get(name) or [""])[0]


def read_claim(message: Message, *, region: str, now: datetime | None = None) -> Claim:
    """Return who claims to have signed a request. Raises `S3Error` when it is not signed as it has to be."""
    found = _HEADER.match(message.header("authorization").strip())
    if found is None:
        raise S3Error("AccessDenied", "The request is not signed by AWS Signature Version 4 in its headers.")
    parts = found["credential"].rsplit("/", _SCOPE_PARTS - 1)
    moment = message.header("x-amz-date")
    try:
        signed_at = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise S3Error("AccessDenied", "x-amz-date is missing or malformed.") from None
    if len(parts) != _SCOPE_PARTS or parts[1:] != [moment[:8], region, "s3", "aws4_request"]:
        raise S3Error("AuthorizationHeaderMalformed", f"The credential must be of today, {region}/s3/aws4_request.")
    if abs((now or datetime.now(UTC)) - signed_at) > _MOST_SKEW:
        raise S3Error("RequestTimeTooSkewed", "The difference between the request time and the server's is too large.")
    signed = found["headers"].split(";")
    unsigned = [
        name
        for name in message.headers
        if name.startswith("x-amz-") and name not in signed and name not in _UNSIGNED_OK
    ]
    if "host" not in signed or unsigned:
        raise S3Error("AccessDenied", f"There were headers present which were not signed: {', '.join(unsigned)}")
    return Claim(
        access_key=parts[0],
        scope="/".join(parts[1:]),
        moment=moment,
        signed_headers=signed,
        signature=found["signature"],
    )


class Signer:
    """Verifies what was signed with one secret key, for one request and the chunks of its body."""

    def __init__(self, secret: str, claim: Claim) -> None:
        key = b"AWS4" + secret.encode()
        for part in claim.scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        self._key = key
        self._claim = claim
        self._previous = claim.signature

    def verify_request(self, message: Message) -> None:
        """Raise `S3Error` unless the request is signed."""
        canonical = canonical_request(message, self._claim.signed_headers)
        digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
        expected = self._sign([ALGORITHM, self._claim.moment, self._claim.scope, digest])
        _compare(expected, self._claim.signature)

    def verify_chunk(self, signature: str, digest: str) -> None:
        """Raise `S3Error` unless a chunk of the body with this SHA-256 is signed and comes after the one before."""
        self._verify_next(signature, [f"{ALGORITHM}-PAYLOAD", *self._context(), EMPTY_SHA256, digest])

    def verify_trailer(self, signature: str, trailer: bytes) -> None:
        """Raise `S3Error` unless the trailing headers are signed and come after the last chunk."""
        digest = hashlib.sha256(trailer).hexdigest()
        self._verify_next(signature, [f"{ALGORITHM}-TRAILER", *self._context(), digest])

    def _context(self) -> list[str]:
        return [self._claim.moment, self._claim.scope, self._previous]

    def _verify_next(self, signature: str, parts: list[str]) -> None:
        expected = self._sign(parts)
        _compare(expected, signature)
        self._previous = expected

    def _sign(self, parts: list[str]) -> str:
        return hmac.new(self._key, "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def canonical_request(message: Message, signed_headers: list[str]) -> str:
    """Return the text whose digest is signed."""
    headers = "".join(
        f"{name}:{','.join(_SPACES.sub(' ', value.strip()) for value in message.headers.get(name, ['']))}\n"
        for name in signed_headers
    )
    path = quote(unquote(message.path, errors="surrogateescape"), safe="/-_.~", errors="surrogateescape")
    payload = message.header("x-amz-content-sha256")
    return "\n".join(
        [message.method, path, _canonical_query(message.query), headers, ";".join(signed_headers), payload]
    )


def _canonical_query(query: str) -> str:
    pairs = []
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        pairs.append((_encoded(name), _encoded(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _encoded(text: str) -> str:
    return quote(unquote(text, errors="surrogateescape"), safe="-_.~", errors="surrogateescape")


def _compare(expected: str, given: str) -> None:
    if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape")):
        raise S3Error("SignatureDoesNotMatch", "The request signature does not match the one that was calculated.")

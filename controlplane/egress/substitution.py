"""Values put in the place of their placeholders, wherever a request may hold one.

That is: header values (in `Basic` credentials too), path and query, and a body of text of at most `MAX_BODY` bytes
whose length is known. Other bodies, and what follows an upgrade, pass as they are.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, quote_plus

from controlplane.egress.peer import Headers
from controlplane.secrets import PLACEHOLDER

MAX_BODY = 1024 * 1024
_PLACEHOLDER = re.compile(PLACEHOLDER.pattern.encode())
_TEXT = re.compile(
    rb"\s*(text/|application/([\w.-]+\+)?(json|xml|x-www-form-urlencoded|x-ndjson|graphql|javascript)\b)"
)
_JSON = re.compile(rb"\s*application/([\w.-]+\+)?(json|x-ndjson)\b")
_FORM = re.compile(rb"\s*application/x-www-form-urlencoded\b")
_BASIC = re.compile(rb"(basic\s+)([A-Za-z0-9+/=]+)\s*\Z", re.IGNORECASE)

Encode = Callable[[str], bytes]


class Substitution:
    """The values that one request may get: placeholder -> what reveals the value when it is needed."""

    def __init__(self, values: Mapping[str, Callable[[], str]]) -> None:
        self._values = {placeholder.encode(): reveal for placeholder, reveal in values.items()}

    def __bool__(self) -> bool:
        return bool(self._values)

    def target(self, target: bytes) -> bytes:
        """Replace in a path and query."""
        return self._replaced(target, lambda value: quote(value, safe=":@").encode())

    def headers(self, headers: Headers) -> Headers:
        """Replace in header values."""
        return [(name, self._header(value)) for name, value in headers]

    def wants_body(self, headers: Headers) -> bool:
        """Tell whether the body is one that values are put into."""
        found = {name.lower(): value for name, value in headers}
        length = found.get(b"content-length", b"")
        return (
            bool(self._values)
            and length.isdigit()
            and 0 < int(length) <= MAX_BODY
            and found.get(b"content-encoding", b"identity").lower() == b"identity"
            and _TEXT.match(found.get(b"content-type", b"").lower()) is not None
        )

    def body(self, body: bytes, headers: Headers) -> bytes:
        """Replace in a body of text, so that JSON stays JSON and a form a form."""
        kind = next((value.lower() for name, value in headers if name.lower() == b"content-type"), b"")
        if _JSON.match(kind):
            return self._replaced(body, lambda value: json.dumps(value)[1:-1].encode())
        if _FORM.match(kind):
            return self._replaced(body, lambda value: quote_plus(value).encode())
        return self._replaced(body, str.encode)

    def _header(self, value: bytes) -> bytes:
        basic = _BASIC.match(value)
        if basic is None:
            return self._replaced(value, str.encode)
        try:
            credentials = base64.b64decode(basic[2], validate=True)
        except binascii.Error:
            return value
        replaced = self._replaced(credentials, str.encode)
        return value if replaced == credentials else basic[1] + base64.b64encode(replaced)

    def _replaced(self, text: bytes, encode: Encode) -> bytes:
        def value(found: re.Match[bytes]) -> bytes:
            reveal = self._values.get(found[0])
            return found[0] if reveal is None else encode(reveal())

        return _PLACEHOLDER.sub(value, text)

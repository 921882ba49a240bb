"""A plain keep-alive HTTP client: what it costs is the same for every server measured."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit


class Client:
    """One connection to a toolbox at `url` (which may have a path, as behind a proxy)."""

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        self._prefix = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        into: bytearray | None = None,
    ) -> bytes:
        """Make one request and return the body; a status of 300 and above raises `RuntimeError`.

        `into` is a buffer that the body is read through and thrown away, for large ones.
        """
        target = self._prefix + path + ("?" + urlencode(query) if query else "")
        self._connection.request(method, target, body=body, headers={**self._headers, **(headers or {})})
        response = self._connection.getresponse()
        if into is not None and response.status < 300:
            while response.readinto(into):
                pass
            return b""
        data = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {data[:300]!r}")
        return data

    def json(self, method: str, path: str, body: Any) -> Any:
        """Post JSON and return the decoded answer."""
        data = self.call(method, path, body=json.dumps(body), headers={"Content-Type": "application/json"})
        return json.loads(data) if data else None

    def execute(self, command: str, **fields: Any) -> Any:
        """Run a command."""
        return self.json("POST", "/process/execute", {"command": command, **fields})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

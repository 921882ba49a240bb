"""`toolboxd ps | logs | stop | gc`: what people ask a running control plane, over its API."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import quote

import aiohttp

from controlplane.keys import ADDRESS_FILE, KEY_FILE
from toolbox.config import ClientConfig, ConfigError

FAILED = 1
_PAGE = 200
_COLUMNS = ("NAME", "STATE", "SNAPSHOT", "CREATED", "LAST ACTIVITY", "ID")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_SECONDS = 120


class _Refused(Exception):
    """The control plane's answer is an error, said in one line."""


async def ask(command: str, wishes: Mapping[str, Any], config: ClientConfig) -> int:
    """Run a command and return its exit code: 0, or 1 when something of it failed. Raises `ConfigError`."""
    url, key = await asyncio.to_thread(_where, config)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SECONDS)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}, timeout=timeout) as http:
        console = Console(http, url, sys.stdout)
        try:
            match command:
                case "ps":
                    return await console.ps(quiet=wishes["quiet"])
                case "logs":
                    return await console.logs(wishes["sandboxes"][0])
                case "stop":
                    return await console.stop(wishes["sandboxes"], every=wishes["all"], force=wishes["force"])
                case _:
                    return await console.gc(dry_run=wishes["dry_run"])
        except _Refused as error:
            print(f"toolboxd: {error}", file=sys.stderr)  # noqa: T201 -- a command line talks
            return FAILED
        except aiohttp.ClientConnectionError as error:
            raise ConfigError(f"nobody answers at {url}: {error}") from None


def _where(config: ClientConfig) -> tuple[str, str]:
    """Return the URL of the API and its key. Raises `ConfigError`."""
    directory = config.state_dir / "controlplane"

    def kept(name: str) -> str:
        try:
            return (directory / name).read_text().strip()
        except OSError:
            raise ConfigError(
                f"no `toolboxd up` is known in {config.state_dir}: name it by DAYTONA_API_URL and DAYTONA_API_KEY"
            ) from None

    url = config.api_url or kept(ADDRESS_FILE)
    return url.rstrip("/"), config.api_key or config.resolve_token() or kept(KEY_FILE)


class Console:
    """Talks to the API and prints what a person wants to know."""

    def __init__(self, http: aiohttp.ClientSession, url: str, out: TextIO) -> None:
        self._http = http
        self._url = url
        self._out = out

    async def ps(self, *, quiet: bool) -> int:
        """Print a table of the sandboxes, or only their names."""
        found = await self._all()
        if quiet:
            self._print(*(each["name"] for each in found))
            return 0
        now = datetime.now(UTC)
        rows = [
            (
                each["name"],
                each["state"],
                each["snapshot"],
                _age(each["createdAt"], now),
                _age(each["lastActivityAt"], now),
                each["id"],
            )
            for each in found
        ]
        self._print(*_table([_COLUMNS, *rows]))
        return 0

    async def logs(self, sandbox: str) -> int:
        """Print what the sandbox's daemon wrote, the end of it."""
        async with self._http.get(f"{self._url}/sandbox/{quote(sandbox, safe='')}/daemon-logs") as response:
            if not response.ok:
                raise _Refused(await _reason(response))
            text = await response.text()
        self._out.write(text if not text or text.endswith("\n") else f"{text}\n")
        return 0

    async def stop(self, sandboxes: Sequence[str], *, every: bool, force: bool) -> int:
        """Stop sandboxes, each by itself: one that cannot be stopped keeps none of the others."""
        if every:
            sandboxes = [each["name"] for each in await self._all() if each["state"] == "started"]
        elif not sandboxes:
            raise ConfigError("stop: name a sandbox, or --all")
        code, query = 0, {"force": str(force).lower()}
        for sandbox in sandboxes:
            try:
                await self._call("POST", f"/sandbox/{quote(sandbox, safe='')}/stop", params=query)
                self._print(sandbox)
            except _Refused as error:
                print(f"toolboxd: {error}", file=sys.stderr)  # noqa: T201 -- a command line talks
                code = FAILED
        return code

    async def gc(self, *, dry_run: bool) -> int:
        """Remove what no sandbox owns, and print it."""
        found = await self._call("POST", "/leftovers", params={"dryRun": str(dry_run).lower()})
        self._print(*(f"sandbox {each}" for each in found["sandboxes"]))
        self._print(*(f"archive {each}" for each in found["archives"]))
        return 0

    async def _all(self) -> list[Any]:
        found: list[Any] = []
        query: dict[str, str | int] = {"limit": _PAGE}
        while True:
            page = await self._call("GET", "/sandbox", params=query)
            found += page["items"]
            if not page["nextCursor"]:
                return found
            query["cursor"] = page["nextCursor"]

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        async with self._http.request(method, self._url + path, **options) as response:
            if not response.ok:
                raise _Refused(await _reason(response))
            return await response.json(content_type=None)

    def _print(self, *lines: str) -> None:
        self._out.writelines(f"{line}\n" for line in lines)


async def _reason(response: aiohttp.ClientResponse) -> str:
    try:
        body = await response.json(content_type=None)
        return str(body["message"])
    except (ValueError, KeyError, TypeError):
        return f"the answer is {response.status} {response.reason}: is this the API?"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _age(moment: str, now: datetime) -> str:
    """Return how long ago something was, in one unit."""
    seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    number, unit = next(((seconds // size, unit) for size, unit in _UNITS if seconds >= size), (0, "s"))
    return f"{number} {unit} ago"

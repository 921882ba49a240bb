"""Diagnostics as servers publish them: on their own account, some time after a document was opened or changed."""

import asyncio
import logging
from typing import Any

import msgspec

from toolbox.errors import RequestTimeout
from toolbox.lsp.paths import path_of

log = logging.getLogger(__name__)


class _Publication(msgspec.Struct):
    uri: str
    diagnostics: list[Any] = []
    version: int | None = None


class Published:
    """The latest diagnostics of each document."""

    def __init__(self) -> None:
        self._latest: dict[str, _Publication] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def take(self, params: msgspec.Raw) -> None:
        """Keep what a server published."""
        try:
            publication = msgspec.json.decode(params, type=_Publication)
        except msgspec.MsgspecError as error:
            log.warning("diagnostics not understood: %s", error)
            return
        path = path_of(publication.uri)
        # Only of documents that somebody waits for or asked about: a server may publish a whole project.
        if path in self._latest or path in self._waiting:
            self._latest[path] = publication
            for future in self._waiting.pop(path, ()):
                if not future.done():
                    future.set_result(None)

    def expect(self, path: str) -> None:
        """The document was opened or changed: what was published about it is no longer true."""
        self._latest[path] = _Publication("", version=-1)

    def forget(self, path: str) -> None:
        """The document was closed."""
        self._latest.pop(path, None)

    def end(self, why: Exception) -> None:
        """Nothing more will be published."""
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(why)
        self._waiting.clear()

    async def of(self, path: str, version: int, seconds: float) -> list[Any]:
        """Return the diagnostics of a version of a document, once they are published. Raises `RequestTimeout`."""
        try:
            async with asyncio.timeout(seconds):
                while (latest := self._latest.get(path)) is None or not _covers(latest, version):
                    future = asyncio.get_running_loop().create_future()
                    self._waiting.setdefault(path, []).append(future)
                    await future
                return latest.diagnostics
        except TimeoutError:
            raise RequestTimeout(f"the language server published no diagnostics in {seconds:g} s") from None


def _covers(publication: _Publication, version: int) -> bool:
    """Tell whether a publication is about a version; one that does not say is about the latest, if about any."""
    return bool(publication.uri) and (publication.version is None or publication.version >= version)

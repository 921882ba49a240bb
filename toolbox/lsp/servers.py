"""All language servers: one for each language and project, started again when it ends by itself."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Self

from toolbox.children.environment import Environment
from toolbox.children.process import Children
from toolbox.errors import BadRequest, ToolboxError, Unavailable
from toolbox.lifetime import TaskSet
from toolbox.lsp.documents import Threads
from toolbox.lsp.editor import Editor
from toolbox.lsp.errors import NothingToStop, NotInitialized, Restarting, StartFailed
from toolbox.lsp.languages import Language, Languages
from toolbox.lsp.paths import find_file, possible_files, project_directory
from toolbox.lsp.server import LanguageServer

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
"""Before the first new start; doubled after each one that does not last."""
MAX_PAUSE_SECONDS = 30.0
LASTING_SECONDS = 60.0
"""A server that ran so long is forgiven its end."""
MAX_ENDS = 5
"""So many ends in a row, and it is not started again until a client asks for it."""
MAX_EDITORS = 16


class Supervised:
    """One server, kept running from `open` to `close`."""

    def __init__(self, language: Language, project: str, children: Children, threads: Threads) -> None:
        self.project = project
        self._language = language
        self._children = children
        self._threads = threads
        self._server: LanguageServer | None = None
        self._ending: LanguageServer | None = None
        self._why = ""
        self._again_at = 0.0
        self._given_up: StartFailed | None = None
        self._opened: list[str] = []
        self._tasks = TaskSet()
        self._started: asyncio.Future[None] | None = None

    @property
    def given_up(self) -> bool:
        """Whether it ended too often, and is not started any more."""
        return self._given_up is not None

    async def open(self, environment: Environment) -> None:
        """Start it, once: everybody who asks waits for the same start. Raises `StartFailed` and `BadRequest`."""
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
            # A failure is looked at even if whoever asked has gone.
            self._started.add_done_callback(asyncio.Future.exception)
            self._tasks.start(self._run(environment, self._started), f"language server for {self._language.id}")
        await asyncio.shield(self._started)

    async def _run(self, environment: Environment, started: "asyncio.Future[None]") -> None:
        try:
            self._server = await self._new(environment)
        except Exception as error:
            started.set_exception(error)
            if isinstance(error, ToolboxError):
                return
            raise
        started.set_result(None)
        await self._keep(environment)

    async def _new(self, environment: Environment) -> LanguageServer:
        return await LanguageServer.start(
            self._language, self.project, self._children, environment.child(), self._threads
        )

    async def _keep(self, environment: Environment) -> None:
        ends = 0
        while True:
            started = time.monotonic()
            if self._server is not None:
                self._why = await self._server.ended()
                self._opened = self._server.opened
                self._ending, self._server = self._server, None
                await self._ending.stop()
                self._ending = None
            ends = 1 if time.monotonic() - started > LASTING_SECONDS else ends + 1
            if ends > MAX_ENDS:
                self._log("not started again")
                self._given_up = StartFailed(f"{self._why}; it ended {ends} times in a row, start it again")
                return
            pause = min(PAUSE_SECONDS * 2 ** (ends - 1), MAX_PAUSE_SECONDS)
            self._again_at = time.monotonic() + pause
            await asyncio.sleep(pause)
            self._log("started again")
            try:
                self._server = await self._new(environment)
                await self._reopen(self._server)
            except (ToolboxError, OSError) as error:
                self._why = str(error)

    def _log(self, what: str) -> None:
        fields = {"languageId": self._language.id, "project": self.project}
        log.warning("%s; %s", self._why, what, extra={"fields": fields})

    async def _reopen(self, server: LanguageServer) -> None:
        for path in self._opened:
            try:
                await server.open(path)
            except (BadRequest, OSError):
                continue

    def server(self) -> LanguageServer:
        """Return the running server. Raises `NotInitialized`, `Restarting`, `StartFailed`."""
        if self._given_up is not None:
            raise self._given_up
        if self._server is not None:
            return self._server
        if self._started is None or not self._started.done():
            raise NotInitialized(f"the language server for {self._language.id} is still being started")
        wait = max(0.1, self._again_at - time.monotonic())
        message = f"{self._why}; it is being started again"
        raise Restarting(message, headers={"Retry-After": str(max(1, round(wait)))})

    async def close(self) -> None:
        """End it."""
        await self._tasks.close()
        if self._started is not None and not self._started.done():
            self._started.set_exception(StartFailed("the language server was stopped while it started"))
        for server in (self._server, self._ending):
            if server is not None:
                await server.stop()
        self._server = None


class LanguageServers:
    """The servers by language and project, and the servers of editors, which have one of their own each."""

    def __init__(
        self, children: Children, environment: Environment, threads: Threads, commands: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._children = children
        self._environment = environment
        self._threads = threads
        self._languages = Languages(commands)
        self._servers: dict[tuple[str, str], Supervised] = {}
        self._editors = 0
        self._stopping: set[asyncio.Task[None]] = set()
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        servers, self._servers = self._servers, {}
        await asyncio.gather(*(server.close() for server in servers.values()), *self._stopping)

    def _key(self, language_id: str, project: str) -> tuple[str, str]:
        return language_id, project_directory(project, str(self._environment.work_dir))

    async def start(self, language_id: str, project: str) -> None:
        """Start the server, unless it runs. Raises `StartFailed` and `BadRequest`."""
        language = self._languages.get(language_id)
        key = self._key(language_id, project)
        supervised = self._servers.get(key)
        if supervised is None or supervised.given_up:
            supervised = self._servers[key] = Supervised(language, key[1], self._children, self._threads)
        try:
            await supervised.open(self._environment)
        except ToolboxError:
            if self._servers.get(key) is supervised:
                del self._servers[key]
            raise

    async def stop(self, language_id: str, project: str) -> None:
        """End the server with all its processes. Raises `NothingToStop`."""
        supervised = self._servers.pop(self._key(language_id, project), None)
        if supervised is None:
            raise NothingToStop(f"no language server for {language_id} in {project}")
        # A client that goes away does not end this half-way.
        stopping = self._tasks.start(supervised.close(), "language server stop")
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        await asyncio.shield(stopping)

    def get(self, language_id: str, project: str) -> LanguageServer:
        """Return the running server. Raises `BadRequest`, `NotInitialized`, `Restarting`, `StartFailed`."""
        self._languages.get(language_id)
        supervised = self._servers.get(self._key(language_id, project))
        if supervised is None:
            raise NotInitialized(f"no language server was started for {language_id} in {project}")
        return supervised.server()

    async def find(self, language_id: str, project: str, uri: str) -> tuple[LanguageServer, str]:
        """Return the running server, and the path of a file. Raises as `get`, and `BadRequest` for no such file."""
        server = self.get(language_id, project)
        work_dir = str(self._environment.work_dir)
        return server, await self._threads.run(find_file, uri, server.project, work_dir)

    async def close(self, language_id: str, project: str, uri: str) -> None:
        """Close a document, which need not be on disk any more. Raises as `get`."""
        server = self.get(language_id, project)
        await server.close(possible_files(uri, server.project, str(self._environment.work_dir)))

    async def edit(self, language_id: str, project: str) -> Editor:
        """Start a server that one editor talks to itself. Raises `StartFailed`, `BadRequest`, `Unavailable`."""
        language = self._languages.get(language_id)
        directory = project_directory(project, str(self._environment.work_dir))
        if self._editors >= MAX_EDITORS:
            raise Unavailable(f"{MAX_EDITORS} editors are connected already")
        self._editors += 1
        try:
            return await Editor.start(
                language, directory, self._children, self._environment.child(), self._threads, self._leave
            )
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._editors -= 1

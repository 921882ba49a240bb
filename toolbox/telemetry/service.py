"""Telemetry of one server: spans of requests and commands, and the metrics of `/metrics`, sent in the background."""

import asyncio
import contextlib
import importlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Self

from aiohttp import web

from toolbox.children.process import Exit
from toolbox.telemetry.settings import Settings
from toolbox.web.metrics import Metrics

if TYPE_CHECKING:
    from toolbox.telemetry.export import Export, RequestSpan, Usage

log = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0
"""How long the daemon's end waits for the last export; a collector that is away must not hold it up."""
_TOKEN_HEADER = "sandbox-auth-token"  # noqa: S105 -- a header's name


class Telemetry:
    """Does nothing, and costs nothing, until it is entered with settings that want something exported.

    `service` and `attributes` tell whose telemetry it is; `usage` what the sandbox uses. `command_text`: spans of
    commands have their text, which may hold secrets.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        service: str,
        attributes: Mapping[str, str] | None = None,
        usage: "Usage | None" = None,
        command_text: bool = False,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._service = service
        self._attributes = attributes or {}
        self._usage = usage
        self._command_text = command_text
        self._export: Export | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if self._settings.enabled and self._settings.endpoint is None:
            await self._open({})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._export is not None:
            await _close(self._export)
            self._metrics.record_latency = None
            self._export = None

    async def initialize(self, token: str | None) -> None:
        """Begin the export, where it waits for this; `token` goes with it, as with the reference daemon's."""
        if self._settings.enabled and self._settings.endpoint is not None:
            await self._open({_TOKEN_HEADER: token} if token else {})

    async def _open(self, headers: Mapping[str, str]) -> None:
        if self._settings.unusable is not None:
            log.warning("telemetry is not exported", extra={"fields": {"why": self._settings.unusable}})
            return
        async with self._opening:
            if self._export is None:
                try:
                    self._export = await asyncio.to_thread(self._made, headers)
                except ImportError as error:
                    why = f"it needs the extra sandbox-toolbox[telemetry]: {error}"
                    log.warning("telemetry is not exported", extra={"fields": {"why": why}})
                except Exception as error:  # noqa: BLE001 -- whatever the SDK finds wrong with its variables
                    why = f"its variables cannot be used ({type(error).__name__})"
                    log.warning("telemetry is not exported", extra={"fields": {"why": why}})

    def _made(self, headers: Mapping[str, str]) -> "Export":
        module = importlib.import_module("toolbox.telemetry.export")
        export: Export = module.Export(self._settings, self._service, self._attributes, headers)
        export.observe(self._metrics, self._usage)
        return export

    def begin(self, request: web.Request) -> "RequestSpan | None":
        """Begin the span of a request; None if there is none."""
        export = self._export
        return export.begin(request) if export is not None else None

    def observe_child(self, argv: Sequence[str], text: str) -> Callable[[Exit], None] | None:
        """Begin the span of a command, and return what ends it; None if there is none."""
        export = self._export
        if export is None or export.tracer is None:
            return None
        name = PurePath(argv[0]).name
        attributes = {"process.executable.name": name, **({"process.command_line": text} if self._command_text else {})}
        return export.start_command(name, attributes)


async def _close(export: "Export") -> None:
    """Send what is left, for a short time only; a thread that is still at it then does not hold up the end."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        export.close()
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=close, name="telemetry", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await closed.wait()

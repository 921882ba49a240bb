"""One daemon process of the process driver: started and awaited, or adopted, watched, ended."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import toolbox
from controlplane.drivers.base import Access, Address, DriverError, Launch
from controlplane.drivers.orphans import Handle, end_marked
from controlplane.drivers.place import Place
from controlplane.upstreams import Upstream
from toolbox import __version__
from toolbox.children import tree
from toolbox.children.process import Child, Children

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
STOP_SECONDS = 6.0
"""A daemon ends within 5 s; what is left after this is killed."""
_READY_LINE = b"Starting toolbox server"
_REAP_SECONDS = 2.0
_LOG_TAIL = 500
_INHERITED = ("PATH", "LANG", "LANGUAGE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "SHELL", "USER", "LOGNAME")
_INHERITED_ENDINGS = ("_proxy", "_PROXY")


def mark(sandbox_id: str) -> str:
    """Return the variable that everything in a sandbox has in its environment."""
    return f"DAYTONA_SANDBOX_ID={sandbox_id}"


class Daemon:
    """A daemon that answers, and how to reach it."""

    def __init__(self, sandbox_id: str, place: Place, process: Handle, child: Child | None) -> None:
        self.id = sandbox_id
        self.stopping = False
        self._place = place
        self._process = process
        self._child = child

    @classmethod
    async def start(cls, launch: Launch, place: Place, children: Children, options: Mapping[str, str]) -> "Daemon":
        """Start the daemon, `options` among its variables, and return once it answers; on failure nothing is left.

        Raises `DriverError`, `OSError`.
        """
        reading, writing = os.pipe()
        output = await _reader(reading)
        try:
            child = await _spawn(launch.id, place, children, options, stdout=writing)
        except BaseException:
            output.close()
            raise
        finally:
            os.close(writing)
        try:
            process = _handle(child)
            await asyncio.to_thread(place.remember, child.pid)
            await output.wait_ready(place)
            daemon = cls(launch.id, place, process, child)
            if launch.env:
                async with Upstream(await daemon.access()) as upstream:
                    await upstream.set_environment(launch.env)
        except BaseException:
            await end_marked(mark(launch.id))
            await child.wait()
            await asyncio.to_thread(place.forget)
            raise
        finally:
            output.close()
        return daemon

    @classmethod
    async def adopt(cls, sandbox_id: str, place: Place) -> "Daemon | None":
        """Return the daemon that an earlier control plane left running, if it still answers."""
        stat = await asyncio.to_thread(place.remembered)
        process = Handle.open(stat) if stat is not None else None
        if process is None:
            return None
        daemon = cls(sandbox_id, place, process, None)
        try:
            async with Upstream(await daemon.access()) as upstream:
                ready = await upstream.is_ready()
        except OSError:
            ready = False
        if not ready:
            process.close()
            return None
        return daemon

    async def access(self) -> Access:
        """Return how to reach it. Raises `OSError`."""
        token = await asyncio.to_thread(self._place.token)
        return Access(address=Address(unix=str(self._place.socket)), token=token, daemon_version=__version__)

    async def reason(self) -> str:
        """Wait until it has ended and say why, as far as anybody knows."""
        if self._child is None:
            await self._process.gone()
            return "the sandbox's daemon ended, how is not known"
        ended = await self._child.wait()
        return f"the sandbox's daemon ended: {ended.cause or f'exit code {ended.code}'}"

    async def end(self, *, force: bool) -> None:
        """End it and everything that runs in its sandbox: asked first, unless `force`; return when all are gone."""
        self.stopping = True
        if not force:
            self._process.signal(signal.SIGTERM)
            await self._process.gone(STOP_SECONDS)
        await end_marked(mark(self.id))
        if self._child is not None:
            # Not for ever: a process stuck in the kernel must not hold up its control plane.
            await asyncio.wait([self._child.ended], timeout=_REAP_SECONDS)
        self._process.close()
        await asyncio.to_thread(self._place.forget)


class _Output:
    """The daemon's standard output until its ready line."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._reader = reader
        self._transport = transport

    async def wait_ready(self, place: Place) -> None:
        """Return once the daemon says that it listens. Raises `DriverError` when it ends or takes too long."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while line := await self._reader.readline():
                    if line.startswith(_READY_LINE):
                        return
        except (TimeoutError, ValueError):
            raise DriverError(f"the sandbox's daemon was not ready within {READY_SECONDS:.0f} s") from None
        text = await asyncio.to_thread(place.log.read_text, "utf-8", "replace")
        raise DriverError(f"the sandbox's daemon did not start: {text[-_LOG_TAIL:].strip() or 'it said nothing'}")

    def close(self) -> None:
        """Stop reading: the daemon writes nothing there any more."""
        self._transport.close()


async def _reader(descriptor: int) -> _Output:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    return _Output(reader, transport)


async def _spawn(
    sandbox_id: str, place: Place, children: Children, options: Mapping[str, str], *, stdout: int
) -> Child:
    command = [
        *(sys.executable, "-m", "toolbox", "serve"),
        *("--socket", str(place.socket)),
        *("--token-file", str(place.token_file)),
        *("--sandbox-id", sandbox_id),
        *("--work-dir", str(place.home)),
        *("--state-dir", str(place.state)),
        # Standard error goes to a file that is not rotated: only what matters.
        *("--log-level", "warning"),
    ]
    log_file = await asyncio.to_thread(place.log.open, "wb", 0)
    with log_file:
        return children.spawn(
            command,
            # `python -m` finds the package from here, installed or not.
            cwd=str(Path(toolbox.__file__).parent.parent),
            env={**_environment(sandbox_id, place, os.environ), **options},
            stdout=stdout,
            stderr=log_file.fileno(),
        )


def _environment(sandbox_id: str, place: Place, own: Mapping[str, str]) -> dict[str, str]:
    """Return the daemon's variables: a chosen few of ours, since the rest may hold secrets, and the sandbox's own."""
    inherited = {
        name: value
        for name, value in own.items()
        if name in _INHERITED or name.startswith("LC_") or name.endswith(_INHERITED_ENDINGS)
    }
    name, _, value = mark(sandbox_id).partition("=")
    return {**inherited, name: value, "HOME": str(place.home), "TMPDIR": str(place.temporary)}


def _handle(child: Child) -> Handle:
    stat = tree.read_stat(child.pid)
    process = Handle.open(stat) if stat is not None else None
    if process is None:
        raise DriverError("the sandbox's daemon ended at once")
    return process

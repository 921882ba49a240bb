"""One running container: its daemon, how it is reached, and that it ended."""

import asyncio
import os

from controlplane.drivers.base import Access, Address
from controlplane.drivers.docker.place import Place, path_of
from controlplane.upstreams import Upstream


class Box:
    """A container that was started. Made and ended by the driver only."""

    def __init__(self, sandbox_id: str, name: str, place: Place) -> None:
        self.id = sandbox_id
        self.name = name
        """What the engine calls the container."""
        self.place = place
        self.launched = False
        """The engine has started it: that it does not run now means that it ended."""
        self.answered = False
        """Its daemon was ready: from now on its end is news."""
        self.paused = False
        self.copying = False
        """The engine copies its files, and freezes it meanwhile."""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why it ended, once it has."""
        self.daemon_version: str | None = None
        self._socket: int | None = None
        self._token = ""

    async def connect(self) -> bool:
        """Tell whether the daemon's socket is there, and hold on to it."""
        if self._socket is None:
            self._token = await asyncio.to_thread(self.place.token)
            self._socket = await asyncio.to_thread(self.place.open_socket)
        return self._socket is not None

    async def is_ready(self) -> bool:
        """Tell whether the daemon answers, and ask which it is."""
        if not await self.connect():
            return False
        async with Upstream(self.access()) as upstream:
            if not await upstream.is_ready():
                return False
            self.daemon_version = await upstream.version()
            return True

    def access(self) -> Access:
        """Return how to reach the daemon, whose socket is there."""
        assert self._socket is not None  # noqa: S101 -- for mypy
        address = Address(unix=path_of(self._socket))
        return Access(address=address, token=self._token, daemon_version=self.daemon_version)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            os.close(self._socket)
            self._socket = None

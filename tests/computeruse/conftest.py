"""A daemon with a bare desktop, an X server and nothing on it; the whole one takes longer and is for few tests."""

from collections.abc import AsyncIterator, Callable

import pytest

from tests.conftest import Daemon, run_daemon
from toolbox.config import ServeConfig


@pytest.fixture
async def bare(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon whose desktop is started, without a session."""
    async with run_daemon(serve_config(desktop="none", resolution="1280x720")) as daemon:
        async with daemon.http.post("/computeruse/start") as response:
            assert response.status == 200, await response.text()
        yield daemon

"""The Pythons that draw: one with the newest matplotlib, one with the oldest."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.conftest import Daemon, run_daemon
from toolbox.config import ServeConfig

OLDEST = Path(f"{sys.prefix}-oldest/bin/python")
"""Made by `make test`, beside the environment of the tests."""


@pytest.fixture(params=["newest", "oldest"])
def matplotlib(request: pytest.FixtureRequest) -> str:
    """Return which matplotlib programs draw with."""
    if request.param == "oldest" and sys.version_info >= (3, 12):
        pytest.skip("not possible here: the oldest matplotlib needs Python 3.11")
    return str(request.param)


@pytest.fixture
async def daemon(matplotlib: str, serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon whose programs draw with that matplotlib."""
    assert OLDEST.exists(), "make oldest"
    python = {"newest": sys.executable, "oldest": str(OLDEST)}[matplotlib]
    async with run_daemon(serve_config(kernel_python=python)) as running_daemon:
        yield running_daemon

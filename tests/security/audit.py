"""Listens to the whole test suite: no secret that a server was given may stand in what any server says.

What servers of their own processes print is looked through as they end (`Toolboxd.end`), what those in this process
log as each test ends (`no_secret_is_logged`).
"""

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from toolbox.config import CommonConfig, ServeConfig, UpConfig
from toolbox.logs import _JsonFormatter

SHORTEST = 8
"""Characters of a secret that cannot stand in a log by chance."""
ANNOUNCED = ("TOOLBOX_TOKEN=", "export DAYTONA_API_KEY=")
"""How the lines begin by which a server tells its own secret, on standard output and nowhere else."""
VARIABLES = frozenset(
    f"TOOLBOX_{each.name.upper()}"
    for config in (ServeConfig, UpConfig)
    for each in fields(config)
    if each.metadata.get("secret")
)


def given(argv: Iterable[str], environ: Mapping[str, str]) -> set[str]:
    """Return the secrets that a server's command line and variables hold."""
    words = list(argv)
    flags = {f"--{name.removeprefix('TOOLBOX_').lower().replace('_', '-')}" for name in VARIABLES}
    found = {value for name, value in environ.items() if name in VARIABLES}
    found |= {value for flag, value in itertools.pairwise(words) if flag in flags}
    return {value for value in found if len(value) >= SHORTEST}


def check(text: str, secrets: Iterable[str]) -> None:
    """Fail where a secret stands in a text; the failure shows where, and not the secret."""
    for secret in secrets:
        before, found, _ = text.partition(secret)
        assert not found, f"a secret is said: {before[-200:]!r}[…]"


class Listener(logging.Handler):
    """Keeps what was logged, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_JsonFormatter())
        self.lines: list[str] = []
        self.secrets: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("toolbox", "controlplane", "aiohttp", "asyncio")):
            self.lines.append(self.format(record))


@contextmanager
def listening(monkeypatch: Any) -> Iterator[Listener]:
    """Collect the log, and the secrets of configurations that are made meanwhile; look at the end."""
    listener = Listener()
    load = CommonConfig.load.__func__  # type: ignore[attr-defined]

    def noting(cls: type[CommonConfig], *arguments: Any) -> CommonConfig:
        config: CommonConfig = load(cls, *arguments)
        values = (getattr(config, each.name) for each in fields(config) if each.metadata.get("secret"))
        listener.secrets.update(value for value in values if value and len(value) >= SHORTEST)
        return config

    monkeypatch.setattr(CommonConfig, "load", classmethod(noting))
    root = logging.getLogger()
    root.addHandler(listener)
    try:
        yield listener
    finally:
        root.removeHandler(listener)
    check("\n".join(listener.lines), listener.secrets)


def note(secret: str) -> None:
    """Tell who listens of a secret that a server has made for itself."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Listener):
            handler.secrets.add(secret)

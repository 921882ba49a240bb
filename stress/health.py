"""How long `/healthz` takes while the rest of the machine is busy."""

import threading
import time
from collections.abc import Callable
from typing import Self

from bench.client import Client

_EVERY_SECONDS = 0.02


class Health:
    """A context: asks each of the servers in turn, in a thread, and keeps how long each answer took, in seconds."""

    def __init__(self, *clients: Callable[[], Client]) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._open = clients
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="health")

    def _ask(self) -> None:
        clients = [each() for each in self._open]
        try:
            while not self._stop.is_set():
                for client in clients:
                    started = time.perf_counter()
                    try:
                        client.call("GET", "/healthz")
                    except Exception as error:  # noqa: BLE001 -- a budget, not the end
                        self.failures.append(f"{type(error).__name__}: {error}")
                    self.seconds.append(time.perf_counter() - started)
                    self._stop.wait(_EVERY_SECONDS)
        finally:
            for client in clients:
                client.close()

    def quantile(self, share: float) -> float:
        """Return the time within which a share of the answers came."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

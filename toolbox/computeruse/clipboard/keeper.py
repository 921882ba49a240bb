"""The thread that keeps selections: it answers other programs at any time, and does our work in between."""

import asyncio
import contextlib
import logging
import os
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from Xlib import error

from toolbox.computeruse.clipboard.selections import Selections
from toolbox.computeruse.errors import DesktopUnavailable

T = TypeVar("T")
log = logging.getLogger(__name__)


class Keeper:
    """A connection of its own to one X server, in a thread of its own; it ends with the server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        """The server is not there, or has gone."""
        self._work: queue.SimpleQueue[tuple[Callable[[Selections], Any], Future[Any]]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="clipboard", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Selections], T]) -> Future[T]:
        """Have `work` done in the thread. Its result raises `DesktopUnavailable` when there is no X server any more."""
        future: Future[T] = Future()
        self._work.put((work, future))
        os.eventfd_write(self._wake, 1)
        if self.ended:  # perhaps before it saw this
            self._refuse()
        return future

    async def close(self) -> None:
        """End the thread."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # ends any wait for the server
        await asyncio.to_thread(self._thread.join)
        os.close(self._wake)
        self._wake = -1

    def _run(self) -> None:
        try:
            with contextlib.closing(Selections(self.name, self._wake)) as selections:
                self._socket = selections.socket
                while not self._closing:
                    self._do(selections)
                    selections.serve()
        except (error.ConnectionClosedError, error.DisplayConnectionError, error.DisplayNameError, OSError):
            pass  # the work that meets it says so
        except Exception:
            log.exception("the clipboard's thread failed")
        finally:
            self._socket = None
            self.ended = True
            self._refuse()

    def _do(self, selections: Selections) -> None:
        """Do what has been submitted."""
        while not (self._work.empty() or self._closing):
            work, future = self._work.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work(selections))
            except (error.ConnectionClosedError, OSError):
                future.set_exception(self._gone())
                raise
            except Exception as failure:  # noqa: BLE001 -- of the work, for who waits for it
                future.set_exception(failure)

    def _refuse(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                _, future = self._work.get_nowait()
                if future.set_running_or_notify_cancel():
                    future.set_exception(self._gone())

    def _gone(self) -> DesktopUnavailable:
        return DesktopUnavailable(f"the X server of {self.name} cannot be reached")

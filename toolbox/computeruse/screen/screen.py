"""The screen: pictures of it, one by one or as a stream."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from toolbox.computeruse.desktop.desktop import Desktop
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.computeruse.screen.picture import Encoding, Shot, View
from toolbox.computeruse.xserver import XServer
from toolbox.errors import ToolboxError
from toolbox.lifetime import TaskSet

if TYPE_CHECKING:
    from Xlib.display import Display

    from toolbox.computeruse.screen.encode import Screenshot
    from toolbox.computeruse.screen.grabber import Grabber, Look

T = TypeVar("T")

ANSWER_SECONDS = 5.0
"""How long the X server may take for a picture."""
_ENCODERS = max(2, min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Order:
    """One picture as somebody wants it; `since` is the hash of one that is not wanted again."""

    view: View
    encoding: Encoding
    since: str = ""


class Screen:
    """Takes pictures of the desktop's screen.

    Pixels are grabbed in one thread, images made in a few others. What waits for its turn is not grabbed yet, so memory
    is bounded, and who wants what another one waits for already gets the same picture.
    """

    def __init__(self, desktop: Desktop) -> None:
        # A connection of its own: input with pauses in it must not hold up pictures.
        self._xserver = XServer(lambda: desktop.display)
        self._grabber: Grabber | None = None
        self._encoders = ThreadPoolExecutor(_ENCODERS, thread_name_prefix="screenshots")
        self._slots = asyncio.Semaphore(_ENCODERS + 1)
        self._waiting: dict[Order, asyncio.Task[Screenshot | ToolboxError | None]] = {}
        self._tasks = TaskSet()
        self._end = asyncio.Event()
        desktop.before_stop(self.end_streams)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """To be left after the desktop: then nothing waits for the X server any more."""
        await self.end_streams()
        await self._tasks.close()
        await self._xserver.close()
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        if self._grabber is not None:
            self._grabber.close()
        self._encoders.shutdown()

    async def end_streams(self) -> None:
        """Let every stream there is end."""
        self._end.set()
        self._end = asyncio.Event()

    async def take(self, order: Order) -> "Screenshot | None":
        """Take a picture, with its `json`; None if its hash is the `since` of the order.

        Raises `BadRequest` for what cannot be, `DesktopUnavailable` without a desktop.
        """
        if order.view.region is not None:
            order.view.region.check()
            order.encoding.size(order.view.region)
        task = self._waiting.get(order)
        if task is None:
            task = self._waiting[order] = self._tasks.start(self._take(order), "screenshot")
        outcome = await asyncio.shield(task)
        if isinstance(outcome, ToolboxError):
            raise type(outcome)(outcome.message)  # several may wait for it: to each an error of its own
        return outcome

    async def _take(self, order: Order) -> "Screenshot | ToolboxError | None":
        try:
            async with self._slots:
                # Who comes from now on may have changed the screen, and must see that.
                del self._waiting[order]
                shot = await self._ask(lambda grabber: grabber.shoot(order.view))
                return await self._develop(shot, order.encoding, since=order.since, as_json=True)
        except ToolboxError as error:
            return error

    def stream(self, view: View, encoding: Encoding, *, fps: float) -> "Stream":
        """Return the pictures of the screen from now on."""
        return Stream(self, view, encoding, fps, self._end)

    async def next_picture(
        self, view: View, encoding: Encoding, seen: "Look | None", since: str
    ) -> "tuple[Look, Screenshot | None]":
        """Take a picture, without `json`, if the screen has changed since the look `seen` and the hash `since`.

        Returns what to give as `seen` the next time. Raises as `take`.
        """
        async with self._slots:
            look, shot = await self._ask(lambda grabber: grabber.shoot_if_new(view, seen))
            return look, None if shot is None else await self._develop(shot, encoding, since=since)

    async def _develop(
        self, shot: Shot, encoding: Encoding, *, since: str, as_json: bool = False
    ) -> "Screenshot | None":
        def develop() -> "Screenshot | None":
            from toolbox.computeruse.screen import encode  # noqa: PLC0415 -- in this thread, when first used

            return encode.develop(shot, encoding, since=since, as_json=as_json)

        return await asyncio.get_running_loop().run_in_executor(self._encoders, develop)

    async def _ask(self, work: "Callable[[Grabber], T]") -> T:
        """Run `work` in the grabbing thread. Raises `DesktopUnavailable`."""
        return await self._xserver.run(partial(self._work, work), seconds=ANSWER_SECONDS)

    def _work(self, work: "Callable[[Grabber], T]", display: "Display") -> T:
        from toolbox.computeruse.screen.grabber import Grabber  # noqa: PLC0415 -- in this thread, when first used

        if self._grabber is None or self._grabber.display is not display:
            if self._grabber is not None:
                self._grabber.close()
            self._grabber = Grabber(display)
        return work(self._grabber)


class Stream:
    """Pictures of the screen, as images: the first at once, then one whenever something has changed.

    Nothing is grabbed before the next one is asked for, so that a slow client gets the latest, and never what has
    piled up.
    """

    def __init__(self, screen: Screen, view: View, encoding: Encoding, fps: float, end: asyncio.Event) -> None:
        self._screen = screen
        self._view = view
        self._encoding = encoding
        self._seconds = 1 / fps
        self._end = end
        self._due = 0.0
        self._look: Look | None = None
        self._hash = ""

    async def first(self) -> bytes:
        """Return the screen as it is. Raises as `Screen.take`."""
        self._due = asyncio.get_running_loop().time() + self._seconds
        picture = await self._picture()
        assert picture is not None  # noqa: S101 -- nothing was seen before that it could be the same as
        return picture

    async def next(self) -> bytes | None:
        """Return the screen once it has changed and the time has come; None when the desktop has ended."""
        loop = asyncio.get_running_loop()
        while not await self._ended_before(self._due):
            self._due = loop.time() + self._seconds
            try:
                picture = await self._picture()
            except DesktopUnavailable:
                return None
            if picture is not None:
                return picture
        return None

    async def _picture(self) -> bytes | None:
        self._look, picture = await self._screen.next_picture(self._view, self._encoding, self._look, self._hash)
        if picture is None:
            return None
        self._hash = picture.hash
        return picture.image

    async def _ended_before(self, due: float) -> bool:
        try:
            async with asyncio.timeout_at(due):
                return await self._end.wait()
        except TimeoutError:
            return False

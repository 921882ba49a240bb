"""Mouse and keyboard of the desktop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

from toolbox.computeruse.desktop.desktop import Desktop
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.computeruse.input.keys import Chord, Key, parse_chord, parse_hotkey, parse_key, parse_modifiers
from toolbox.computeruse.input.text import lines
from toolbox.errors import BadRequest
from toolbox.lifetime import TaskSet

if TYPE_CHECKING:
    from Xlib.display import Display

    from toolbox.computeruse.input.devices import Devices

T = TypeVar("T")
Place = tuple[int, int]

BUTTONS = {"left": 1, "middle": 2, "right": 3}
DIRECTIONS = ("up", "down", "left", "right")
MAX_CLICKS = 10
MAX_SCROLL = 10_000
MAX_SMOOTH_MS = 10_000
MAX_DELAY_MS = 60_000

_SMOOTH_MS = 200
_FRAME_SECONDS = 0.008
_DRAG_STEPS = 20
_DRAG_FRAME_SECONDS = 0.005
_DRAG_REST_SECONDS = 0.025
"""Before the first and after the last step of a drag: window managers and toolkits take hold of the pointer in it."""

_CHUNK = 200
"""Characters, or turns of the wheel, after which others may use the X server: some milliseconds."""

_ANSWER_TRIES, _ANSWER_PAUSE_SECONDS = 500, 0.002
_BLIND_SECONDS = 0.06
"""How long a program that cannot be asked gets to look up the keys it was sent."""


class Input:
    """The mouse and the keyboard. Nothing stays pressed but what `button` and `key` were told to hold.

    Mouse calls come one after another, and so do texts; keys come between the chunks of a text, as a person could
    press one.
    """

    def __init__(self, desktop: Desktop) -> None:
        self._desktop = desktop
        self._devices: Devices | None = None
        """Made and used in the X server's thread only."""
        self._mouse = asyncio.Lock()
        self._text = asyncio.Lock()
        self._settling = asyncio.Lock()
        self._tasks = TaskSet()
        desktop.before_stop(self.release_all)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    async def _run(self, work: Callable[["Devices"], T]) -> T:
        return await self._desktop.xserver.run(lambda display: work(self._of(display)))

    def _of(self, display: "Display") -> "Devices":
        if self._devices is None or self._devices.display is not display:
            from toolbox.computeruse.input.devices import Devices  # noqa: PLC0415 -- when first used

            self._devices = Devices(display, self._devices)
        return self._devices

    async def _surely(self, work: Awaitable[object]) -> None:
        """Do what must be done even if the request is cancelled, unless the desktop has gone."""

        async def finish() -> None:
            with suppress(DesktopUnavailable):
                await work

        await asyncio.shield(self._tasks.start(finish(), "end of input"))

    async def release_all(self) -> None:
        """Release every key and button that is held."""
        if self._devices is not None:
            with suppress(DesktopUnavailable):
                await self._run(lambda devices: devices.release_all())

    async def position(self) -> Place:
        """Return where the pointer is."""
        return await self._run(lambda devices: devices.injector.position())

    async def move(self, x: int, y: int, *, smooth: bool | int = False) -> Place:
        """Move the pointer, by default at once, and return where it is then.

        `smooth`: along a line, in so many milliseconds. Raises `BadRequest` for more than `MAX_SMOOTH_MS`.
        """
        duration = _SMOOTH_MS if smooth is True else int(smooth)
        if not 0 <= duration <= MAX_SMOOTH_MS:
            raise BadRequest(f"smooth: not between 0 and {MAX_SMOOTH_MS} milliseconds: {duration}")
        async with self._mouse:
            if duration:
                steps = max(1, round(duration / 1000 / _FRAME_SECONDS))
                await self._glide(await self.position(), (x, y), steps, duration / 1000 / steps)
            return await self._run(lambda devices: devices.pointer.move(x, y))

    async def _glide(self, start: Place, end: Place, steps: int, pause: float) -> None:
        for step in range(1, steps + 1):
            x, y = (round(a + (b - a) * step / steps) for a, b in zip(start, end, strict=True))
            await self._run(lambda devices, x=x, y=y: devices.pointer.move(x, y))  # type: ignore[misc]
            await asyncio.sleep(pause)

    async def click(self, x: int, y: int, *, button: str, clicks: int, modifiers: Sequence[str]) -> Place:
        """Click at a place, `clicks` times, and return where that is. Raises `BadRequest`."""
        number, held = _button(button), parse_modifiers(modifiers)
        if not 1 <= clicks <= MAX_CLICKS:
            raise BadRequest(f"clicks: not between 1 and {MAX_CLICKS}: {clicks}")

        def work(devices: "Devices") -> Place:
            with devices.keyboard.holding(held):
                place = devices.pointer.move(x, y)
                devices.pointer.click(number, clicks)
            devices.injector.position()
            return place

        async with self._mouse:
            return await self._run(work)

    async def drag(self, start: Place, end: Place, *, button: str, modifiers: Sequence[str]) -> Place:
        """Press at `start`, move, release at `end`; return where that is. Raises `BadRequest`."""
        number, held = _button(button), parse_modifiers(modifiers)
        async with self._mouse:
            try:
                await self._run(lambda devices: devices.grip(start, number, held))
                await asyncio.sleep(_DRAG_REST_SECONDS)
                await self._glide(start, end, _DRAG_STEPS, _DRAG_FRAME_SECONDS)
                await asyncio.sleep(_DRAG_REST_SECONDS)
            finally:
                await self._surely(self._run(lambda devices: devices.let_go()))
            return await self.position()

    async def scroll(self, x: int, y: int, *, direction: str, amount: int, modifiers: Sequence[str]) -> None:
        """Turn the wheel at a place. Raises `BadRequest`."""
        direction, held = direction.strip().lower(), parse_modifiers(modifiers)
        if direction not in DIRECTIONS:
            raise BadRequest(f'unsupported scroll direction "{direction}": use one of {", ".join(DIRECTIONS)}')
        if not 0 <= amount <= MAX_SCROLL:
            raise BadRequest(f"amount: not between 0 and {MAX_SCROLL}: {amount}")

        def work(devices: "Devices", turns: int) -> None:
            with devices.keyboard.holding(held):
                devices.injector.move(x, y)
                devices.turn_wheel(direction, turns)
            devices.injector.position()

        async with self._mouse:
            for done in range(0, amount, _CHUNK):
                turns = min(_CHUNK, amount - done)
                await self._run(lambda devices, turns=turns: work(devices, turns))  # type: ignore[misc]

    async def button(self, button: str, x: int | None, y: int | None, *, down: bool) -> Place:
        """Press or release a button, at a place if one is given, and return where the pointer is."""
        number = _button(button)
        if (x is None) is not (y is None):
            raise BadRequest("x and y: give both, or neither")

        def work(devices: "Devices") -> Place:
            if x is not None and y is not None:
                devices.pointer.move(x, y)
            (devices.pointer.press if down else devices.pointer.release)(number)
            return devices.injector.position()

        async with self._mouse:
            return await self._run(work)

    async def type(self, text: str, *, delay: int = 0) -> None:
        """Type a text, with `delay` milliseconds between its characters.

        Raises `BadRequest`, before anything is typed, for a text with something in it that cannot be.
        """
        text = lines(text)
        if delay > MAX_DELAY_MS:
            raise BadRequest(f"delay: more than {MAX_DELAY_MS} milliseconds: {delay}")
        async with self._text:
            try:
                await self._type(text, 1 if delay > 0 else _CHUNK, max(delay, 0) / 1000)
            finally:
                await self._unbind()

    async def _type(self, text: str, chunk: int, pause: float) -> None:
        done = 0
        while done < len(text):
            at = await self._run(lambda devices, done=done: devices.keyboard.type(text, done, chunk))  # type: ignore[misc]
            if at == done:
                await self._settle()
            elif pause and at < len(text):
                await asyncio.sleep(pause)
            done = at

    async def press(self, key: str, modifiers: Sequence[str]) -> None:
        """Press and release a key while modifiers are held. Raises `BadRequest`."""
        await self._press(parse_chord(key, modifiers))

    async def hotkey(self, keys: str) -> None:
        """Press and release a chord like `ctrl+shift+t`. Raises `BadRequest`."""
        await self._press(parse_hotkey(keys))

    async def _press(self, chord: Chord) -> None:
        try:
            await self._run(lambda devices: devices.keyboard.press(chord.key, chord.modifiers))
        finally:
            await self._unbind()

    async def key(self, key: str, *, down: bool) -> None:
        """Press a key and hold it, or release it. Raises `BadRequest`."""
        parsed: Key = parse_key(key)

        def work(devices: "Devices") -> None:
            (devices.keyboard.down if down else devices.keyboard.up)(parsed)

        try:
            await self._run(work)
        finally:
            if not down:
                await self._unbind()

    async def _unbind(self) -> None:
        """Take the keys back that were lent to what the layout has not."""
        if self._devices is None or not self._devices.keyboard.lent:
            return

        async def unbind() -> None:
            await self._settle()
            await self._run(lambda devices: devices.keyboard.unbind())

        await self._surely(unbind())

    async def _settle(self) -> None:
        """Wait until the program that has the focus has looked up the keys it was sent; lent keys can be used anew."""
        async with self._settling:
            if await self._run(lambda devices: devices.ask()):
                try:
                    for _ in range(_ANSWER_TRIES):
                        if await self._run(lambda devices: devices.ping.answered()):
                            break
                        await asyncio.sleep(_ANSWER_PAUSE_SECONDS)
                finally:
                    await self._run(lambda devices: devices.ping.end())
            else:
                await asyncio.sleep(_BLIND_SECONDS)
            await self._run(lambda devices: devices.keyboard.retire())


def _button(name: str) -> int:
    name = name.strip().lower() or "left"
    if name not in BUTTONS:
        raise BadRequest(f'unsupported mouse button "{name}": use one of {", ".join(BUTTONS)}')
    return BUTTONS[name]

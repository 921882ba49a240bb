"""The scope `focused`, with a window manager and without one."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from Xlib.display import Display
from Xlib.protocol.event import ClientMessage
from Xlib.X import AnyPropertyType, CurrentTime, IsViewable, RevertToParent, SubstructureNotifyMask
from Xlib.X import SubstructureRedirectMask as RedirectMask

from tests.computeruse.a11y.conftest import Accessible, eventually

T = TypeVar("T")


async def with_display(accessible: Accessible, work: Callable[[Display], T]) -> T:
    def run() -> T:
        display = Display(accessible.display)
        try:
            return work(display)
        finally:
            display.close()

    return await asyncio.to_thread(run)


def has_window_manager(display: Display) -> bool:
    name = display.intern_atom("_NET_SUPPORTING_WM_CHECK")
    return display.screen().root.get_full_property(name, AnyPropertyType) is not None


def windows(display: Display, pid: int) -> list[Any]:
    """Return the windows that a process shows: those that a window manager framed, or all."""
    name, found = display.intern_atom("_NET_WM_PID"), []
    waiting = list(display.screen().root.query_tree().children)
    while waiting:
        window = waiting.pop()
        if window.get_attributes().map_state != IsViewable:
            continue
        owner = window.get_full_property(name, AnyPropertyType)
        if owner is not None and owner.value[0] == pid and window.get_wm_class():
            found.append(window)
        waiting += window.query_tree().children
    return found


def activate(display: Display, pid: int) -> None:
    """Ask the window manager to make a window of the process active."""
    for window in windows(display, pid):
        kind = display.intern_atom("_NET_ACTIVE_WINDOW")
        message = ClientMessage(window=window, client_type=kind, data=(32, [2, CurrentTime, 0, 0, 0]))
        display.screen().root.send_event(message, event_mask=RedirectMask | SubstructureNotifyMask)
    display.sync()


def give_input(display: Display, pid: int) -> None:
    for window in windows(display, pid):
        window.set_input_focus(RevertToParent, CurrentTime)
    display.sync()


async def test_with_a_window_manager(accessible: Accessible) -> None:
    await accessible.run("openbox")
    await eventually(lambda: with_display(accessible, has_window_manager))
    editor = await accessible.start("mousepad --disable-server", role="text")
    terminal = await accessible.start("xfce4-terminal --disable-server", role="terminal")
    for name, pid in (("mousepad", editor), ("xfce4-terminal", terminal), ("mousepad", editor)):
        await with_display(accessible, partial(activate, pid=pid))

        async def focused(name: str = name) -> bool:
            return bool((await accessible.tree("maxDepth=0"))["name"] == name)

        await eventually(focused)
    assert (await accessible.find(scope="focused", role="frame"))[0]["name"].endswith("Mousepad")
    # A program that tells nothing of itself.
    silent = await accessible.run("env NO_AT_BRIDGE=1 GTK_MODULES= mousepad --disable-server")

    async def refused() -> str:
        await with_display(accessible, partial(activate, pid=silent))
        status, answer = await accessible.answer("tree")
        return "" if status == 200 else answer["code"]

    assert await eventually(refused) == "A11Y_NO_ACCESSIBLE_ROOT"


async def test_without_a_window_manager(accessible: Accessible) -> None:
    status, answer = await accessible.answer("tree")
    assert (status, answer["code"]) == (404, "A11Y_NO_ACCESSIBLE_ROOT")
    editor = await accessible.start("mousepad --disable-server", role="text")
    await with_display(accessible, partial(give_input, pid=editor))

    async def focused() -> bool:
        status, answer = await accessible.answer("tree?scope=focused&maxDepth=0")
        return status == 200 and bool(answer["root"]["name"] == "mousepad")

    await eventually(focused)

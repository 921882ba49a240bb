"""A program on the accessibility bus that says whatever a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from toolbox.computeruse.a11y import atspi

PREFIX = "/org/a11y/atspi/accessible/"


class Program:
    """Objects named by numbers, the root `root`; `children` tells which those of an object are."""

    def __init__(self, bus: MessageBus, children: Callable[[str], list[str]]) -> None:
        self.bus = bus
        self.children = children
        self.items: list[Any] | None = None
        """What its cache has, in the signature of old programs."""
        self.garbage = False
        """Whether answers are of types that nobody expects."""

    def reference(self, name: str) -> list[str]:
        """Return an object's reference."""
        return [self.bus.unique_name or "", PREFIX + name]

    def item(self, name: str, children: list[str]) -> list[Any]:
        """Return an object as it stands in the cache."""
        nobody = ["", atspi.NULL_PATH]
        references = [self.reference(child) for child in children]
        rest = [[atspi.ACCESSIBLE], f"cached {name}", 39, "", [1 << 8, 0]]
        return [self.reference(name), self.reference("root"), nobody, references, *rest]

    def handle(self, message: Message) -> Message | bool:
        """Answer a call."""
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        name = (message.path or "").removeprefix(PREFIX)
        signature, result = self._answer(message, name)
        if self.garbage:
            signature, result = "x", 1
        if not signature:
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", "no")
        return Message.new_method_return(message, signature, [result])

    def _answer(self, message: Message, name: str) -> tuple[str, Any]:
        match message.member:
            case "GetItems" if self.items is not None:
                return "a((so)(so)(so)a(so)assusau)", self.items
            case "GetChildren":
                return "a(so)", [self.reference(child) for child in self.children(name)]
            case "GetRoleName":
                return "s", "panel"
            case "GetState":
                return "au", [1 << 8, 1 << 11]
            case "GetInterfaces":
                return "as", [atspi.ACCESSIBLE, atspi.ACTION, atspi.COMPONENT, atspi.VALUE]
            case "Get" if message.body[1] in {"Name", "Description"}:
                return "v", Variant("s", name)
            case "Get" if message.body[1] == "CurrentValue":
                return "v", Variant("d", 2.5)
            case "GetActions":
                return "a(sss)", [["Los", "", ""], ["Weg", "", ""]]
            case "GetName":
                return "s", ("go", "away")[message.body[0]]
            case "GetExtents":
                return "(iiii)", [-(2**31), -(2**31), 5, 5]
            case "DoAction":
                return "b", message.body[0] == 1
            case _:
                return "", None


@asynccontextmanager
async def on_the_bus(session: str, children: Callable[[str], list[str]]) -> AsyncIterator[Program]:
    """Run a program that has made itself known."""
    bus = await MessageBus(bus_address=session).connect()
    reply = await bus.call(
        Message(destination="org.a11y.Bus", path="/org/a11y/bus", interface="org.a11y.Bus", member="GetAddress")
    )
    await _end(bus)
    program = Program(await MessageBus(bus_address=reply.body[0]).connect(), children)
    program.bus.add_message_handler(program.handle)
    embed = Message(
        destination=atspi.REGISTRY,
        path=atspi.ROOT_PATH,
        interface="org.a11y.atspi.Socket",
        member="Embed",
        signature="(so)",
        body=[program.reference("root")],
    )
    assert (await program.bus.call(embed)).message_type is MessageType.METHOD_RETURN
    try:
        yield program
    finally:
        await _end(program.bus)
        await asyncio.sleep(0)


async def _end(bus: MessageBus) -> None:
    bus.disconnect()
    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

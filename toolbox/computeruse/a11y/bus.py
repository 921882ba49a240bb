"""The accessibility bus: one connection that is kept, and calls that are bounded in number and time."""

import asyncio
import logging
from typing import Any
from weakref import WeakValueDictionary

from dbus_fast import ErrorType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError

from toolbox.computeruse.a11y import atspi
from toolbox.computeruse.a11y.errors import AccessibilityUnavailable, CallFailed, NotAnswering
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

CALL_SECONDS = 2.0
"""How long a program may leave a call unanswered before it counts as hung."""
CONNECT_SECONDS = 10.0
CALLS_IN_FLIGHT = 32
"""Calls that one program may have unanswered; the others wait."""


class _Program:
    """A program on the bus, while it is called."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self.silent = False
        """It has left a call unanswered, and given no sign of life since."""


class AccessibilityBus:
    """Calls to programs on the accessibility bus, which is found through the session bus.

    A lost connection fails the calls on it and is made anew for the next one. Every method raises
    `AccessibilityUnavailable` when there is no bus; calls raise `CallFailed` and `NotAnswering` too.
    """

    def __init__(self) -> None:
        self._address = ""
        self._connection: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._programs: WeakValueDictionary[str, _Program] = WeakValueDictionary()
        self._tasks = TaskSet()

    async def close(self) -> None:
        """End the connection, whatever waits for it."""
        await self._tasks.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            await _disconnect(connection)

    async def connect(self, address: str) -> None:
        """Make sure that there is a connection, found through the session bus at `address`."""
        async with self._connecting:
            if self._connection is not None and self._connection.connected and self._address == address:
                return
            await self.close()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    self._connection = await _connect(await _accessibility_address(address))
            except (OSError, EOFError, DBusFastError, TimeoutError, CallFailed) as error:
                reason = str(error) or type(error).__name__
                raise AccessibilityUnavailable(f"the accessibility bus cannot be reached: {reason}") from None
            self._address = address
        await self._ask_for_caches()

    async def _ask_for_caches(self) -> None:
        """Have GTK programs keep a cache of their objects, by listening to an event that hardly ever comes.

        Programs drop the cache when our connection ends. Where this does not work their objects are read singly.
        """
        arguments: tuple[tuple[str, list[Any]], ...] = (
            ("sass", ["document:load-complete", [], ""]),
            ("s", ["document:load-complete"]),  # before AT-SPI 2.36
        )
        for signature, body in arguments:
            try:
                await self.call(
                    atspi.REGISTRY, "/org/a11y/atspi/registry", atspi.REGISTRY, "RegisterEvent", signature, body
                )
            except (CallFailed, NotAnswering) as error:
                log.debug("event not registered", extra={"fields": {"error": str(error)}})
            else:
                return

    async def call(
        self,
        name: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: list[Any] | None = None,
        *,
        returns: tuple[str, ...] = ("",),
    ) -> Any:
        """Call a method and return its result; `returns` are the D-Bus signatures that it may have."""
        program = self._programs.get(name)
        if program is None:
            program = self._programs[name] = _Program()
        try:
            message = Message(
                destination=name, path=path, interface=interface, member=member, signature=signature, body=body or []
            )
        except DBusFastError as error:  # a program may call its objects anything
            raise CallFailed(str(error)) from None
        async with program.slots:
            if program.silent:
                raise NotAnswering(name)
            connection = self._connection
            if connection is None or not connection.connected:
                raise AccessibilityUnavailable("the accessibility bus has gone")
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    reply = await connection.call(message)
            except TimeoutError:
                self._watch(name, program, connection)
                raise NotAnswering(name) from None
            except (OSError, EOFError, DBusFastError) as error:
                raise AccessibilityUnavailable(f"the accessibility bus has gone: {error}") from None
        return _result(reply, returns)

    async def get_property(self, name: str, path: str, interface: str, member: str, returns: str) -> Any:
        """Return a property; `returns` is the D-Bus signature that it must have."""
        variant = await self.call(name, path, atspi.PROPERTIES, "Get", "ss", [interface, member], returns=("v",))
        if variant.signature != returns:
            raise CallFailed(f"{member}: unexpected type {variant.signature}")
        return variant.value

    async def set_property(self, name: str, path: str, interface: str, member: str, value: float) -> None:
        """Set a property that is a number."""
        body = [interface, member, Variant("d", value)]
        await self.call(name, path, atspi.PROPERTIES, "Set", "ssv", body)

    async def pid(self, name: str) -> int | None:
        """Return the process behind a bus name, or None when it has gone."""
        where = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        try:
            found: int = await self.call(*where, "GetConnectionUnixProcessID", "s", [name], returns=("u",))
        except CallFailed:
            return None
        return found

    def _watch(self, name: str, program: _Program, connection: MessageBus) -> None:
        """Count the program as silent until it answers again, so that it holds up nobody else and nothing piles up."""
        if not program.silent:
            program.silent = True
            self._tasks.start(_sign_of_life(name, program, connection), f"sign of life of {name}")


async def _sign_of_life(name: str, program: _Program, connection: MessageBus) -> None:
    ping = Message(destination=name, path="/", interface="org.freedesktop.DBus.Peer", member="Ping")
    try:
        await connection.call(ping)  # answered, or refused by the bus when the program ends
    except (OSError, EOFError, DBusFastError):
        return
    program.silent = False


async def _connect(address: str) -> MessageBus:
    connection = MessageBus(bus_address=address)
    await connection.connect()
    return connection


async def _disconnect(connection: MessageBus) -> None:
    """Return when the connection's descriptor is closed."""
    connection.disconnect()
    try:
        await connection.wait_for_disconnect()  # type: ignore[no-untyped-call]
    except (OSError, EOFError, DBusFastError) as error:
        log.debug("connection was lost", extra={"fields": {"error": str(error)}})


async def _accessibility_address(session_address: str) -> str:
    """Return the address of the accessibility bus; tells programs on the way that assistive technology is there."""
    session = await _connect(session_address)
    try:
        reply = await session.call(_about_bus("org.a11y.Bus", "GetAddress"))
        address: str = _result(reply, ("s",))
        enable = ["org.a11y.Status", "IsEnabled", Variant("b", True)]
        await session.call(_about_bus(atspi.PROPERTIES, "Set", "ssv", enable))  # GTK gets by without
    finally:
        await _disconnect(session)
    return address


def _about_bus(interface: str, member: str, signature: str = "", body: list[Any] | None = None) -> Message:
    return Message(
        destination="org.a11y.Bus",
        path="/org/a11y/bus",
        interface=interface,
        member=member,
        signature=signature,
        body=body or [],
    )


def _result(reply: Message | None, returns: tuple[str, ...]) -> Any:
    if reply is None:
        raise AccessibilityUnavailable("the accessibility bus has gone")
    if reply.message_type is MessageType.ERROR:
        name = reply.error_name.value if isinstance(reply.error_name, ErrorType) else reply.error_name
        raise CallFailed(f"{name}: {reply.body[0] if reply.body else ''}")
    if reply.signature not in returns:
        raise CallFailed(f"unexpected answer: {reply.signature!r}")
    return reply.body[0] if reply.body else None

"""The running containers of a driver, and who is told when one ends."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.drivers.base import Death, DriverError
from controlplane.drivers.docker.box import Box
from controlplane.drivers.docker.engine import Engine
from toolbox.errors import BadRequest, ToolboxError

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
_LOOK_SECONDS = 0.01
_LOOKS_BETWEEN_CHECKS = 100
_RECONNECT_SECONDS = 1.0
_NO_USER = "toolboxd: no such user"


class Boxes:
    """Every container that was started and has not ended, by the sandbox's id."""

    def __init__(self) -> None:
        self.death: Death | None = None
        """Told of ends that nobody asked for."""
        self._boxes: dict[str, Box] = {}

    def __contains__(self, sandbox_id: str) -> bool:
        return sandbox_id in self._boxes

    def __iter__(self) -> Iterator[Box]:
        return iter(list(self._boxes.values()))

    def get(self, sandbox_id: str) -> Box | None:
        """Return the container of a sandbox if it runs."""
        return self._boxes.get(sandbox_id)

    def put(self, box: Box) -> None:
        """Watch a container from now on."""
        self._boxes[box.id] = box

    def pop(self, sandbox_id: str) -> Box | None:
        """Watch a container no more, and return it."""
        return self._boxes.pop(sandbox_id, None)

    def forget(self, sandbox_id: str) -> None:
        """Watch a container no more, and let go of it."""
        box = self._boxes.pop(sandbox_id, None)
        if box is not None:
            box.close()

    def close(self) -> None:
        """Let go of all of them; they run on."""
        for box in self:
            self.forget(box.id)

    async def follow(self, engine: Engine, owner: str, sandbox: str) -> None:
        """Notice ends of containers, for ever; after an engine was away, what it did not tell or left half done.

        `owner`: the label (`NAME=value`) of our containers; `sandbox`: the name of the label with their sandbox's id.
        """
        while True:
            try:
                async for event in engine.events(owner):
                    if event is None:
                        for box in self:
                            await self.look(engine, box, thaw=True)
                    elif (ended := self.get(event["Actor"]["Attributes"][sandbox])) is not None:
                        await self.look(engine, ended)
            except DriverError as error:
                log.warning("the container engine is away", extra={"fields": {"reason": error.message}})
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def wait_ready(self, engine: Engine, box: Box) -> None:
        """Return once the daemon of a container that was started answers. Raises `DriverError`, `BadRequest`."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                looks = 0
                while not await box.is_ready():
                    ended, _ = await asyncio.wait([box.ended], timeout=_LOOK_SECONDS)
                    looks += 1
                    if not ended and looks % _LOOKS_BETWEEN_CHECKS == 0:
                        await self.look(engine, box)
                    if box.ended.done():
                        raise await _why_not_ready(engine, box)
        except TimeoutError:
            raise DriverError(f"the sandbox's daemon was not ready within {READY_SECONDS:.0f} s") from None

    async def look(self, engine: Engine, box: Box, *, thaw: bool = False) -> None:
        """See whether a container still runs, and if it does not tell who waits or watches. Raises `DriverError`.

        `thaw`: an engine that died while it copied the container's files has left it frozen.
        """
        found = await engine.inspect(box.name)
        if not box.launched or self.get(box.id) is not box:
            return
        if found is not None and is_running(found):
            if thaw and found["State"].get("Paused") and not box.paused and not box.copying:
                await engine.freeze(box.name, frozen=False)
            return
        reason = f"the sandbox's container ended: {_cause(found)}"
        if not box.ended.done():
            box.ended.set_result(reason)
        if not box.answered:
            return  # whoever starts it sees
        self.forget(box.id)
        if self.death is not None:
            self.death(box.id, reason)


async def _why_not_ready(engine: Engine, box: Box) -> ToolboxError:
    text = await engine.log(box.name, lines=5)
    said = text.splitlines()[-1] if text else box.ended.result()
    if said.startswith(_NO_USER):
        return BadRequest(f"user: {said.removeprefix('toolboxd: ')} in the image")
    return DriverError(f"the sandbox's daemon did not start: {said}")


def is_running(found: Mapping[str, Any]) -> bool:
    """Tell whether a container runs, frozen or not: engines differ in whether a frozen one does."""
    return bool(found["State"]["Running"] or found["State"].get("Paused"))


def _cause(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "it was removed"
    state = found["State"]
    if state.get("OOMKilled"):
        return "out of memory"
    return str(state.get("Error") or f"exit code {state.get('ExitCode')}")

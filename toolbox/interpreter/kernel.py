"""A kernel, whatever its language: a process, and a way to run code in it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolbox.children.process import Children
from toolbox.children.spool import OutputPipe, Spool
from toolbox.errors import Unavailable
from toolbox.interpreter.run import Run

if TYPE_CHECKING:
    from toolbox.interpreter.messaging import Place

START_SECONDS = 60.0
_LOG_BYTES = 64 * 1024
_KILL_GRACE = 0.5
_OUTPUT_GRACE = 0.2


class Kernel(ABC):
    """A kernel that was started. Whoever has it must close it."""

    def __init__(
        self,
        children: Children,
        place: "Place",
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        spool: Path,
    ) -> None:
        """Start the process. Raises `Unavailable`."""
        self._place = place
        self._log = OutputPipe(Spool(spool, _LOG_BYTES))
        try:
            self.child = children.spawn(
                argv,
                cwd=cwd,
                env=env,
                stdout=self._log.write_end,
                stderr=self._log.write_end,
                pass_fds=(place.descriptor, *pass_fds),
                label=f"kernel: {argv[0]}",
            )
        except OSError as error:
            self._log.close()
            raise Unavailable(f"cannot start the kernel {argv[0]}: {error.strerror}") from None
        finally:
            self._log.close_write_end()

    @abstractmethod
    async def ready(self) -> None:
        """Return when it takes requests. Raises `Unavailable` when it has ended, or takes too long."""

    @abstractmethod
    async def execute(self, run: Run, *, cwd: str | None = None, reseed: bool = False) -> bool:
        """Run code, what it says going to `run`, and tell at its end whether it was interrupted.

        `cwd`: the directory of the context that a spare kernel is to serve. `reseed`: with random numbers that no twin
        of the process draws.
        """

    @abstractmethod
    async def interrupt(self) -> None:
        """Interrupt what runs."""

    @abstractmethod
    def resume(self) -> None:
        """Go on taking output: there is room again."""

    async def last_words(self) -> str:
        """Return what the process itself has printed: why it did not start, or crashed."""
        await self._log.finish(_OUTPUT_GRACE)
        return await self._log.spool.text()

    async def close(self) -> None:
        """End the process with all that it has started, and remove what it had."""
        try:
            await self.child.kill_tree(_KILL_GRACE)
        finally:
            self._log.close()
            self._log.spool.close()
            await asyncio.to_thread(self._place.remove)

    async def failure(self) -> Unavailable:
        """Return why it does not take requests."""
        end = self.child.exit
        how = "does not answer" if end is None else end.cause or f"exit code {end.code}"
        words = (await self.last_words()).strip()
        return Unavailable(f"the kernel did not start: {how}" + (f"\n{words}" if words else ""))

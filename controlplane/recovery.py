"""Brings records and daemons together after whatever ended a control plane."""

import logging

from controlplane.drivers.base import Access
from controlplane.models import Record
from controlplane.sandboxes import Sandboxes
from controlplane.states import State
from toolbox.errors import ToolboxError

log = logging.getLogger(__name__)

_ALIVE = frozenset(State) - {State.STOPPED, State.STOPPING, State.ARCHIVED, State.ERROR, State.DESTROYING}
"""States in which a daemon may run that a new control plane takes over."""
_BUILDING = frozenset({State.PENDING_BUILD, State.BUILDING_SNAPSHOT, State.PULLING_SNAPSHOT})


class Recovery:
    """Settles sandboxes that a control plane was at work on when it ended."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._steps = sandboxes.steps
        self._driver = sandboxes.driver

    async def recover(self) -> None:
        """Settle all of them, before anything else is done with one."""
        records = await self._steps.store.everything()
        alive = await self._driver.recover(
            {record.id for record in records if record.state in _ALIVE},
            {record.id for record in records if record.state is State.PAUSED},
        )
        for record in records:
            try:
                await self._settle(record, alive.get(record.id))
            except ToolboxError as error:
                await self._give_up(record.id, error)

    async def _give_up(self, sandbox_id: str, error: ToolboxError) -> None:
        """Leave a sandbox that could not be settled to its owner: it keeps none of the others from being there."""
        log.warning("a sandbox cannot be settled", extra={"fields": {"sandbox": sandbox_id, "reason": error.message}})
        record = await self._steps.store.find(sandbox_id)
        if record is not None and record.state is not State.DESTROYING:
            await self._steps.move(record, State.ERROR, reason=error.message, recoverable=True)

    async def settle(self, record: Record, access: Access | None) -> Record:
        """Finish what a replica that is no more had begun with a sandbox (a step). Raises `ToolboxError`."""
        if record.state in _BUILDING or (record.state is State.CREATING and record.build_info is not None):
            reason = "the control plane that made its image is no more: delete it, and create it again"
            return await self._steps.move(record, State.ERROR, reason=reason)
        if record.state is State.STOPPING or (record.state is State.STARTING and access is None):
            # It may run still, or come up yet.
            await self._driver.stop(record.id, force=False)
        await self._settle(record, access)
        return record

    async def _settle(self, record: Record, access: Access | None) -> None:
        match record.state:
            case State.PAUSED if self._driver.is_running(record.id):
                pass
            case State.CREATING if access is None and record.build_info is not None:
                pass  # its client has known it since before it was built (`DeclaredSandboxes`)
            case State.CREATING | State.DESTROYING if access is None or record.state is State.DESTROYING:
                # The client of a half-made sandbox never learned its id.
                await self._sandboxes.destroy(record)
            case State.STOPPED | State.ERROR | State.ARCHIVED | State.BUILD_FAILED:
                pass
            case State.PENDING_BUILD | State.BUILDING_SNAPSHOT | State.PULLING_SNAPSHOT:
                pass  # builds go on (`DeclaredSandboxes`)
            case State.STARTED if access is not None:
                await self._sandboxes.open(record, access)
                await self._sandboxes.outfit(record)
            case _ if access is not None:
                await self._sandboxes.connect(record, access)
                await self._sandboxes.outfit(record)
            case State.ARCHIVING | State.RESTORING:
                pass  # what is on disk decides (`Copies`)
            case _:
                await self._steps.move(record, State.STOPPED)

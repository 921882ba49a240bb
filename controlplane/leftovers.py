"""What no record owns: found and removed when somebody asks for it."""

from controlplane.archive import Archive
from controlplane.grants import Grants
from controlplane.sandboxes import Sandboxes


class Leftovers:
    """Removes what a crash or a full disk left behind."""

    def __init__(self, sandboxes: Sandboxes, archive: Archive, grants: Grants) -> None:
        self._sandboxes = sandboxes
        self._archive = archive
        self._grants = grants

    async def remove(self, *, really: bool) -> dict[str, list[str]]:
        """Remove, or with `really` false only name, what is left: kind -> ids. Raises `DriverError`."""
        driver = self._sandboxes.driver
        # First what is there, then what is known: what is made meanwhile has a record before it has anything else.
        archived = await self._archive.ids()
        present = await driver.present()
        known = {record.id for record in await self._sandboxes.steps.store.everything()}
        left = {
            "sandboxes": sorted(set(present) - known),
            "archives": sorted(set(archived) - known),
        }
        if really:
            for sandbox_id in left["sandboxes"]:
                await driver.delete(sandbox_id)
            for sandbox_id in left["archives"]:
                await self._archive.forget(sandbox_id)
            await self._grants.forget_expired()
        return left

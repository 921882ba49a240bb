"""Where the files of archived sandboxes are kept: one file each."""

import asyncio
from collections.abc import Collection
from pathlib import Path


class Archive:
    """The archive of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def file(self, sandbox_id: str) -> Path:
        """Return the file of a sandbox."""
        return self._directory / sandbox_id

    async def ids(self) -> list[str]:
        """Return the sandboxes that have a file here."""
        return await asyncio.to_thread(lambda: [entry.name for entry in self._directory.iterdir() if entry.is_file()])

    async def has(self, sandbox_id: str) -> bool:
        """Tell whether the files of a sandbox are here, all of them."""
        return await asyncio.to_thread(self.file(sandbox_id).exists)

    async def keep(self, sandbox_ids: Collection[str]) -> None:
        """Remove the files of all other sandboxes, and what is left of files half written."""

        def remove() -> None:
            for file in self._directory.iterdir():
                if file.name not in sandbox_ids:
                    file.unlink()

        await asyncio.to_thread(remove)

    async def forget(self, sandbox_id: str) -> None:
        """Remove the file of a sandbox, if there is one."""
        await asyncio.to_thread(self.file(sandbox_id).unlink, missing_ok=True)

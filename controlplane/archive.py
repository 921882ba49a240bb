"""Where the files of archived sandboxes are kept: one file each."""

import asyncio
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

    async def forget(self, sandbox_id: str) -> None:
        """Remove the file of a sandbox, if there is one."""
        await asyncio.to_thread(self.file(sandbox_id).unlink, missing_ok=True)

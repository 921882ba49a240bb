"""The directory of recordings: each an MP4 file with what is known of it in a JSON file of the same name.

The files are the truth: what others put there or take away is seen at once. Everything here blocks, and is to run in
a thread that acts as the user whose files these are.
"""

import contextlib
import errno
import os
import re
import uuid
from pathlib import Path

import msgspec
from msgspec import structs

from toolbox.recording import mp4
from toolbox.recording.models import Recording, timestamp

INTERRUPTED = "the daemon ended before the recording did"
_OURS = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_")
_SIDECAR_BYTES = 4096
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Directory:
    """All recordings of a sandbox. Methods raise `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Create the directory where it is missing."""
        self.path.mkdir(parents=True, exist_ok=True)

    def all(self) -> list[Recording]:
        """Return what is there, the latest first."""
        found = [self._describe(name, status) for name, status in self._files()]
        return sorted(found, key=lambda recording: recording.start_time, reverse=True)

    def find(self, recording_id: str) -> Recording | None:
        """Return one, if it is there."""
        for name, status in self._files():
            if self._id(name) == recording_id:
                return self._describe(name, status)
        return None

    def size(self) -> int:
        """Return how many bytes all recordings have."""
        return sum(status.st_size for _, status in self._files())

    def create(self, recording: Recording) -> int:
        """Write down that a recording has begun; return the descriptor of its new file, to be written to."""
        self.describe(recording)
        try:
            return os.open(self.path / recording.file_name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError:
            self._sidecar(recording.file_name).unlink(missing_ok=True)
            raise

    def describe(self, recording: Recording) -> None:
        """Write down what is known of a recording, all of it or nothing."""
        # The directory may be moved as a whole. The blanks are room for what will be known later on a full disk.
        content = msgspec.json.encode(structs.replace(recording, file_path="")).ljust(_SIDECAR_BYTES)
        sidecar = self._sidecar(recording.file_name)
        temporary = sidecar.with_name(f".{sidecar.name}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(sidecar)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if error.errno not in _FULL or not sidecar.exists():
                raise
            with sidecar.open("r+b") as file:
                file.write(content)

    def delete(self, recording: Recording) -> None:
        """Remove a recording."""
        (self.path / recording.file_name).unlink()
        self._sidecar(recording.file_name).unlink(missing_ok=True)

    def recover(self) -> None:
        """Settle what an earlier daemon left unfinished, and remove what it left without a use."""
        if not self.path.is_dir():
            return
        for name, status in self._files():
            known = self._known(name)
            if known is not None and known.status == "recording":
                self._settle_interrupted(known, name, status)
        for sidecar in self.path.glob("*.json"):
            if _OURS.match(sidecar.name) and not sidecar.with_suffix(".mp4").exists():
                sidecar.unlink()
        for temporary in self.path.glob(".*.json.tmp"):
            if _OURS.match(temporary.name[1:]):
                temporary.unlink()

    def _settle_interrupted(self, known: Recording, name: str, status: os.stat_result) -> None:
        with (self.path / name).open("r+b") as file:
            seconds = settle(file.fileno())
        ended = timestamp(status.st_mtime)
        self.describe(
            structs.replace(known, status="failed", reason=INTERRUPTED, end_time=ended, duration_seconds=seconds)
        )

    def _files(self) -> list[tuple[str, os.stat_result]]:
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path) as entries:
            for entry in entries:
                if not entry.name.endswith(".mp4") or entry.name.startswith("."):
                    continue
                with contextlib.suppress(OSError):  # gone meanwhile, or a link that leads nowhere
                    if entry.is_file():
                        found.append((entry.name, entry.stat()))
        return found

    def _describe(self, name: str, status: os.stat_result) -> Recording:
        modified = timestamp(status.st_mtime)
        known = self._known(name) or Recording(
            id="", file_name=name, file_path="", start_time=modified, end_time=modified, status="completed"
        )
        if known.status == "recording":  # and nobody records it, or the caller knows better
            known = structs.replace(known, status="failed", reason=INTERRUPTED, end_time=modified)
        return structs.replace(
            known,
            id=self._id(name),
            file_name=name,
            file_path=str(self.path / name),
            size_bytes=status.st_size,
        )

    def _known(self, name: str) -> Recording | None:
        try:
            return msgspec.json.decode(self._sidecar(name).read_bytes(), type=Recording)
        except (OSError, msgspec.MsgspecError):
            return None

    def _sidecar(self, name: str) -> Path:
        return (self.path / name).with_suffix(".json")

    def _id(self, name: str) -> str:
        """Return the id that a name begins with; that of a foreign file is made from its path, as in the reference."""
        ours = _OURS.match(name)
        return ours[1] if ours else str(uuid.uuid5(uuid.NAMESPACE_URL, str(self.path / name)))


def settle(descriptor: int) -> float:
    """Cut off what is not whole at the end of a recording; return how many seconds are left."""
    extent = mp4.measure(descriptor)
    if 0 < extent.end < os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, extent.end)
    return round(extent.seconds, 3)

"""Events not yet told, what happens to one path told as one; a bounded number of them."""

from toolbox.files.models import FileEvent

MAX_EVENTS = 10_000
"""Events kept for a client that does not fetch them."""
_TOGETHER = {
    ("created", "created"): "created",
    ("created", "modified"): "created",
    ("modified", "modified"): "modified",
    ("modified", "deleted"): "deleted",
    ("deleted", "created"): "modified",
    ("modified", "created"): "modified",
    ("deleted", "deleted"): "deleted",
}
_NOTHING = ("created", "deleted")


class Changes:
    """The events, in the order in which their paths first changed."""

    def __init__(self) -> None:
        self._events: list[FileEvent | None] = []
        self._place: dict[str, int] = {}
        self._overflown = False

    def __bool__(self) -> bool:
        return bool(self._events) or self._overflown

    def take(self) -> list[FileEvent]:
        """Return the events and forget them."""
        found = [event for event in self._events if event is not None]
        if self._overflown:
            found.insert(0, FileEvent(type="overflow", path="", is_dir=True))
        self._events, self._place, self._overflown = [], {}, False
        return found

    def overflow(self) -> None:
        """Drop what there is: too much has happened."""
        self._events, self._place, self._overflown = [], {}, True

    def add(self, kind: str, path: str, *, is_directory: bool) -> None:
        """Take note that something was created, modified or deleted."""
        place = self._place.get(path)
        earlier = self._events[place] if place is not None else None
        if place is None or earlier is None or earlier.is_dir or is_directory:
            self._append(FileEvent(type=kind, path=path, is_dir=is_directory), earlier)
        elif (earlier.type, kind) == _NOTHING:
            self._events[place] = None
            del self._place[path]
        elif (together := _TOGETHER.get((earlier.type, kind))) is not None:
            earlier.type = together
        else:
            self._append(FileEvent(type=kind, path=path, is_dir=is_directory), earlier)

    def move(self, old: str, new: str, *, is_directory: bool) -> None:
        """Take note of a new name; what was created under the old one is created under the new one."""
        place = self._place.pop(old, None)
        earlier = self._events[place] if place is not None else None
        if earlier is None or place is None or earlier.type != "created" or earlier.is_dir or is_directory:
            self._append(FileEvent(type="moved", path=new, is_dir=is_directory, old_path=old), None)
            return
        before = self._place.get(new)
        replaced = self._events[before] if before is not None else None
        if before is not None and replaced is not None and replaced.type == "created":
            self._events[before] = None
        earlier.path = new
        self._place[new] = place

    def _append(self, event: FileEvent, earlier: FileEvent | None) -> None:
        if earlier is not None and earlier.is_dir and event.is_dir and earlier.type == event.type:
            return
        if len(self._events) >= MAX_EVENTS:
            self.overflow()
            return
        self._place[event.path] = len(self._events)
        self._events.append(event)

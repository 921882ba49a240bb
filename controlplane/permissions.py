"""What an API key may do beyond looking, in the published API's words."""

from typing import NamedTuple

from controlplane.callers import Caller
from toolbox.errors import Forbidden

PERMISSIONS = (
    "write:registries", "delete:registries", "write:snapshots", "delete:snapshots", "write:sandboxes",
    "delete:sandboxes", "read:volumes", "write:volumes", "delete:volumes", "write:regions", "delete:regions",
    "read:runners", "write:runners", "delete:runners", "read:audit_logs", "write:secrets", "delete:secrets",
)  # fmt: skip
_THINGS = {
    "sandbox": "sandboxes",
    "warm-pools": "sandboxes",
    "snapshots": "snapshots",
    "object-storage": "snapshots",
    "volumes": "volumes",
    "secret": "secrets",
    "audit": "audit_logs",
}
"""First word of a path under /api -> what permissions call it."""
_GUARDED_TO_READ = frozenset({"volumes", "audit_logs"})
_WORDS_OF_ONE = 2
"""`{thing}/{id}`: deleting deeper than that changes the thing."""


class Act(NamedTuple):
    """What a request is about."""

    thing: str
    verb: str

    @classmethod
    def of(cls, method: str, path: str) -> "Act | None":
        """Return what a call of the API is about; None when no permission is about it."""
        words = path.removeprefix("/api/").strip("/").split("/")
        thing = _THINGS.get(words[0])
        if thing is None:
            return None
        if words[0] == "object-storage":
            return cls(thing, "write")
        if method in ("GET", "HEAD", "OPTIONS"):
            return cls(thing, "read") if thing in _GUARDED_TO_READ else None
        return cls(thing, "delete" if method == "DELETE" and len(words) == _WORDS_OF_ONE else "write")


def check_permitted(caller: Caller, method: str, path: str) -> None:
    """Raise `Forbidden` for a call that the caller's API key is not good for."""
    if caller.permissions is None or not path.startswith("/api/"):
        return
    act = Act.of(method, path)
    if act is not None and f"{act.verb}:{act.thing}" not in caller.permissions:
        raise Forbidden(f"the API key lacks the permission {act.verb}:{act.thing}")

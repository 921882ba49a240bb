"""What an API key may do beyond looking, in the published API's words."""

from typing import NamedTuple

from controlplane.callers import Caller
from controlplane.keys import TOOLBOX_PORT
from controlplane.proxy import PREFIX
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
_OPENS_TOOLBOX = (("signing-key",), ("ports", str(TOOLBOX_PORT), "preview-url"))
"""What comes after `sandbox/{id}` in paths that are read, but give out what the sandbox can be changed by."""
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
        if tuple(words[2:]) in _OPENS_TOOLBOX:
            return cls(thing, "write")
        if method in ("GET", "HEAD", "OPTIONS"):
            return cls(thing, "read") if thing in _GUARDED_TO_READ else None
        return cls(thing, "delete" if method == "DELETE" and len(words) == _WORDS_OF_ONE else "write")


def check_permitted(caller: Caller, method: str, path: str) -> None:
    """Raise `Forbidden` for a call that the caller's API key is not good for."""
    if caller.permissions is None:
        return
    act = Act.of(method, path) if path.startswith("/api/") else None
    if path.startswith(PREFIX):  # whatever is asked of it, a toolbox runs commands and writes files
        act = Act("sandboxes", "write")
    if act is not None and f"{act.verb}:{act.thing}" not in caller.permissions:
        raise Forbidden(f"the API key lacks the permission {act.verb}:{act.thing}")

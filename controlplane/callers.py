"""Who calls, and for which organisation: found at the door, known to everything that is done for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose credential was good."""

    actor_id: str
    """The subject of a JWT, or the user whose API key it is."""
    organization_id: str
    """Whose things they see, and whom what they make belongs to."""
    email: str = ""
    key_name: str | None = None
    """Of the API key; None for a JWT."""
    key_prefix: str = ""
    key_suffix: str = ""
    permissions: frozenset[str] | None = None
    """What an API key may do beyond looking; None: everything."""
    operator: bool = False
    """They run this machine: its own key came."""


_current: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_caller() -> Caller | None:
    """Return who calls; None for what the control plane does by itself, and for guests with a token for one sandbox."""
    return _current.get()


def act_as(caller: Caller | None) -> None:
    """Do the rest of this task, and what it starts, for `caller`."""
    _current.set(caller)


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Do what stands inside for `caller`."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def visible_organization() -> str | None:
    """Return the only organisation whose things are to be found now; None means all.

    The store and the list of daemons ask this: they are the two places that everything is looked up in.
    """
    caller = _current.get()
    return caller.organization_id if caller is not None else None

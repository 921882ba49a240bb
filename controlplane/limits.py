"""How many calls of the API one caller may make in a minute, and how often an address may fail to log in."""

import ipaddress
import time
from collections.abc import Callable, Mapping

from controlplane.callers import Caller
from toolbox.errors import ToolboxError

WINDOW_SECONDS = 60
_THROTTLER = "authenticated"
"""What the published API calls this limit in its headers and in /config."""
FAILURES_PER_MINUTE = 300
_FAILURES_THROTTLER = "failed-auth"
_MOST_ADDRESSES = 4096
_IPV6_PREFIX = 64
"""One customer has at least so much of the address space."""


class TooManyRequests(ToolboxError):
    """The caller has to wait."""

    status = 429
    code = "RATE_LIMITED"


class RateLimit:
    """Counts calls in windows of a minute that begin for all callers at once."""

    def __init__(self, per_minute: int | None, *, clock: Callable[[], float] = time.time) -> None:
        self.per_minute = per_minute or None
        self._clock = clock
        self._window = -1
        self._counts: dict[tuple[str, str, str | None], int] = {}

    def count(self, caller: Caller) -> Mapping[str, str]:
        """Count a call and return the headers that tell what is left. Raises `TooManyRequests`."""
        if self.per_minute is None:
            return {}
        window, past = divmod(self._clock(), WINDOW_SECONDS)
        if window != self._window:
            self._window, self._counts = int(window), {}
        who = (caller.organization_id if not caller.operator else "", caller.actor_id, caller.key_name)
        count = self._counts[who] = self._counts.get(who, 0) + 1
        reset = str(max(1, round(WINDOW_SECONDS - past)))
        headers = {
            f"X-RateLimit-Limit-{_THROTTLER}": str(self.per_minute),
            f"X-RateLimit-Remaining-{_THROTTLER}": str(max(0, self.per_minute - count)),
            f"X-RateLimit-Reset-{_THROTTLER}": reset,
        }
        if count > self.per_minute:
            headers |= {"Retry-After": reset, f"Retry-After-{_THROTTLER}": reset}
            raise TooManyRequests(f"more than {self.per_minute} requests in a minute: wait {reset} s", headers=headers)
        return headers


class FailedLogins:
    """Counts wrong credentials by the address that they come from, in windows of a minute.

    Only what is wrong anyway is refused another way, so a right key is never locked out, whoever shares its address.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._window = -1
        self._counts: dict[str, int] = {}

    def count(self, address: str | None) -> None:
        """Count a failure. Raises `TooManyRequests`."""
        window, past = divmod(self._clock(), WINDOW_SECONDS)
        if window != self._window:
            self._window, self._counts = int(window), {}
        who = _network(address or "")
        if who not in self._counts and len(self._counts) >= _MOST_ADDRESSES:
            who = ""  # all further ones together
        count = self._counts[who] = self._counts.get(who, 0) + 1
        if count > FAILURES_PER_MINUTE:
            reset = str(max(1, round(WINDOW_SECONDS - past)))
            headers = {"Retry-After": reset, f"Retry-After-{_FAILURES_THROTTLER}": reset}
            raise TooManyRequests(f"too many wrong credentials from this address: wait {reset} s", headers=headers)


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a unix socket
        return address
    if found.version == 6 and found.ipv4_mapped is not None:  # noqa: PLR2004 -- the protocol's
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False)) if found.version == 6 else address  # noqa: PLR2004

"""Which life of this process it is: one that goes on from a snapshot of its machine or container begins another.

Its memory is then that of its twins, made of the same snapshot, and what it draws at random would be theirs too.
"""

import os
import random
import ssl
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SEED_BYTES = 64


class Incarnation:
    """Tells lives apart: by the kernel's boot id, and by who says that a new one begins (`/init`).

    What the kernel gives out (`os.urandom`, so tokens and ids too) is its own to renew. Ours are the generators that
    this process has seeded from it: Python's, and OpenSSL's, by which TLS and SSH keys are made.
    """

    def __init__(self) -> None:
        self._boot_id = _boot_id()
        self._number = 0

    @property
    def number(self) -> int:
        """The number of this life."""
        boot_id = _boot_id()
        if boot_id != self._boot_id:
            self._boot_id = boot_id
            self.begin()
        return self._number

    def begin(self) -> None:
        """Begin another."""
        self._number += 1
        random.seed()
        ssl.RAND_add(os.urandom(_SEED_BYTES), float(_SEED_BYTES))


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text()
    except OSError:
        return ""

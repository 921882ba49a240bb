"""Acting on files as another user, in one thread only.

Linux keeps a separate user and group for file access per thread (`setfsuid(2)`): the daemon stays root while the
threads that touch files are bound by the workload user's permissions and create files that belong to that user.
"""

import ctypes
import os
import platform
import pwd
from dataclasses import dataclass
from typing import Self

_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159}
_CURRENT = ctypes.c_uint(0xFFFFFFFF)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user with its groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def of_user(cls, name: str) -> Self:
        """Return the identity of a user of this machine. Raises `KeyError`."""
        entry = pwd.getpwnam(name)
        return cls(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)))

    def assume(self) -> None:
        """Make the calling thread act on files as this user from now on. Raises `OSError`."""
        groups = (ctypes.c_uint * len(self.groups))(*self.groups)
        # The raw call: the C library's own would change the groups of every thread.
        if _libc.syscall(_setgroups_number(), ctypes.c_size_t(len(self.groups)), groups) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        # Both report success by nothing but a second call, which tells what is in force.
        _libc.setfsgid(ctypes.c_uint(self.gid))
        _libc.setfsuid(ctypes.c_uint(self.uid))
        if _libc.setfsgid(_CURRENT) != self.gid or _libc.setfsuid(_CURRENT) != self.uid:
            raise PermissionError(f"file access as user {self.uid} was refused")


def _setgroups_number() -> int:
    try:
        return _SETGROUPS[platform.machine()]
    except KeyError:
        raise OSError(f"file access as another user is not known on {platform.machine()}") from None

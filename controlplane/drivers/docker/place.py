"""Where the docker driver keeps what belongs to a sandbox beside its container."""

import os
import shutil
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from controlplane.keys import store_secret
from controlplane.models import Image
from toolbox.web.auth import Auth

INSIDE = "/run/sandbox-toolbox"
"""Where a sandbox sees its `shared` directory."""


CERTIFICATES = "/run/sandbox-toolbox-certificates"
"""Where a sandbox sees what it trusts when it has secrets."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox's container was made from."""

    image: Image
    own_image: str | None = None
    """An image that only this sandbox has: it goes with it."""


class Place:
    """The directory of one sandbox on this machine. All calls block."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shared = root / "shared"
        """Bound into the container: anything in it may be the sandbox's making."""
        self._token = root / "token"
        self._made = root / "made.json"

    def make(self) -> None:
        """Create the directory, and a token that only this sandbox's daemon accepts. Raises `OSError`."""
        self.root.mkdir(mode=0o700)
        self.shared.mkdir()
        store_secret(self._token, Auth.generate_token())

    def exists(self) -> bool:
        """Tell whether there is anything of the sandbox."""
        return self.root.exists()

    def remember(self, made: Made) -> None:
        """Record what the container is made from. Raises `OSError`."""
        store_secret(self._made, msgspec.json.encode(made).decode())

    def made(self) -> Made | None:
        """Return what the container was made from, None when it was not made. Raises `OSError`."""
        try:
            return msgspec.json.decode(self._made.read_bytes(), type=Made)
        except FileNotFoundError:
            return None

    def prepare(self, variables: Mapping[str, str], *, private: bool) -> None:
        """Write what the daemon reads when it starts, and remove the socket of the one before. Raises `OSError`.

        `private`: the daemon is root in the container, and nobody else there may read or change it.
        """
        # Nobody else of this machine gets past `root`.
        self.shared.chmod(0o755 if private else 0o777)
        (self.shared / "daemon.sock").unlink(missing_ok=True)
        for name, text in (("token", self.token()), ("env.json", msgspec.json.encode(variables).decode())):
            store_secret(self.shared / name, text)
            (self.shared / name).chmod(0o600 if private else 0o644)

    def token(self) -> str:
        """Return the sandbox's token. Raises `OSError`."""
        return self._token.read_text().strip()

    def open_socket(self) -> int | None:
        """Return a descriptor of the daemon's socket, None when there is none (yet). Raises `OSError`.

        It is reached through the descriptor: a path would follow what the sandbox puts there in its place.
        """
        try:
            descriptor = os.open(self.shared / "daemon.sock", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise FileNotFoundError("the sandbox's socket is none")
            with socket.socket(socket.AF_UNIX) as probe:
                # It is there a moment before it is listened to.
                probe.setblocking(False)
                probe.connect(path_of(descriptor))
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def remove(self) -> None:
        """Remove everything. Raises `OSError`."""
        if self.root.exists():
            shutil.rmtree(self.root)


def path_of(descriptor: int) -> str:
    """Return the path by which what a descriptor stands for is reached."""
    return f"/proc/self/fd/{descriptor}"

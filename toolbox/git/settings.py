"""Git's configuration, and the logins that it keeps."""

import re

from toolbox.errors import BadRequest
from toolbox.git.credentials import record, strip
from toolbox.git.native import Native

_URL_KEY = re.compile(r"remote\..*\.(push)?url", re.IGNORECASE | re.DOTALL)
ANYWHERE = "/"
"""Where git runs when no repository is meant: one that is broken must not get in the way."""


async def get(native: Native, key: str, scope: str, directory: str) -> str | None:
    """Return the last value of a setting in one scope, None when it is not set. Raises `BadRequest` for a bad key."""
    args = ("config", "-z", f"--{scope}", "--includes", "--get", "--", key)
    output = await native.run(*args, cwd=directory, accept=(0, 1))
    if output.code != 0:
        if output.errors:  # the same exit code for a key that none can be
            raise BadRequest(output.errors.strip().removeprefix("error: "))
        return None
    value = output.out.decode("utf-8", "replace").removesuffix("\0")
    return strip(value) if _URL_KEY.fullmatch(key) else value


async def put(native: Native, key: str, value: str, scope: str, directory: str) -> None:
    """Give a setting this one value."""
    value = strip(value) if _URL_KEY.fullmatch(key) else value
    await native.run("config", f"--{scope}", "--replace-all", "--", key, value, cwd=directory)


async def keep_login(native: Native, *, protocol: str, host: str, username: str, password: str) -> None:
    """Keep a login for a host in the plaintext store of the user, and have git ask there for that host only."""
    data = record(protocol, host, username, password)
    key = f"credential.{protocol}://{host}.helper"
    found = await native.run("config", "-z", "--global", "--get-all", "--", key, cwd=ANYWHERE, accept=(0, 1))
    if b"store" not in found.out.split(b"\0"):
        await native.run("config", "--global", "--add", "--", key, "store", cwd=ANYWHERE)
    await native.run("credential-store", "store", cwd=ANYWHERE, data=data)

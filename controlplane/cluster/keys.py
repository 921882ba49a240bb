"""The keys that all replicas share: a Secret, made by the first of them or by who installs."""

import base64
import binascii
import secrets
from contextlib import suppress

import msgspec

from controlplane.cluster.api import Cluster
from controlplane.cluster.kinds import SECRET, Held
from controlplane.cluster.names import KEYS, MANAGED
from controlplane.store import Contended
from toolbox.config import ConfigError
from toolbox.errors import Conflict, ToolboxError

_PREFIX = "dtn_"


class SharedKeys(msgspec.Struct, frozen=True, rename="kebab"):
    """What is in it."""

    api_key: str
    sandbox_secret: str
    """What keys of sandboxes are derived from."""
    vault_key: str


async def shared_keys(cluster: Cluster) -> SharedKeys:
    """Return the keys, made where they are missing. Raises `ConfigError`."""
    names = msgspec.structs.fields(SharedKeys)
    made = {each.encode_name: _encoded(_PREFIX + secrets.token_urlsafe(32)) for each in names}
    try:
        held = await _held(cluster, made)
        values = {each.name: base64.b64decode(held.data[each.encode_name]).decode().strip() for each in names}
    except ToolboxError as error:
        raise ConfigError(f"cannot keep the keys in the cluster: {error.message}") from None
    except (KeyError, binascii.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"the Secret {KEYS} is not usable: {error}") from None
    return SharedKeys(**values)


async def _held(cluster: Cluster, made: dict[str, str]) -> Held:
    """Return the Secret, with what was `made` where it lacks something: all replicas get the same."""
    while True:
        try:
            return await cluster.create(SECRET, {"metadata": {"name": KEYS, "labels": MANAGED}, "data": made})
        except Conflict:
            found = await cluster.get(SECRET, KEYS)
        if found is None:
            continue
        lacking = {name: value for name, value in made.items() if not found.data.get(name)}
        if not lacking:
            return found
        with suppress(Contended):  # another replica gives it what it lacks
            seen = {"resourceVersion": found.metadata.resource_version}
            return await cluster.patch(SECRET, KEYS, {"metadata": seen, "data": lacking})


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

"""What our objects are called and labelled."""

import hashlib

DOMAIN = "sandbox-toolbox.dev"
MANAGED = {"app.kubernetes.io/managed-by": "sandbox-toolbox"}
"""Label of every object that the control plane makes."""
OURS = ",".join(f"{name}={value}" for name, value in MANAGED.items())
"""Selector of those."""
SANDBOX_ID = f"{DOMAIN}/sandbox"
STATE = f"{DOMAIN}/state"
NAME = f"{DOMAIN}/name"
KIND = f"{DOMAIN}/kind"
DOCUMENT_ID = f"{DOMAIN}/id"
POOL_ID = f"{DOMAIN}/pool"
"""Labels."""
WORKLOAD = f"{DOMAIN}/workload"
EGRESS = f"{DOMAIN}/egress"
"""Labels of pods; network policies select by them."""
RECORD = f"{DOMAIN}/record"
REVISION = f"{DOMAIN}/revision"
HOLDER = f"{DOMAIN}/holder"
ACTIVE_AT = f"{DOMAIN}/active-at"
"""Annotations of what stands for a sandbox."""
KEYS = "sandbox-toolbox-keys"
LEADER = "sandbox-toolbox-leader"
PORT = 2280
"""Of the daemon in each pod."""


def sandbox_name(sandbox_id: str) -> str:
    """Return what the object of a sandbox is called, and what belongs to it alone."""
    return f"sandbox-{sandbox_id}"


def replica_name(holder: str) -> str:
    """Return what the lease of a replica is called."""
    return f"sandbox-toolbox-replica-{holder}"


def volume_name(volume_id: str) -> str:
    """Return what the claim of a volume is called."""
    return f"volume-{volume_id}"


def digest_name(prefix: str, *words: str) -> str:
    """Return a name made of words that cannot stand in one: equal words, equal name."""
    return f"{prefix}-{hashlib.sha256(chr(0).join(words).encode()).hexdigest()[:40]}"

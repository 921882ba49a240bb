"""Every method of the published SDKs with sandboxes that are pods."""

from pathlib import Path

import pytest

from tests.conftest import ALLOWED_SKIP
from tests.controlplane.every_method import OPTIONS, run
from tests.controlplane.test_images_sdk import can_trust
from tests.kubernetes.cluster import Namespace
from tests.kubernetes.planes import kubernetes_plane
from tests.sdk.every_method import Facts
from tests.sdk.recording import Refusal

pytestmark = pytest.mark.timeout(600)


def cannot(what: str) -> Refusal:
    return Refusal(400, "NOT_SUPPORTED_BY_DRIVER", f"the kubernetes driver cannot {what}")


FORK, SNAPSHOT = cannot("fork sandboxes"), cannot("make snapshots of sandboxes")
PAUSE, ARCHIVE = cannot("pause sandboxes"), cannot("archive sandboxes")
NO_CONTEXTS = cannot("keep build contexts")
REFUSALS = {
    "Daytona.create(image)": NO_CONTEXTS,
    "ObjectStorage": NO_CONTEXTS,
    "Sandbox._experimental_create_snapshot": SNAPSHOT,
    "Sandbox._experimental_fork": FORK,
    "Sandbox.archive": ARCHIVE,
    "Sandbox.create_snapshot": SNAPSHOT,
    "Sandbox.fork": FORK,
    "Sandbox.get_metrics": Refusal(400, "NOT_SUPPORTED_BY_DRIVER", "exported by OTLP"),
    "Sandbox.pause": PAUSE,
    "Sandbox.set_auto_archive_interval": ARCHIVE,
    "Sandbox.set_auto_pause_interval": PAUSE,
    "Sandbox.update_secrets": cannot("use secrets"),
    "SnapshotService.create(Image)": NO_CONTEXTS,
}
TYPESCRIPT_REFUSALS = {"Daytona._experimental_fork": FORK, "Daytona.fork": FORK}


@pytest.mark.parametrize("kind", ["sync", "async", "typescript"])
async def test_every_method(tmp_path: Path, namespace: Namespace, image: str, typescript_sdk: Path, kind: str) -> None:
    if kind != "typescript" and not can_trust():
        pytest.skip(f"{ALLOWED_SKIP}a private mount namespace needs root")
    refusals = REFUSALS | (TYPESCRIPT_REFUSALS if kind == "typescript" else {})
    facts = Facts(image=image, mount="/shared", refusals=refusals, isolation_shows=False)
    async with kubernetes_plane(tmp_path / "state", namespace, **OPTIONS) as plane:
        await run(plane, kind, facts, tmp_path, typescript_sdk)

"""Every method of the published SDKs with sandboxes that are containers."""

from pathlib import Path

import pytest

from tests.conftest import ALLOWED_SKIP
from tests.controlplane.docker.conftest import DEBIAN, Owned, Service, docker_plane
from tests.controlplane.docker.test_wishes import REFUSED
from tests.controlplane.every_method import OPTIONS, run
from tests.controlplane.test_images_sdk import can_trust
from tests.sdk.every_method import Facts
from tests.sdk.recording import Refusal

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

REFUSALS = {
    "Sandbox.update_network_settings(network_allow_list)": Refusal(
        400, "BAD_REQUEST", "networkAllowList: the docker driver cannot do that"
    ),
}
if "secrets" in REFUSED:  # of a create
    REFUSALS["Sandbox.update_secrets"] = Refusal(
        400, "NOT_SUPPORTED_BY_DRIVER", "the docker driver cannot use secrets: it has no egress proxy"
    )


@pytest.mark.parametrize("kind", ["sync", "async", "typescript"])
async def test_every_method(
    tmp_path: Path, service: Service, bundle: Path, owned: Owned, typescript_sdk: Path, kind: str
) -> None:
    if kind != "typescript" and not can_trust():
        pytest.skip(f"{ALLOWED_SKIP}a private mount namespace needs root")
    facts = Facts(image=DEBIAN, mount="/shared", refusals=REFUSALS)
    async with docker_plane(tmp_path / "state", service, bundle, owned, **OPTIONS) as plane:
        await run(plane, kind, facts, tmp_path, typescript_sdk)

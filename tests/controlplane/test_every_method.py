"""Every method of the published SDKs with the process driver."""

from pathlib import Path

import pytest

from controlplane.drivers.cgroups import Cgroups
from tests.conftest import ALLOWED_SKIP
from tests.controlplane.conftest import plane_on
from tests.controlplane.every_method import OPTIONS, run
from tests.controlplane.test_images_sdk import can_trust
from tests.sdk.every_method import Facts
from tests.sdk.recording import Refusal

pytestmark = pytest.mark.timeout(300)

UNSUPPORTED = "NOT_SUPPORTED_BY_DRIVER"
REFUSALS = {
    "Daytona.create(image)": Refusal(400, "BAD_REQUEST", "buildInfo: the process driver cannot do that"),
    "SnapshotService.create": Refusal(400, UNSUPPORTED, "the process driver cannot use images"),
    "SnapshotService.create(Image)": Refusal(400, UNSUPPORTED, "the process driver cannot build images"),
    "Sandbox.update_network_settings": Refusal(400, UNSUPPORTED, "the process driver cannot limit the network"),
    "Sandbox.update_network_settings(network_allow_list)": Refusal(
        400, UNSUPPORTED, "the process driver cannot limit the network"
    ),
}
CGROUPS = Cgroups.find("toolboxd-test")
if not CGROUPS.can_freeze:
    cannot_pause = Refusal(400, UNSUPPORTED, "the process driver cannot pause sandboxes")
    REFUSALS |= {"Sandbox.pause": cannot_pause, "Sandbox.set_auto_pause_interval": cannot_pause}
if not CGROUPS.can_limit:
    REFUSALS["Sandbox.resize"] = Refusal(400, UNSUPPORTED, "the process driver cannot resize sandboxes")


@pytest.mark.parametrize("kind", ["sync", "async", "typescript"])
async def test_every_method(tmp_path: Path, typescript_sdk: Path, kind: str) -> None:
    if kind != "typescript" and not can_trust():
        pytest.skip(f"{ALLOWED_SKIP}a private mount namespace needs root")
    facts = Facts(image="debian:12", mount="~/volume", refusals=REFUSALS)
    async with plane_on(tmp_path / "state", **OPTIONS) as plane:
        await run(plane, kind, facts, tmp_path, typescript_sdk)

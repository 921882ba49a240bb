"""What engines say of themselves, and what is made of it."""

from typing import Any

import pytest

from controlplane.drivers.docker.engine import _machine

LIMITS = {"CpuCfsQuota": True, "MemoryLimit": True, "SwapLimit": True, "PidsLimit": True}
# As they answer.
PODMAN: dict[str, Any] = {"SecurityOptions": ["name=seccomp,profile=default"], "Driver": "overlay", **LIMITS}
DOCKER: dict[str, Any] = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"], "Driver": "overlay2"}


@pytest.mark.parametrize(
    ("info", "rootless", "controlled"),
    [
        ({**PODMAN, "Rootless": False, "CgroupVersion": "1"}, False, True),
        ({**PODMAN, "Rootless": True, "CgroupVersion": "1"}, True, False),
        ({**PODMAN, "Rootless": True, "CgroupVersion": "2"}, True, True),
        ({**DOCKER, "CgroupVersion": "1"}, True, False),
        ({**DOCKER, **LIMITS, "CgroupVersion": "2"}, True, True),
    ],
)
def test_rootless_engine(info: dict[str, Any], *, rootless: bool, controlled: bool) -> None:
    machine = _machine({"Components": []}, info)
    assert machine.rootless is rootless
    found = (machine.limits_cpu, machine.limits_memory, machine.limits_swap, machine.limits_pids, machine.can_freeze)
    assert set(found) == {controlled}

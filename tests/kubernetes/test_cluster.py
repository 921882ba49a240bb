"""A cluster leaves nothing behind, however it ends: one of its own for each test, beside that of all others."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kubernetes.cluster import SCRIPT, Cluster, call_script, eventually

PAUSE = "localhost/toolbox-kubernetes-pause:1"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "claim"},
    "spec": {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "toolbox-test",
        "resources": {"requests": {"storage": "1Gi"}},
    },
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod"},
    "spec": {
        "containers": [
            {
                "name": "pause",
                "image": PAUSE,
                "imagePullPolicy": "Never",
                "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
            }
        ],
        "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": "claim"}}],
    },
}


def machine() -> set[str]:
    """Return the control groups, interfaces and mounts of this machine that are any cluster's."""
    groups = {str(each.parent) for each in Path("/sys/fs/cgroup").glob("*/toolbox-kubernetes-*/cgroup.procs")}
    groups |= {str(each.parent) for each in Path("/sys/fs/cgroup").glob("toolbox-kubernetes-*/cgroup.procs")}
    interfaces = {each.name for each in Path("/sys/class/net").iterdir() if each.name.startswith("toolbox-k8s")}
    mounts = {
        line for line in Path("/proc/mounts").read_text().splitlines() if "kubelet" in line or "containerd" in line
    }
    return groups | interfaces | mounts


def processes(state: Path) -> set[str]:
    """Return the command lines that tell of a state directory: those of all components and shims."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.add((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return {command for command in found if str(state) in command}


@pytest.fixture
def state(cluster: Cluster, tmp_path: Path, reap_orphans: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the state directory of another cluster, with the programs there are."""
    for name in ("bin", "crds", "pause.tar"):
        (tmp_path / name).symlink_to(cluster.kubeconfig.parents[1] / name)
    monkeypatch.setenv("KUBERNETES_STATE", str(tmp_path))
    yield tmp_path
    call_script("down")


def test_it_ends_with_its_owner(state: Path) -> None:
    before = machine()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:  # which ends with the block, at the latest
        cluster = Cluster.start(owner=owner.pid)
        for each in (CLAIM, POD):
            cluster.kubectl("apply", "-f", "-", text=json.dumps(each))
        eventually(lambda: cluster.try_kubectl("wait", "--for=condition=Ready", "pod/pod").returncode == 0)
        assert machine() > before
        owner.kill()
    eventually(lambda: not (state / "run").exists())
    assert machine() == before
    eventually(lambda: not processes(state))


def test_a_start_is_cut_short(state: Path) -> None:
    before = machine()
    with subprocess.Popen([SCRIPT, "up"], stdout=subprocess.DEVNULL) as starting:
        eventually((state / "run/kube-apiserver.pid").exists)
        starting.kill()
    call_script("down")
    assert not (state / "run").exists()
    assert machine() == before
    assert not processes(state)

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


def number_of(state: Path) -> str:
    """Return what a running cluster's things on this machine are called by."""
    return (state / "run/number").read_text().strip()


def traces(state: Path, number: str) -> set[str]:
    """Return what there is of a cluster on this machine: control groups, interfaces, mounts, processes, files."""
    found = {str(each) for each in Path("/sys/fs/cgroup").glob(f"*/toolbox-kubernetes-{number}")}
    found |= {str(each) for each in Path("/sys/fs/cgroup").glob(f"toolbox-kubernetes-{number}")}
    found |= {str(each) for each in Path("/sys/class/net").glob(f"toolbox-k8s-{number}")}
    found |= {str(each) for each in state.glob("run")}
    lines = Path("/proc/mounts").read_text().splitlines()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found | {line for line in lines if str(state) in line}


@pytest.fixture
def state(cluster: Cluster, tmp_path: Path, reap_orphans: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the state directory of another cluster, with the programs there are."""
    for name in ("bin", "crds", "pause.tar"):
        (tmp_path / name).symlink_to(cluster.kubeconfig.parents[1] / name)
    monkeypatch.setenv("KUBERNETES_STATE", str(tmp_path))
    yield tmp_path
    call_script("down")


def test_it_ends_with_its_owner(state: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:  # which ends with the block, at the latest
        cluster = Cluster.start(owner=owner.pid)
        for each in (CLAIM, POD):
            cluster.kubectl("apply", "-f", "-", text=json.dumps(each))
        eventually(lambda: cluster.try_kubectl("wait", "--for=condition=Ready", "pod/pod").returncode == 0)
        number = number_of(state)
        assert {f"/sys/class/net/toolbox-k8s-{number}", str(state / "run")} < traces(state, number)
        owner.kill()
    eventually(lambda: not traces(state, number))


def test_a_start_is_cut_short(state: Path) -> None:
    with subprocess.Popen([SCRIPT, "up"], stdout=subprocess.DEVNULL) as starting:
        eventually((state / "run/kube-apiserver.pid").exists)
        starting.kill()
    number = number_of(state)
    call_script("down")
    assert not traces(state, number)

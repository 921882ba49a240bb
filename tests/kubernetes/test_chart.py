"""The Helm chart in a real cluster: every object accepted; installed, upgraded, uninstalled. No control plane runs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.chart import ROOT, VALUES, Helm, Object, of_kind, pod_specs
from tests.kubernetes.cluster import Cluster, Namespace, eventually
from tests.kubernetes.release import SMALL, Release, restricted_namespace

OTHERS = {"HTTPRoute", "ServiceMonitor"}
"""Kinds whose CRDs this cluster has not."""
EVERYTHING = {"get", "list", "watch", "create", "patch", "delete"}
RIGHTS: dict[tuple[str, str], set[str]] = {
    ("agents.x-k8s.io", "sandboxes"): EVERYTHING,
    ("extensions.agents.x-k8s.io", "sandboxclaims"): EVERYTHING,
    ("extensions.agents.x-k8s.io", "sandboxtemplates"): EVERYTHING - {"get", "patch"},
    ("extensions.agents.x-k8s.io", "sandboxwarmpools"): EVERYTHING - {"get"},
    ("", "pods"): EVERYTHING - {"patch"},
    ("", "pods/log"): {"get"},
    ("", "configmaps"): EVERYTHING,
    ("", "secrets"): EVERYTHING,
    ("", "persistentvolumeclaims"): {"create", "delete"},
    ("networking.k8s.io", "networkpolicies"): {"create", "patch", "delete"},
    ("coordination.k8s.io", "leases"): EVERYTHING | {"update"},
}


@pytest.fixture(scope="module")
def helm() -> Helm:
    return Helm()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """Make a namespace that enforces the restricted profile."""
    with restricted_namespace(cluster, "test-chart") as made:
        yield made


def try_out(namespace: Namespace, text: str) -> list[str]:
    """Let the API server judge objects without making them, and return what it would have done. It warns of nothing."""
    command = ["--namespace", namespace.name, "apply", "--dry-run=server", "-f", "-"]
    done = namespace.cluster.try_kubectl(*command, text=text)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout.splitlines()


def try_out_objects(namespace: Namespace, objects: list[Object]) -> list[str]:
    return try_out(namespace, json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def rights_of(cluster: Cluster, account: str, *, where: str) -> dict[tuple[str, str], set[str]]:
    """Return (group, resource) -> what a service account may do with it in a namespace."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": where}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    words = ("create", "--raw", path, "-f", "-", f"--as=system:serviceaccount:{account}")
    found: dict[tuple[str, str], set[str]] = {}
    for rule in json.loads(cluster.kubectl(*words, text=json.dumps(review)))["status"]["resourceRules"]:
        assert "resourceNames" not in rule
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


@pytest.fixture
def release(helm: Helm, namespace: Namespace, tmp_path: Path) -> Release:
    return Release(helm, namespace, tmp_path / "values.json")


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_api_server_accepts_every_object(helm: Helm, namespace: Namespace, values: Path) -> None:
    objects = helm.render("--values", values, namespace=namespace.name)
    known = [each for each in objects if each["kind"] not in OTHERS]
    assert len(try_out_objects(namespace, known)) == len(known)


def test_the_api_server_accepts_the_plain_manifests(namespace: Namespace) -> None:
    plain = (ROOT / "deploy/kubernetes/sandbox-toolbox.yaml").read_text()
    told = try_out(namespace, plain.replace("namespace: sandbox-toolbox\n", f"namespace: {namespace.name}\n"))
    assert len(told) == plain.count("\nkind: ")
    whole = (
        (ROOT / "deploy/kubernetes/namespace.yaml").read_text().replace("sandbox-toolbox\n", "test-nobody-has-this\n")
    )
    assert try_out(namespace, whole) == ["namespace/test-nobody-has-this created (server dry run)"]


def test_install_upgrade_rollback_uninstall(release: Release, namespace: Namespace, image: str) -> None:
    home = {"storageClass": "toolbox-test", "size": "64Mi"}
    sandbox = {"image": image, "warmPool": 1, "resources": SMALL, "home": home}
    values = {"imagePullPolicy": "Never", "controlPlane": {"replicas": 0}}
    notes = release.make("install", **values, sandbox=sandbox)
    assert f"kubectl -n {namespace.name} get secret sandbox-toolbox-keys" in notes
    keys = release.keys()
    assert keys.keys() == {"api-key", "sandbox-secret", "vault-key"}
    assert len(set(keys.values())) == 3
    ready = "jsonpath={.status.readyReplicas}=1"
    namespace.wait("sandboxwarmpool", release.name, until=ready)
    (first,) = namespace.names("pod")
    assert namespace.get("pvc", f"home-{first}")["spec"]["storageClassName"] == "toolbox-test"

    release.make("upgrade", **values, sandbox={**sandbox, "scratchSize": "1Gi"})
    eventually(lambda: first not in namespace.names("pod"))
    namespace.wait("sandboxwarmpool", release.name, until=ready)
    (second,) = namespace.names("pod")
    volumes = namespace.get("pod", second)["spec"]["volumes"]
    assert {each["emptyDir"]["sizeLimit"] for each in volumes if "emptyDir" in each} == {"1Gi"}
    release("rollback", "1")
    eventually(lambda: second not in namespace.names("pod"))
    assert release.keys() == keys

    release("uninstall")
    kinds = (
        "all,sandboxes,sandboxtemplates,sandboxwarmpools,persistentvolumeclaims,networkpolicies,poddisruptionbudgets"
    )
    eventually(lambda: namespace.names(f"{kinds},roles,rolebindings") == [])
    assert namespace.names("serviceaccounts") == ["default"]
    assert namespace.names("secrets") == ["sandbox-toolbox-keys"]
    release.make("install", **values, sandbox={"warmPool": 0})
    assert release.keys() == keys


def test_the_control_plane_may_do_what_it_needs_and_no_more(release: Release, namespace: Namespace) -> None:
    release.make("install", controlPlane={"replicas": 0})
    ours = f"{namespace.name}:{release.name}"
    anybody = rights_of(namespace.cluster, f"{namespace.name}:default", where=namespace.name)
    found = rights_of(namespace.cluster, ours, where=namespace.name)
    more = {what: verbs - anybody.get(what, set()) for what, verbs in found.items()}
    assert {what: verbs for what, verbs in more.items() if verbs} == RIGHTS
    assert rights_of(namespace.cluster, ours, where="default") == anybody
    # Whatever admission has to say about pods of the installation, it says now.
    pods: list[Object] = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, "spec": spec}
        for number, spec in enumerate(
            pod_specs([namespace.get("deployment", release.name), namespace.get("sandboxtemplate", release.name)])
        )
    ]
    pods[1]["spec"]["volumes"].append({"name": "home", "emptyDir": {}})
    assert try_out_objects(namespace, pods) == [
        "pod/pod-0 created (server dry run)",
        "pod/pod-1 created (server dry run)",
    ]


def test_keys_that_are_there_stay(release: Release, namespace: Namespace) -> None:
    namespace.kubectl("create", "secret", "generic", "sandbox-toolbox-keys", "--from-literal=api-key=mine")
    mine = release.keys()
    for verb in ("install", "upgrade"):
        release.make(verb, controlPlane={"replicas": 0})
        assert release.keys() == mine
    release("uninstall")
    assert release.keys() == mine


def test_kinds_of_others_are_off_and_refused_without_their_crds(helm: Helm, namespace: Namespace) -> None:
    objects = helm.render("--values", ROOT / "tests/deploy/values/everything.yaml", namespace=namespace.name)
    for kind in OTHERS:
        (found,) = of_kind(objects, kind)
        done = namespace.cluster.try_kubectl("apply", "--dry-run=server", "-f", "-", text=json.dumps(found))
        assert f'no matches for kind "{kind}"' in done.stderr
        assert of_kind(helm.render(), kind) == []

"""The Helm chart by itself: what it renders, what it refuses, what is said of it. `tests/kubernetes` installs it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import toolbox
from tests.deploy.chart import CHART, CONTROL_PLANE, ROOT, VALUES, Helm, Object, of_kind, pod_specs
from toolbox.__main__ import _parser

DOCS = (ROOT / "docs/kubernetes.md").read_text()
DEFAULTS: Object = yaml.safe_load((CHART / "values.yaml").read_text())
OPEN = {"resources", "labels", "annotations", "podLabels", "podAnnotations", "nodeSelector", "affinity"}
"""Values with entries of the user's own choice."""


@pytest.fixture(scope="module")
def helm() -> Helm:
    return Helm()


def leaves(values: Object, above: str = "") -> dict[str, Any]:
    """Return the values by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name not in OPEN:
            found |= leaves(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_set_of_values_makes_a_whole_installation(helm: Helm, values: Path) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--values", values)
    objects = helm.render("--values", values)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    assert {each["metadata"]["namespace"] for each in objects} == {"here"}
    assert {each["metadata"]["labels"]["app.kubernetes.io/version"] for each in objects} == {toolbox.__version__}
    kinds = {kind for kind, _ in names}
    assert kinds >= {"Deployment", "Service", "ServiceAccount", "Role", "RoleBinding", "SandboxTemplate"}
    optional = {"Ingress", "HTTPRoute", "ServiceMonitor", "SandboxWarmPool"}
    assert kinds & optional == (optional if values.stem == "everything" else set())
    usual = {"Secret", "NetworkPolicy", "PodDisruptionBudget"}
    assert kinds & usual == (usual if values.stem != "nothing" else set())


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_pods_keep_to_the_restricted_profile(helm: Helm, values: Path) -> None:
    pods = list(pod_specs(helm.render("--values", values)))
    assert len(pods) == 2
    for pod in pods:
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert ("runAsUser" in pod["securityContext"]) == (values.stem != "nothing")
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_a_sandbox_is_what_the_control_plane_expects(helm: Helm) -> None:
    (template,) = of_kind(helm.render(), "SandboxTemplate")
    spec = template["spec"]
    pod, labels = spec["podTemplate"]["spec"], spec["podTemplate"]["metadata"]["labels"]
    assert spec["networkPolicyManagement"] == "Unmanaged"
    assert labels["sandbox-toolbox.dev/workload"] == "sandbox"
    assert labels["sandbox-toolbox.dev/egress"] == "open"
    assert not CONTROL_PLANE.items() <= labels.items(), "a sandbox that counts as the control plane reaches all others"
    assert (pod["automountServiceAccountToken"], pod["restartPolicy"]) == (False, "Never")
    daemon = pod["containers"][0]
    assert daemon["args"] == ["serve"]
    environment = {each["name"]: each["value"] for each in daemon["env"]}
    assert (environment["TOOLBOX_AUTH"], environment["TOOLBOX_HOST"], environment["TOOLBOX_PORT"]) == (
        "init",
        "0.0.0.0",
        "2280",
    )
    assert daemon["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "toolbox"}
    assert "livenessProbe" not in daemon
    mounts = {each["name"]: each["mountPath"] for each in daemon["volumeMounts"]}
    assert mounts["home"] == environment["HOME"] == daemon["workingDir"]
    assert Path(environment["TOOLBOX_STATE_DIR"]).parent == Path(mounts["state"])
    (home,) = spec["volumeClaimTemplates"]
    assert home["metadata"]["name"] == "home"
    (fleeting,) = of_kind(helm.render("--set", "sandbox.home.persistent=false"), "SandboxTemplate")
    assert "volumeClaimTemplates" not in fleeting["spec"]
    volumes = {each["name"]: each for each in fleeting["spec"]["podTemplate"]["spec"]["volumes"]}
    assert volumes["home"] == {"name": "home", "emptyDir": {"sizeLimit": "5Gi"}}


def test_a_replica_is_given_the_time_it_drains(helm: Helm) -> None:
    for seconds in (0, 600):
        (plane,) = of_kind(helm.render("--set", f"controlPlane.drainSeconds={seconds}"), "Deployment")
        pod = plane["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert f"--drain-seconds={seconds}" in container["args"]
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] >= before + seconds + 10
        assert plane["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_control_plane_gets_flags_that_it_knows(helm: Helm) -> None:
    (plane,) = of_kind(helm.render("--values", ROOT / "tests/deploy/values/everything.yaml"), "Deployment")
    (container,) = plane["spec"]["template"]["spec"]["containers"]
    known = _parser().parse_args(container["args"])
    assert (known.command, known.driver, known.host, known.port) == ("up", "kubernetes", "0.0.0.0", "2280")
    assert (known.public_url, known.preview_domain) == ("https://sandboxes.example.com", "previews.example.com")
    assert (known.template, known.drain_seconds, known.rate_limit) == ("boxes", "120", "600")


def test_sandboxes_are_reached_by_the_control_plane_alone(helm: Helm) -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(helm.render(), "NetworkPolicy")}
    all_of_them, open_ones = policies["sandbox-toolbox-sandboxes"], policies["sandbox-toolbox-sandboxes-open"]
    assert all_of_them == {
        "podSelector": {"matchLabels": {"sandbox-toolbox.dev/workload": "sandbox"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": CONTROL_PLANE}}],
                "ports": [{"protocol": "TCP", "port": 2280}],
            }
        ],
    }
    assert open_ones["podSelector"]["matchLabels"]["sandbox-toolbox.dev/egress"] == "open"
    names, elsewhere = open_ones["egress"]
    assert {each["port"] for each in names["ports"]} == {53}
    blocks = {each["ipBlock"]["cidr"]: each["ipBlock"]["except"] for each in elsewhere["to"]}
    assert blocks.keys() == {"0.0.0.0/0", "::/0"}
    excepted = [each for found in blocks.values() for each in found]
    assert sorted(excepted) == sorted(DEFAULTS["networkPolicies"]["clusterCIDRs"])
    assert all((":" in each) == (":" in network) for network, found in blocks.items() for each in found)
    assert policies["sandbox-toolbox-controlplane"]["podSelector"]["matchLabels"] == CONTROL_PLANE


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("controlPlane.replicas=-1", "at '/controlPlane/replicas': minimum: got -1, want 0"),
        ("sandbox.warmpool=3", "at '/sandbox': additional properties 'warmpool' not allowed"),
        ("sandbox.home.size=five", "at '/sandbox/home/size': 'five' does not match pattern"),
        ("sandbox.runAsUser=0", "at '/sandbox/runAsUser': minimum: got 0, want 1"),
        ("sandbox.egress=some", "at '/sandbox/egress': value must be one of 'open', 'closed'"),
        ("controlPlane.publicUrl=sandboxes.example.com", "at '/controlPlane/publicUrl': "),
        ("networkPolicies.clusterCIDRs={10.0.0.0}", "at '/networkPolicies/clusterCIDRs/0': "),
        ("ingress.enabled=true", "ingress.host: the API's host name is missing"),
        ("httpRoute.enabled=true", "httpRoute.parentRefs: the gateway is missing"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(helm: Helm, option: str, message: str) -> None:
    refused = helm.run("template", "sandbox-toolbox", CHART, "--set", option)
    assert refused.returncode != 0
    assert message in refused.stderr


def test_the_plain_manifests_are_those_of_the_chart(helm: Helm, tmp_path: Path) -> None:
    now = tmp_path / "manifest.yaml"
    subprocess.run(["make", "-s", "manifests", f"MANIFEST={now}"], cwd=ROOT, check=True)
    assert now.read_text() == (ROOT / "deploy/kubernetes/sandbox-toolbox.yaml").read_text(), "run `make manifests`"


def test_the_chart_is_of_this_version_and_says_what_it_needs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == toolbox.__version__
    needed = re.search(r"agent-sandbox (v[\d.]+)", chart["annotations"]["sandbox-toolbox.dev/requires"])
    assert needed
    assert f"agent-sandbox {needed[1]}" in DOCS


def test_every_value_is_explained() -> None:
    """In values.yaml by a comment above it, or above the first of a few that belong together; and in the schema."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    for line, before in zip(lines[1:], lines, strict=False):
        if re.match(r"(  )?\w", line):
            belongs = line.startswith("  ") and re.match(r"  \w", before)
            assert before.lstrip().startswith("#") or belongs, f"not explained: {line}"
    schema = json.loads((CHART / "values.schema.json").read_text())
    known: dict[str, Any] = {}
    for name, each in schema["properties"].items():
        known[name] = dict.fromkeys(each["properties"]) if "properties" in each and name != "global" else None
        for inner, deeper in each.get("properties", {}).items():
            if "properties" in deeper:
                known[name][inner] = dict.fromkeys(deeper["properties"])
    assert leaves(known).keys() == leaves(DEFAULTS).keys() | {"global"}


def test_the_page_has_every_value_with_its_default() -> None:
    rows = DOCS.partition("\n## Values\n")[2].partition("\n## ")[0].splitlines()
    cells = [row.strip("|").split(" | ") for row in rows if row.startswith("| `")]
    told = {name: default for names, default, _ in cells for name in re.findall(r"`([^`]+)`", names)}
    known = leaves(DEFAULTS)
    assert told.keys() == known.keys()
    for name, value in known.items():
        if isinstance(value, bool | int):
            assert f"`{str(value).lower()}`" in told[name], name
        elif isinstance(value, str) and value:
            assert f"`{value}`" in told[name], name

"""The Helm chart, installed in the cluster."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.deploy.chart import CHART, Helm
from tests.kubernetes.cluster import Cluster, Namespace

SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
"""Resources of which the one node of tests has many."""


@contextmanager
def restricted_namespace(cluster: Cluster, name: str) -> Iterator[Namespace]:
    """Make a namespace that has nothing in it, and refuses pods that do not keep to the restricted profile."""
    with cluster.namespace(f"{name}-{uuid4().hex[:8]}") as made:
        labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
        cluster.kubectl("label", "namespace", made.name, *labels)
        yield made


class Release:
    """A release of the chart in a namespace."""

    name = "sandbox-toolbox"

    def __init__(self, helm: Helm, namespace: Namespace, values: Path) -> None:
        """`values` is a file that the last given values are written to."""
        self.namespace = namespace
        self._helm, self._values = helm, values
        self._where = ("--namespace", namespace.name, "--kubeconfig", str(namespace.cluster.kubeconfig))

    def __call__(self, verb: str, *options: str) -> str:
        """Run a command of Helm about it."""
        return self._helm(verb, self.name, *options, *self._where)

    def make(self, verb: str, **values: object) -> str:
        """Install or upgrade it with the values, and return the notes."""
        self._values.write_text(json.dumps(values))
        return self._helm(verb, self.name, CHART, "--values", self._values, *self._where)

    def keys(self) -> Any:
        """Return the keys of the installation, in base64."""
        return self.namespace.get("secret", "sandbox-toolbox-keys")["data"]

"""Print a go.mod for programs made of Kubernetes' own modules. Usage: pin_modules.py GO_MOD_OF_KUBERNETES RELEASE.

Kubernetes' go.mod replaces its modules by directories of its repository, which Go takes from no proxy; published they
are with the same release numbers, below 0 in place of 1.
"""

import re
import sys
from pathlib import Path


def pinned(go_mod: str, release: str) -> str:
    """Return a go.mod that requires what `go_mod` does, and every module of Kubernetes in its version of `release`."""
    staged = sorted(set(re.findall(r"^\s*(k8s\.io/[\w.-]+)\s*=>\s*\./staging", go_mod, re.MULTILINE)))
    version = f"v0.{release.partition('.')[2]}"
    required = dict(re.findall(r"^\s+(\S+) (v\S+)", go_mod, re.MULTILINE))
    required |= {"k8s.io/kubernetes": f"v{release}", **dict.fromkeys(staged, version)}
    return "\n".join(
        [
            "module components",
            "go 1.22.0",
            "require (",
            *(f"\t{module} {wanted}" for module, wanted in required.items()),
            ")",
            "replace (",
            *(f"\t{module} => {module} {version}" for module in staged),
            ")",
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(pinned(Path(sys.argv[1]).read_text(), sys.argv[2]))

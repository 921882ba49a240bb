"""An etcd and an API server for the simulation, without controllers and nodes."""

import secrets
import subprocess
import sys
import time
from pathlib import Path

STATE = Path("/var/tmp/toolbox-kubernetes")
ADDRESS = "198.18.255.1"
_READY_SECONDS = 120


class ApiServer:
    """Both, with their data in `home`; the programs and the CRDs are those of tests/engines/kubernetes."""

    def __init__(self, home: Path, state: Path = STATE) -> None:
        self.kubeconfig = home / "kubeconfig"
        self._bin, self._crds, self._home = state / "bin", state / "crds", home
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start them and return once they answer. Raises `RuntimeError`."""
        home, token = self._home, secrets.token_hex(16)
        (home / "tokens").write_text(f"{token},admin,admin,system:masters\n")
        subprocess.run(
            ["openssl", "genrsa", "-out", str(home / "accounts.key"), "2048"], check=True, capture_output=True
        )
        etcd = "http://127.0.0.1:2379"
        self._run("etcd", f"--data-dir={home}/etcd", "--unsafe-no-fsync", "--log-level=error")
        keys = home / "accounts.key"
        self._run(
            "kube-apiserver",
            *(f"--etcd-servers={etcd}", f"--cert-dir={home}/certs", f"--token-auth-file={home}/tokens"),
            *(
                "--bind-address=127.0.0.1",
                f"--advertise-address={ADDRESS}",
                "--secure-port=6443",
                "--authorization-mode=RBAC",
            ),
            *("--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={keys}"),
            *(f"--service-account-signing-key-file={keys}", "--service-cluster-ip-range=10.96.0.0/24"),
            # Nobody makes accounts here, and pods are but records.
            "--disable-admission-plugins=ServiceAccount",
        )
        cluster = '{server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}'
        self.kubeconfig.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: scale\n"
            f"clusters: [{{name: scale, cluster: {cluster}}}]\n"
            f'users: [{{name: admin, user: {{token: "{token}"}}}}]\n'
            "contexts: [{name: scale, context: {cluster: scale, user: admin}}]\n"
        )
        self._until("get", "--raw", "/readyz")
        self.kubectl("apply", "-f", str(self._crds))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl and return what it prints. Raises `RuntimeError`."""
        argv = [str(self._bin / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def memory(self) -> dict[str, int]:
        """Return what each uses, in bytes."""
        return {name: resident(process.pid) for name, process in self._processes.items()}

    def stop(self) -> None:
        """End them."""
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()

    def _run(self, name: str, *arguments: str) -> None:
        with (self._home / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [str(self._bin / name), *arguments], stdout=log, stderr=log, start_new_session=True, cwd=self._home
            )

    def _until(self, *arguments: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                self.kubectl(*arguments)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return


def resident(pid: int) -> int:
    """Return the memory of a process that is in use and not shared, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def spawn(home: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python program of ours, its output in a file."""
    with (home / f"{name}.log").open("ab") as log:
        return subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, start_new_session=True)

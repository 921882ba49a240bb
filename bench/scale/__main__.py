"""Simulates a cluster with thousands of sandboxes and prints what the control plane does with them, as JSON.

`python -m bench.scale [--sandboxes 2000] [--replicas 2] [--kills 5]`, as root: it has a network namespace of its own.
The exit code is 1 when a sandbox was lost, or one was left over.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from bench.scale.apiserver import ADDRESS, ApiServer, resident, spawn
from controlplane.cluster.api import Cluster
from controlplane.cluster.kinds import SANDBOX
from controlplane.cluster.names import MANAGED

_NAMESPACE = "scale"
_INSIDE = "BENCH_SCALE_INSIDE"
_KEY = "dtn_scale"
_READY_SECONDS, _SETTLE_SECONDS = 60.0, 60.0
_TEMPLATE = {
    "apiVersion": "extensions.agents.x-k8s.io/v1beta1",
    "kind": "SandboxTemplate",
    "metadata": {"name": "sandbox-toolbox"},
    "spec": {
        "networkPolicyManagement": "Unmanaged",
        "podTemplate": {"spec": {"containers": [{"name": "toolbox", "image": "none"}]}},
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "home"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
        ],
    },
}


class Replica:
    """One control plane."""

    def __init__(self, home: Path, kubeconfig: Path, number: int) -> None:
        self.base = f"http://127.0.0.1:{4000 + number}/api"
        self._home, self._number = home, number
        self._argv = [
            *("-m", "toolbox", "up", "--driver", "kubernetes", "--kubeconfig", str(kubeconfig)),
            *("--namespace", _NAMESPACE, "--port", str(4000 + number), "--state-dir", str(home / f"state{number}")),
            *("--log-level", "warning"),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self.process = spawn(self._home, f"replica{self._number}", *self._argv)

    def kill(self) -> None:
        """End it as a lost machine would."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Return once it answers."""
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(self.base.replace("/api", "/readyz")) as response:
                        if response.ok:
                            return
                await asyncio.sleep(0.1)


class Simulation:
    """One run."""

    def __init__(self, replicas: list[Replica], session: aiohttp.ClientSession, seed: int) -> None:
        self._replicas = replicas
        self._session = session
        self._random = random.Random(seed)
        self.made: set[str] = set()
        self.deleted: set[str] = set()

    async def call(self, method: str, path: str, replica: Replica | None = None, **options: Any) -> Any:
        """Return what a replica, any if none is given, answers. Raises `aiohttp.ClientError`."""
        chosen = replica or self._random.choice(self._replicas)
        async with self._session.request(method, f"{chosen.base}{path}", **options) as response:
            if not response.ok:
                raise aiohttp.ClientPayloadError(f"{method} {path}: {response.status} {(await response.text())[:200]}")
            return await response.json()

    async def create(self, count: int, at_once: int) -> dict[str, float]:
        """Make sandboxes, each at any replica; return how quick that was."""
        seconds: list[float] = []
        failed: list[str] = []

        async def make(_: int) -> None:
            begun = time.perf_counter()
            try:
                sandbox = await self.call("POST", "/sandbox", json={})
            except (aiohttp.ClientError, TimeoutError) as error:
                failed.append(str(error)[:200])
                return
            self.made.add(sandbox["id"])
            seconds.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        await each(range(count), make, at_once)
        whole = time.perf_counter() - begun
        return {
            "per_s": round(len(seconds) / whole, 1),
            "ms_p50": round(statistics.median(seconds or [0]) * 1000, 1),
            "failed": len(failed),
            "first_failure": failed[0] if failed else "",  # type: ignore[dict-item]
        }

    async def delete(self, count: int, at_once: int) -> dict[str, float]:
        """Delete some of them."""
        chosen = self._random.sample(sorted(self.made - self.deleted), count)

        async def remove(sandbox_id: str) -> None:
            with suppress(aiohttp.ClientError):
                await self.call("DELETE", f"/sandbox/{sandbox_id}")
                self.deleted.add(sandbox_id)

        begun = time.perf_counter()
        await each(chosen, remove, at_once)
        return {"per_s": round(count / (time.perf_counter() - begun), 1)}

    async def listing(self, rounds: int) -> dict[str, float]:
        """Return how long a page of 100 takes, of all and with filters."""
        figures = {}
        for name, query in {
            "page": {"limit": "100"},
            "page_by_name": {"limit": "100", "sort": "name"},
            "page_by_state": {"limit": "100", "states": "started", "sort": "lastActivityAt"},
        }.items():
            seconds = []
            for _ in range(rounds):
                begun = time.perf_counter()
                await self.call("GET", "/sandbox", params=query)
                seconds.append(time.perf_counter() - begun)
            figures[f"{name}_ms_p50"] = round(statistics.median(seconds) * 1000, 1)
            figures[f"{name}_ms_max"] = round(max(seconds) * 1000, 1)
        return figures

    async def lag(self, rounds: int) -> dict[str, float]:
        """Return how long after a change at one replica another one's list shows it."""
        seconds = []
        for number in range(rounds):
            sandbox_id = self._random.choice(sorted(self.made - self.deleted))
            label = {"round": f"r{number}-{self._random.random()}"}
            await self.call("PUT", f"/sandbox/{sandbox_id}/labels", self._replicas[0], json={"labels": label})
            begun = time.perf_counter()
            query = {"labels": json.dumps(label), "limit": "1"}
            while not (await self.call("GET", "/sandbox", self._replicas[-1], params=query))["items"]:
                pass  # every round is a request
            seconds.append(time.perf_counter() - begun)
        return {"ms_p50": round(statistics.median(seconds) * 1000, 1), "ms_max": round(max(seconds) * 1000, 1)}

    async def kill_at_random(self, kills: int) -> None:
        """Kill replicas at random moments and start them again."""
        for _ in range(kills):
            await asyncio.sleep(self._random.uniform(0.5, 3))
            victim = self._random.choice(self._replicas)
            await asyncio.to_thread(victim.kill)
            victim.start()
            await victim.ready(self._session)

    async def everything(self, replica: Replica) -> dict[str, str]:
        """Return the states of all sandboxes that a replica lists."""
        found: dict[str, str] = {}
        cursor = ""
        while True:
            page = await self.call("GET", "/sandbox", replica, params={"limit": "200", "cursor": cursor})
            found |= {item["id"]: item["state"] for item in page["items"]}
            cursor = page.get("nextCursor") or ""
            if not cursor:
                return found


async def each(things: Any, work: Callable[[Any], Awaitable[None]], at_once: int) -> None:
    """Do something with each thing, some of them at once."""
    waiting = iter(things)

    async def worker() -> None:
        for thing in waiting:
            await work(thing)

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def raw_creates(kubeconfig: Path, count: int, at_once: int) -> float:
    """Return how many Sandboxes a second the API server takes from one client: the limit of everything above it."""
    async with Cluster.open(kubeconfig, "default") as cluster:

        async def make(number: int) -> None:
            spec = {"podTemplate": _TEMPLATE["spec"]["podTemplate"]}  # type: ignore[index]
            await cluster.create(SANDBOX, {"metadata": {"name": f"raw-{number}", "labels": MANAGED}, "spec": spec})

        begun = time.perf_counter()
        await each(range(count), make, at_once)
        return round(count / (time.perf_counter() - begun), 1)


async def simulate(home: Path, server: ApiServer, given: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Run it and return the figures, and what was wrong."""
    figures: dict[str, Any] = {"sandboxes": given.sandboxes, "replicas": given.replicas, "cores": os.cpu_count()}
    figures["raw_creates_per_s"] = await raw_creates(server.kubeconfig, 500, 16)
    replicas = [Replica(home, server.kubeconfig, number) for number in range(given.replicas)]
    timeout = aiohttp.ClientTimeout(total=120)
    headers = {"Authorization": f"Bearer {_KEY}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        try:
            for replica in replicas:
                replica.start()
            await asyncio.gather(*(replica.ready(session) for replica in replicas))
            figures["replica_mb_empty"] = _megabytes(replicas)
            simulation = Simulation(replicas, session, given.seed)
            figures["create"] = await simulation.create(given.sandboxes, given.at_once)
            figures["list"] = await simulation.listing(20)
            figures["watch_lag"] = await simulation.lag(20)
            figures["replica_mb"] = _megabytes(replicas)
            figures["server_mb"] = {name: round(size / 1e6, 1) for name, size in server.memory().items()}
            figures["delete"] = await simulation.delete(given.sandboxes // 10, given.at_once)
            _, figures["create_under_kills"] = await asyncio.gather(
                simulation.kill_at_random(given.kills), simulation.create(given.sandboxes // 4, given.at_once)
            )
            wrong, figures["settled_s"] = await settled(simulation, replicas, server)
        finally:
            for replica in replicas:
                replica.kill()
    return figures, wrong


async def settled(simulation: Simulation, replicas: list[Replica], server: ApiServer) -> tuple[list[str], float]:
    """Wait until all replicas agree, and nothing is lost or half done; return what is wrong if that does not come."""
    begun, wrong = time.perf_counter(), ["nothing was looked at"]
    while wrong and time.perf_counter() - begun < _SETTLE_SECONDS:
        await asyncio.sleep(0.5)
        lists = [await simulation.everything(replica) for replica in replicas]
        names = server.kubectl("get", "sandboxes", "-n", _NAMESPACE, "-o", "name").split()
        wrong = []
        lost = simulation.made - simulation.deleted - set(lists[0])
        if lost:
            wrong.append(f"lost: {sorted(lost)[:5]} of {len(lost)}")
        if any(each != lists[0] for each in lists):
            wrong.append("replicas disagree")
        if undead := simulation.deleted & set(lists[0]):
            wrong.append(f"deleted, and there again: {sorted(undead)[:5]}")
        if transient := set(lists[0].values()) - {"started"}:
            wrong.append(f"states: {transient}")
        if len(names) != len(lists[0]):
            wrong.append(f"{len(names)} objects for {len(lists[0])} sandboxes")
    return wrong, round(time.perf_counter() - begun, 1)


def _megabytes(replicas: list[Replica]) -> list[float]:
    return [round(resident(each.process.pid) / 1e6, 1) for each in replicas if each.process is not None]


def main() -> int:
    """Run it in a network namespace of its own and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--sandboxes", type=int, default=2000)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        argv = [sys.executable, "-m", "bench.scale", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", *argv])
    # An API server wants an address that is not of loopback.
    for command in ("link set lo up", f"address add {ADDRESS}/32 dev lo"):
        subprocess.run(["ip", *command.split()], check=True)
    os.environ["TOOLBOX_TOKEN"] = _KEY
    with tempfile.TemporaryDirectory(prefix="scale-") as directory:
        home = Path(directory)
        server = ApiServer(home)
        try:
            server.start()
            server.kubectl("create", "namespace", _NAMESPACE)
            server.kubectl("apply", "-n", _NAMESPACE, "-f", "-", text=json.dumps(_TEMPLATE))
            pods = spawn(home, "pods", "-m", "bench.scale.pods", str(server.kubeconfig), _NAMESPACE)
            figures, wrong = asyncio.run(simulate(home, server, given))
            pods.kill()
        finally:
            server.stop()
            for log in home.glob("*.log"):
                if given.sandboxes and (text := log.read_text()[-2000:]) and log.stem not in ("kube-apiserver", "etcd"):
                    sys.stderr.write(f"== {log.name}\n{text}\n")
    figures["wrong"] = wrong
    print(json.dumps(figures, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

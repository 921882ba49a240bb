"""The stress suite: `python -m stress [--part] [--report DIRECTORY]`; exit code 1 when a budget is not held.

`--part` is what CI runs: two minutes, where the noise of the machine decides about times, so those are only printed
unless they are grossly wrong.
"""

import argparse
import asyncio
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec
from daytona import CreateSandboxFromSnapshotParams, Daytona, DaytonaConfig

from stress.consumers import stuck_consumers
from stress.health import Health
from stress.load import Job, Outcome
from stress.operations import BACKGROUND, pixels
from stress.report import Budget, Report
from stress.server import Server, until
from stress.storms import storms

_SANDBOXES = 2
_CLIENTS = (True, False)
"""For each sandbox a process of the async SDK and one of the sync SDK."""
_USERS = 3
_SETTLE_SECONDS = 30
_TRIM_SECONDS = 12
"""Within these an idle toolboxd has given back what it can (`toolbox.heap`)."""
_FLAT_PERCENT = 2
MIB = 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    operations: int
    load_seconds: float
    warm_operations: int
    """In each round."""
    warm_rounds: int
    """At most: the server is warm when a round has left it no larger than the one before."""
    stuck_seconds: float
    storms: int = 200
    strict: bool = True
    """Times, and the memory of a server that is warm, are binding."""


WHOLE = Plan(operations=100_000, load_seconds=660, warm_operations=20_000, warm_rounds=6, stuck_seconds=40)
PART = Plan(operations=100_000, load_seconds=45, warm_operations=15_000, warm_rounds=1, stuck_seconds=12, strict=False)


class Suite:
    """One run against one server."""

    def __init__(self, server: Server, plan: Plan, report: Report, seed: int) -> None:
        self._server = server
        self._plan = plan
        self._report = report
        self._seed = seed
        self._daytona = Daytona(DaytonaConfig(api_url=server.api_url, api_key=server.api_key, target="local"))

    def run(self) -> None:
        """Go through all phases."""
        with _phase("create sandboxes"):
            sandboxes = [self._daytona.create(CreateSandboxFromSnapshotParams()) for _ in range(_SANDBOXES)]
            for sandbox in sandboxes:
                sandbox.computer_use.start()
                sandbox.process.exec(BACKGROUND)
            screen = pixels(sandboxes[0].computer_use.screenshot.take_full_screen())
        ids = [sandbox.id for sandbox in sandboxes]
        with _phase("warm up"):
            memory = self._warm_up(ids, screen)
        programs = self._server.programs()
        with _phase("mixed load"):
            self._measured_load(ids, screen)
        with _phase("memory after the load"):
            self._memory_is_back(memory)
        with _phase("clients that do not read"):
            peak = asyncio.run(stuck_consumers(self._server, ids[0], self._plan.stuck_seconds))
            self._report.add(Budget("memory for slow consumers", peak.growth / MIB, "MiB more", 64))
        self._settle()
        with _phase("reconnect storms"):
            self._storms(ids[0])
        with _phase("processes left behind"):
            self._no_processes_are_left(programs)
        with _phase("delete sandboxes"):
            for sandbox in sandboxes:
                sandbox.delete(wait=True)

    def _warm_up(self, ids: list[str], screen: str) -> dict[str, int]:
        """Let the clients work until memory has stopped growing, and return the last of it, by process."""
        curve: list[dict[str, int]] = []
        for _ in range(self._plan.warm_rounds):
            self._load(ids, screen, self._plan.load_seconds, self._plan.warm_operations)
            self._settle()
            time.sleep(_TRIM_SECONDS)
            curve.append(self._server.memory())
            if len(curve) > 1 and _growth(curve[-2], curve[-1]) <= _FLAT_PERCENT:
                break
        self._report.details["memory in MiB, warm-up"] = {
            name: [round(each[name] / MIB, 1) for each in curve] for name in curve[0]
        }
        return curve[-1]

    def _load(self, ids: list[str], screen: str, seconds: float, operations: int) -> Counter[str]:
        """Let the clients work, and return how often they did what."""
        count = len(ids) * len(_CLIENTS)
        clients = []
        for number in range(count):
            job = Job(
                sandbox=ids[number % len(ids)],
                screen=screen,
                seed=self._seed + number,
                users=_USERS,
                # One that is quick does more of it: together they stop by the time, or when each has done its share.
                operations=operations // count,
                seconds=seconds,
                is_async=_CLIENTS[number // len(ids)],
            )
            argv = [sys.executable, "-m", "stress.load", msgspec.json.encode(job).decode()]
            environ = self._server.client_environ
            clients.append(subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        done: Counter[str] = Counter()
        for client in clients:
            out, errors = client.communicate()
            if client.returncode != 0:
                self._report.wrong.append(f"a client failed: {errors.decode()[-3000:]}")
                continue
            outcome = msgspec.json.decode(out, type=Outcome)
            done += outcome.done
            self._report.wrong += outcome.wrong
        return done

    def _measured_load(self, ids: list[str], screen: str) -> None:
        plan, started, wrong = self._plan, time.monotonic(), len(self._report.wrong)
        with Health(self._server.client, lambda: self._server.client(ids[0])) as health:
            done = self._load(ids, screen, plan.load_seconds, plan.operations)
        seconds = time.monotonic() - started
        self._report.details |= {"operations": dict(done), "load": f"{seconds:.0f} s, {done.total() / seconds:.0f}/s"}
        add, strict = self._report.add, plan.strict
        add(Budget("operations checked", done.total(), "", plan.operations, at_least=True, binding=False))
        add(Budget("wrong or failed", len(self._report.wrong) - wrong, "", 0))
        add(Budget("/healthz failed", len(health.failures), f"of {len(health.seconds)}", 0))
        for share, limit in ((0.5, 50), (0.95, 50), (0.99, 150)):
            figure = health.quantile(share) * 1000
            add(Budget(f"/healthz p{share * 100:.0f}", figure, "ms", limit, binding=strict))
        add(Budget("/healthz p95 grossly wrong", health.quantile(0.95) * 1000, "ms", 1000))

    def _settle(self) -> None:
        """Wait until the clients' processes have gone (zombies of orphans wait for a look of the reaper)."""
        until("no zombies", _SETTLE_SECONDS, lambda: not self._server.programs()["zombie"])

    def _memory_is_back(self, before: dict[str, int]) -> None:
        def growth() -> float:
            return _growth(before, self._server.memory())

        until("memory is back", _SETTLE_SECONDS, lambda: growth() <= 10)  # noqa: PLR2004
        self._report.details["memory in MiB"] = {
            name: [round(size / MIB, 1), round(self._server.memory()[name] / MIB, 1)] for name, size in before.items()
        }
        self._report.add(Budget("memory after the load", growth(), "% more", 10, binding=self._plan.strict))
        self._report.add(Budget("memory after the load, grossly wrong", growth(), "% more", 50))

    def _storms(self, sandbox: str) -> None:
        before = self._server.descriptors()
        asyncio.run(storms(self._server, sandbox, self._plan.storms, Random(self._seed)))

        def growth() -> int:
            after = self._server.descriptors()
            return max(after[name] - before[name] for name in before)

        until("descriptors are closed", _SETTLE_SECONDS, lambda: growth() <= 0)
        self._report.add(Budget(f"descriptors after {self._plan.storms} storms", growth(), "more", 16))

    def _no_processes_are_left(self, before: Counter[str]) -> None:
        until("processes have ended", _SETTLE_SECONDS, lambda: not self._server.programs() - before)
        left = self._server.programs() - before
        if left:
            self._report.wrong.append(f"processes left: {dict(left)}: {self._server.processes()}")
        self._report.add(Budget("zombies and orphans", left.total(), "", 0))


def _growth(before: dict[str, int], after: dict[str, int]) -> float:
    """Return by how many percent the process has grown that has grown most."""
    return max((after[name] / before[name] - 1) * 100 for name in before)


@contextmanager
def _phase(name: str) -> Iterator[None]:
    started = time.monotonic()
    print(f"-- {name}", flush=True)
    yield
    print(f"   {time.monotonic() - started:.1f} s", flush=True)


def main() -> int:
    """Run the suite and return the exit code."""
    parser = argparse.ArgumentParser(prog="stress", description=__doc__)
    parser.add_argument("--part", action="store_true", help="two minutes of it")
    parser.add_argument("--report", type=Path, default=Path("build/stress"), help="where the report goes")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="repeats what clients do")
    options = parser.parse_args()
    report = Report()
    report.details["seed"] = options.seed
    with tempfile.TemporaryDirectory(prefix="stress-") as home:
        server = Server(Path(home))
        try:
            Suite(server, PART if options.part else WHOLE, report, options.seed).run()
        finally:
            report.wrong += server.stop()
            report.write(options.report)
    for failure in report.failures:
        print(f"FAILED {failure}", flush=True)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""The control plane killed at any moment: no sandbox is lost or leaked, nothing stays that no record owns."""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from controlplane.drivers.cgroups import Cgroups
from controlplane.drivers.place import Places

pytestmark = pytest.mark.usefixtures("reap_orphans")
LASTING = {"started", "stopped", "paused", "archived"}
MOMENTS = st.sampled_from([0.0, 0.01, 0.03, 0.1, 0.3, 0.6])
"""Seconds from an operation's beginning to the kill: for each of them any outcome must be sound."""
Answer = tuple[int, Any]


class Server:
    """`toolboxd up` as a process, and calls of its API."""

    def __init__(self, home: Path, options: Sequence[str] = ()) -> None:
        self.home, self.state, self.options = home, home / "state", options
        self.start()

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "toolbox", "up", "--port", "0", "--state-dir", str(self.state), *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"HOME": str(self.home), "TOOLBOX_SHELL": "/bin/bash"},
            text=True,
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline().strip().partition("=")[2] for _ in range(2)]
        self.port, self.key = int(lines[0].removesuffix("/api").rpartition(":")[2]), lines[1]

    def end(self, *, kill: bool) -> None:
        self.process.kill() if kill else self.process.terminate()
        code = self.process.wait(60)
        assert kill or code == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def call_and_kill(self, moment: float, method: str, path: str, body: Any = None) -> Answer | None:
        """Kill the server while it works on a call, start it again, and return the answer if there was one."""
        answers: list[Answer] = []

        def call() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                answers.append(self.call(method, path, body))

        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(moment)
        self.end(kill=True)
        thread.join()
        self.start()
        return answers[0] if answers else None

    def settled(self) -> dict[str, Any]:
        """Return all sandboxes by name, once none is in a state that does not last."""
        deadline = time.monotonic() + 60
        while True:
            _, page = self.call("GET", "/api/sandbox")
            found = {each["name"]: each for each in page["items"]}
            if {each["state"] for each in found.values()} <= LASTING:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def documents(self, kind: str) -> list[Any]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.state}/controlplane/sandboxes.sqlite?mode=ro", uri=True)
        ) as db:
            rows = db.execute("SELECT document FROM document WHERE kind = ?", (kind,)).fetchall()
        return [json.loads(row[0]) for row in rows]


def running(state: Path) -> set[str]:
    """Return the ids of the sandboxes of which something runs."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.fsencode(state / "controlplane/sandboxes") in (
                environ := (entry / "environ").read_bytes()
            ):
                found |= {
                    each.partition(b"=")[2].decode()
                    for each in environ.split(b"\0")
                    if each.startswith(b"DAYTONA_SANDBOX_ID=")
                }
    return found


class Crashes(RuleBasedStateMachine):
    """Operations on sandboxes and volumes, any of which may be cut short by the end of the control plane."""

    directory: Path
    options: Sequence[str] = ()

    @initialize()
    def begin(self) -> None:
        self.number = 0
        home = self.directory / f"run-{time.monotonic_ns()}"
        home.mkdir()
        self.prepare(home / "state/controlplane")
        self.server = Server(home, self.options)
        self.contents: dict[str, str] = {}
        """Sandboxes that must be there: name -> what is in their file."""
        self.snapshots: dict[str, str] = {}

    def next(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number}"

    def execute(self, name: str, command: str) -> str:
        sandbox = self.server.call("GET", f"/api/sandbox/{name}")[1]
        if sandbox["state"] != "started":
            status, answer = self.server.call("POST", f"/api/sandbox/{name}/start")
            assert status == 200, answer
        path = f"/toolbox/{sandbox['id']}/process/execute"
        status, answer = self.server.call("POST", path, {"command": command})
        assert (status, answer["exitCode"]) == (200, 0), answer
        return str(answer["result"])

    def write(self, name: str) -> None:
        self.contents[name] = f"content {self.next('')}"
        self.execute(name, f"echo '{self.contents[name]}' > file; dd if=/dev/zero of=big bs=1M count=8 2>/dev/null")

    @rule()
    def create(self) -> None:
        name = self.next("box")
        assert self.server.call("POST", "/api/sandbox", {"name": name, "autoStopInterval": 0})[0] == 200
        self.write(name)

    @rule(moment=MOMENTS)
    def create_and_kill(self, moment: float) -> None:
        name = self.next("half")
        self.server.call_and_kill(moment, "POST", "/api/sandbox", {"name": name})
        if name in self.server.settled():
            self.write(name)

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), verb=st.sampled_from(["stop", "start", "archive"]), moment=MOMENTS, kill=st.booleans())
    def move(self, data: st.DataObject, verb: str, moment: float, *, kill: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.contents)))
        if verb == "archive":
            self.server.call("POST", f"/api/sandbox/{name}/stop")
        path = f"/api/sandbox/{name}/{verb}"
        if kill:
            self.server.call_and_kill(moment, "POST", path)
        else:
            self.server.call("POST", path)

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), moment=MOMENTS)
    def snapshot_and_kill(self, data: st.DataObject, moment: float) -> None:
        name, shot = data.draw(st.sampled_from(sorted(self.contents))), self.next("shot")
        answer = self.server.call_and_kill(moment, "POST", f"/api/sandbox/{name}/snapshot", {"name": shot})
        known = {each["name"] for each in self.server.documents("snapshot")}
        assert shot in known or answer is None or answer[0] != 200
        if shot in known:
            self.snapshots[shot] = self.contents[name]

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def create_from_snapshot(self, data: st.DataObject) -> None:
        shot, name = data.draw(st.sampled_from(sorted(self.snapshots))), self.next("copy")
        status, answer = self.server.call("POST", "/api/sandbox", {"name": name, "snapshot": shot})
        assert status == 200, answer
        self.contents[name] = self.snapshots[shot]

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), moment=MOMENTS)
    def fork_and_kill(self, data: st.DataObject, moment: float) -> None:
        name, fork = data.draw(st.sampled_from(sorted(self.contents))), self.next("fork")
        self.server.call_and_kill(moment, "POST", f"/api/sandbox/{name}/fork", {"name": fork})
        if fork in self.server.settled():
            self.contents[fork] = self.contents[name]

    @precondition(lambda self: self.contents)
    @rule(data=st.data(), moment=MOMENTS)
    def delete_and_kill(self, data: st.DataObject, moment: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.contents)))
        self.server.call_and_kill(moment, "DELETE", f"/api/sandbox/{name}")
        if name not in self.server.settled():
            del self.contents[name]

    @rule(moment=MOMENTS)
    def make_volume_and_kill(self, moment: float) -> None:
        self.server.call_and_kill(moment, "POST", "/api/volumes", {"name": self.next("volume")})

    @invariant()
    def nothing_is_lost_or_leaked(self) -> None:
        if not hasattr(self, "server"):
            return
        found = self.server.settled()
        assert found.keys() == self.contents.keys()
        state = self.server.state / "controlplane"
        ids = {each["id"]: each["state"] for each in found.values()}
        archived = {each for each, where in ids.items() if where == "archived"}
        assert {each.name for each in (state / "archive").iterdir()} == archived
        alive = {each for each, where in ids.items() if where in ("started", "paused")}
        names = {}
        for kind in ("volume", "snapshot"):
            known = self.server.documents(kind)
            assert all(each.get("state", "active") in ("active", "ready") for each in known)
            names[kind] = {each["id"] for each in known if not each.get("general")}
        self.check_driver(state, ids.keys() - archived, alive, names)

    def prepare(self, state: Path) -> None:
        """Get ready for a control plane's directory."""

    def check_driver(
        self, state: Path, there: AbstractSet[str], alive: AbstractSet[str], names: Mapping[str, AbstractSet[str]]
    ) -> None:
        """Check that the sandboxes, which of them run, and the volumes and snapshots (`names`) are what is known."""
        assert {each.name for each in (state / "sandboxes").iterdir()} == there
        assert running(self.server.state) == alive
        assert {each.parent.name for each in (state / "sandboxes").glob("*/daemon.json")} == alive
        for kind, directory in (("volume", "volumes"), ("snapshot", "images")):
            left = {each.name.removeprefix("snapshot-").removesuffix(".tar") for each in (state / directory).iterdir()}
            assert left == names[kind]

    def check_end(self) -> None:
        """Check that nothing runs without its control plane."""
        assert running(self.server.state) == set()
        cgroups = Cgroups.find(Places(self.server.state / "controlplane").name)
        groups = [group for each in cgroups._directories for group in each.glob(f"{cgroups._prefix}*")]
        assert groups == []

    def teardown(self) -> None:
        if not hasattr(self, "server"):
            return
        try:
            for name, content in self.contents.items():
                assert self.execute(name, "cat file") == f"{content}\n"
        finally:
            self.server.end(kill=False)
        self.check_end()


def run_machine(machine: type[Crashes], *, examples: int, steps: int) -> None:
    """Run the machine: the same operations every time."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            # What a failure depends on is the moment of the kill, so shrinking does not find less.
            phases=(Phase.generate,),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(400)  # many starts of a server, one after the other
def test_crashes(tmp_path: Path, processes_of: Callable[[Path], list[int]]) -> None:
    class Here(Crashes):
        directory = tmp_path

    try:
        run_machine(Here, examples=4, steps=10)
    finally:
        # Of a run that failed: a server that does not come back ends nothing.
        for pid in processes_of(tmp_path):
            os.kill(pid, signal.SIGKILL)

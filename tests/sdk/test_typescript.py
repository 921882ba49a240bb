"""The published TypeScript SDK, unmodified, in Node."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.computeruse.programs import WINDOWS
from tests.git.http_server import PASSWORD, USERNAME, GitServer
from tests.sdk.conftest import Server

BIN = Path(sys.executable).parent


SCRIPTS: dict[str, dict[str, str]] = {
    "journey": {},
    "fs": {},
    "pty": {},
    "session": {},
    "git": {},
    "lsp": {},
    "code_run": {},
    "code_run_old": {},
    "interpreter": {},
    "computer_use": {},
    "screenshots": {},
    "input": {},
    "accessibility": {},
    "recordings": {},
    "windows": {"WINDOW_PROGRAM": shlex.join([sys.executable, str(WINDOWS)])},
    "desktop": {},
    "fetch-deno": {"RUNTIME": "deno"},
    "fetch-serverless": {"RUNTIME": "serverless", "VERCEL": "1"},
}
"""Name of a script, perhaps with what it does `-` after it -> further variables."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(
    typescript_sdk: Path,
    server: Server,
    git_server: GitServer,
    git_remote: str,
    path_with_node: str,
    name: str,
    tmp_path: Path,
) -> None:
    script, more = name.partition("-")[0], SCRIPTS[name]
    git = {
        "GIT_SERVER": git_server.url(""),
        "GIT_REMOTE": git_remote,
        "GIT_USERNAME": USERNAME,
        "GIT_PASSWORD": PASSWORD,
    }
    done = subprocess.run(
        [BIN / "node", typescript_sdk / f"{script}.mjs"],
        # The SDK looks for `.env` in the working directory.
        cwd=tmp_path,
        env=server.environ | more | git | {"TMPDIR": str(tmp_path), "SANDBOX_PATH": path_with_node},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert not summary["failed"], "\n\n".join(f"{name}: {trace}" for name, trace in summary["failed"].items())
    assert done.returncode == 0, done.stderr
    assert len(summary["passed"]) >= 4
    assert list(tmp_path.iterdir()) == []

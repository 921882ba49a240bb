"""Runs the scenarios that call every method of the published SDKs against a control plane."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from tests.controlplane.conftest import Plane
from tests.controlplane.test_images_sdk import NODE, trusting
from tests.sdk.every_method import Facts

ROOT = Path(__file__).parents[2]
OPTIONS = {"storage_port": "0", "ssh_port": "0"}
"""Options of a control plane that has all that the SDKs ask for."""


async def run(plane: Plane, kind: str, facts: Facts, directory: Path, typescript_sdk: Path) -> None:
    """Run the scenario of an SDK (`sync`, `async` or `typescript`); no method must be left out."""
    ca = plane.state_dir / "controlplane/ca/ca.pem"
    work, description = directory / "client", directory / "facts.json"
    work.mkdir()
    description.write_bytes(msgspec.json.encode(facts))
    command = (
        [NODE, typescript_sdk / "every_method.mjs", description]
        if kind == "typescript"
        else [
            *trusting(ca, directory / "store.pem"),
            *(sys.executable, "-W", "error::ResourceWarning", "-m", "tests.sdk.every_method", kind, description),
        ]
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=work,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))},
            "DAYTONA_API_URL": plane.api_url,
            "DAYTONA_API_KEY": plane.api_key,
            "NODE_EXTRA_CA_CERTS": str(ca),
            "PYTHONPATH": str(ROOT),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, output.decode() + errors.decode()

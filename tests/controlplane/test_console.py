"""`toolboxd ps | logs | stop | gc` as processes, against a running control plane."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.controlplane.conftest import Plane, plane_on


@pytest.fixture
async def plane(tmp_path: Path, environ: None) -> AsyncIterator[Plane]:
    async with plane_on(tmp_path / "state") as found:
        yield found


async def toolboxd(state_dir: Path, *argv: str, expect: int = 0, env: dict[str, str] | None = None) -> tuple[str, str]:
    """Run a command and return what it prints on stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "toolbox", *argv),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TOOLBOX_STATE_DIR": str(state_dir), **(env or {})},
    )
    out, errors = await process.communicate()
    assert process.returncode == expect, errors.decode()
    return out.decode(), errors.decode()


async def test_ps_and_stop(plane: Plane) -> None:
    out, _ = await toolboxd(plane.state_dir, "ps")
    assert out.split() == ["NAME", "STATE", "SNAPSHOT", "CREATED", "LAST", "ACTIVITY", "ID"]
    first, second = await plane.create(name="first"), await plane.create(name="second")
    out, _ = await toolboxd(plane.state_dir, "ps")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["second", "started", "default"],
        ["first", "started", "default"],
    ]
    assert first["id"] in out
    out, errors = await toolboxd(plane.state_dir, "stop", "first", "none", expect=1)
    assert (out, errors) == ("first\n", "toolboxd: sandbox not found: none\n")
    out, _ = await toolboxd(plane.state_dir, "stop", "--all", "--force")
    assert out == "second\n"
    assert (await plane.call("GET", f"/sandbox/{second['id']}"))["state"] == "stopped"
    assert (await toolboxd(plane.state_dir, "ps", "-q"))[0] == "second\nfirst\n"
    await toolboxd(plane.state_dir, "stop", expect=2)


async def test_logs(plane: Plane) -> None:
    sandbox = await plane.create(name="box")
    log = plane.home(sandbox).parent / "daemon.log"
    log.write_text("something happened")
    assert (await toolboxd(plane.state_dir, "logs", "box"))[0] == "something happened\n"
    assert "not found: none" in (await toolboxd(plane.state_dir, "logs", "none", expect=1))[1]


async def test_gc_removes_what_no_record_owns(plane: Plane) -> None:
    await plane.create(name="box")
    directory = plane.state_dir / "controlplane"
    (directory / "sandboxes/stray").mkdir()
    (directory / "archive/lost").write_text("x")
    for options in (["--dry-run"], []):
        assert (await toolboxd(plane.state_dir, "gc", *options))[0] == "sandbox stray\narchive lost\n"
    assert (await toolboxd(plane.state_dir, "gc"))[0] == ""
    assert not (directory / "sandboxes/stray").exists()
    assert await plane.execute(await plane.call("GET", "/sandbox/box"), "echo kept") == "kept"


async def test_where_it_is_comes_from_variables_too(plane: Plane, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    named = {"DAYTONA_API_URL": plane.api_url, "DAYTONA_API_KEY": plane.api_key}
    assert (await toolboxd(elsewhere, "ps", "-q", env=named))[0] == ""
    assert "valid token" in (await toolboxd(elsewhere, "ps", expect=1, env={**named, "DAYTONA_API_KEY": "wrong"}))[1]
    assert "DAYTONA_API_URL" in (await toolboxd(elsewhere, "ps", expect=2))[1]
    named["DAYTONA_API_URL"] = "http://127.0.0.1:1/api"
    assert "nobody answers" in (await toolboxd(elsewhere, "ps", expect=2, env=named))[1]

"""The clipboard, with other programs as owners and readers."""

import asyncio
import base64
import io
import json
import os
import signal
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from Xlib.display import Display

from tests.computeruse.programs import display_name, needs, program, xvfb_pid
from tests.conftest import Daemon
from toolbox.children import tree

PROGRAM = Path(__file__).with_name("clipboard_program.py")
TEXT = "Grüße, 日本語 😀\n\ttwo lines\0"
LARGE = "".join(f"{number} ü\n" for number in range(900_000))
"""10 MB, no part of which is like another."""
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
NOTHING = {"selection": "clipboard", "targets": []}
pytestmark = needs("xclip")


async def get(daemon: Daemon, status: int = 200, **query: str) -> Any:
    async with daemon.http.get("/computeruse/clipboard", params=query) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def put(daemon: Daemon, status: int = 200, **body: object) -> Any:
    content = io.BytesIO(json.dumps(body).encode())
    async with daemon.http.post("/computeruse/clipboard", data=content) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def paste(*options: str) -> bytes:
    """Return what another program gets."""
    async with program("xclip", "-out", *options) as process:
        assert process.stdout is not None
        return await process.stdout.read()


@asynccontextmanager
async def copied(data: bytes, *, selection: str = "clipboard", target: str = "UTF8_STRING") -> AsyncIterator[None]:
    """Have another program own a selection."""
    before = await asyncio.to_thread(owner, selection)
    # -quiet: it stays in the foreground.
    argv = ("xclip", "-in", "-quiet", "-selection", selection, "-target", target)
    async with program(*argv, stderr=asyncio.subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(data)
        process.stdin.close()
        while await asyncio.to_thread(owner, selection) in {0, before}:
            pass
        yield


def owner(selection: str) -> int:
    """Return the window that owns a selection, 0 for none."""
    with closing(Display(display_name())) as display:
        found: Any = display.get_selection_owner(display.get_atom(selection.upper()))
        return found and int(found.id)


@asynccontextmanager
async def role(name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    async with program(sys.executable, PROGRAM, name) as process:
        assert process.stdout is not None
        assert await process.stdout.readline()
        yield process


async def test_nothing(bare: Daemon) -> None:
    assert await get(bare) == NOTHING
    assert await get(bare, format="image") == NOTHING


@pytest.mark.parametrize("selection", ["clipboard", "primary"])
async def test_a_text_for_others(bare: Daemon, selection: str) -> None:
    for text in (TEXT, "", "second"):
        assert await put(bare, text=text, selection=selection) == {}
        assert (await paste("-selection", selection)).decode() == text
        answer = await get(bare, selection=selection)
        assert (answer["text"], answer["selection"]) == (text, selection)
    other = "primary" if selection == "clipboard" else "clipboard"
    assert (await get(bare, selection=other))["targets"] == []


async def test_other_formats_of_a_text(bare: Daemon) -> None:
    await put(bare, text="Grüße €")
    options = ("-selection", "clipboard", "-target")
    assert await paste(*options, "STRING") == "Grüße ?".encode("latin-1")
    assert (await paste(*options, "text/plain;charset=utf-8")).decode() == "Grüße €"
    targets = (await paste(*options, "TARGETS")).decode().split()
    assert {"UTF8_STRING", "STRING", "TEXT", "text/plain", "TARGETS", "MULTIPLE", "TIMESTAMP"} <= set(targets)
    assert await paste(*options, "image/png") == b""


@pytest.mark.parametrize("selection", ["clipboard", "primary"])
async def test_a_text_of_others(bare: Daemon, selection: str) -> None:
    async with copied(TEXT.encode(), selection=selection):
        answer = await get(bare, selection=selection)
        assert answer["text"] == TEXT
        assert "UTF8_STRING" in answer["targets"]
        assert "image" not in answer
        assert "text" not in await get(bare, selection=selection, format="image")


async def test_another_program_takes_over_and_goes(bare: Daemon) -> None:
    await put(bare, text="ours")
    async with copied(b"theirs"):
        assert (await get(bare))["text"] == "theirs"
        await put(bare, text="ours again")
        assert (await get(bare))["text"] == "ours again"
    async with copied(b"theirs"):
        pass
    assert await get(bare) == NOTHING


async def test_large_texts_both_ways(bare: Daemon) -> None:
    await put(bare, text=LARGE)
    assert await paste("-selection", "clipboard") == LARGE.encode()
    pasted = await asyncio.gather(*[paste("-selection", "clipboard") for _ in range(3)])
    assert pasted == [LARGE.encode()] * 3
    async with copied(LARGE[::-1].encode()):
        assert (await get(bare))["text"] == LARGE[::-1]


async def test_images_both_ways(bare: Daemon) -> None:
    large = PNG + zlib.compress(os.urandom(3_000_000))
    for image in (PNG, large):
        encoded = base64.b64encode(image).decode()
        await put(bare, image=encoded)
        assert await paste("-selection", "clipboard", "-target", "image/png") == image
        answer = await get(bare)
        assert (answer["image"], answer["targets"]) == (encoded, ["image/png"])
        assert "text" not in answer
        async with copied(image, target="image/png"):
            answer = await get(bare)
            assert answer["image"] == encoded
            assert "image/png" in answer["targets"]


async def test_several_targets_at_once(bare: Daemon) -> None:
    await put(bare, text="Grüße")
    async with program(sys.executable, PROGRAM, "many") as process:
        assert process.stdout is not None
        lines = (await process.stdout.read()).decode().splitlines()
    assert lines[:3] == [f"UTF8_STRING {'Grüße'.encode()!r}", "image/png 0", f"STRING {'Grüße'.encode('latin-1')!r}"]
    assert lines[3].startswith("TIMESTAMP array(")


async def test_many_at_once(bare: Daemon) -> None:
    await put(bare, text="0")
    answers = await asyncio.gather(
        *[put(bare, text=str(number)) for number in range(20)],
        *[get(bare) for _ in range(20)],
        *[paste("-selection", "clipboard") for _ in range(5)],
    )
    assert {answer["text"] for answer in answers[20:40]} <= {str(number) for number in range(20)}
    assert {answer.decode() for answer in answers[40:]} <= {str(number) for number in range(20)}


async def test_an_old_program(bare: Daemon) -> None:
    async with role("old"):
        assert (await get(bare))["text"] == "Grüße"


async def test_an_owner_that_dies_when_asked(bare: Daemon) -> None:
    async with role("dies"):
        assert "text" not in await get(bare)
    assert await get(bare) == NOTHING


@pytest.mark.parametrize("name", ["silent", "stalls"])
async def test_an_owner_that_does_not_answer(bare: Daemon, name: str) -> None:
    async with role(name):
        assert (await get(bare, 503))["code"] == "CLIPBOARD_OWNER_UNRESPONSIVE"
        await put(bare, text="ours")
        assert (await get(bare))["text"] == "ours"
    assert (await paste("-selection", "clipboard")) == b"ours"


async def test_while_an_owner_is_waited_for_others_are_answered(bare: Daemon) -> None:
    await put(bare, text=LARGE, selection="primary")
    async with role("silent"):
        waiting = asyncio.create_task(get(bare, 503))
        assert await paste("-selection", "primary") == LARGE.encode()
        assert not waiting.done()
        await waiting
    assert (await get(bare, selection="primary"))["text"] == LARGE


async def test_too_much(bare: Daemon) -> None:
    too_much = "x" * (32 * 1024 * 1024 + 1)
    assert (await put(bare, 413, text=too_much))["code"] == "PAYLOAD_TOO_LARGE"
    async with role("endless"):
        assert (await get(bare, 413))["code"] == "PAYLOAD_TOO_LARGE"
    assert await get(bare) == NOTHING
    await put(bare, text=too_much[1:])
    assert len((await get(bare))["text"]) == len(too_much) - 1


async def test_a_reader_that_dies(bare: Daemon) -> None:
    await put(bare, text=LARGE)
    for _ in range(5):
        async with program("xclip", "-out", "-selection", "clipboard") as process:
            assert process.stdout is not None
            await process.stdout.read(1)
    assert await paste("-selection", "clipboard") == LARGE.encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "BAD_REQUEST"),
        ({"text": "a", "image": ""}, "BAD_REQUEST"),
        ({"image": "?"}, "BAD_REQUEST"),
        ({"image": "é"}, "BAD_REQUEST"),
        ({"image": base64.b64encode(b"GIF89a").decode()}, "BAD_REQUEST"),
        ({"text": "a", "selection": "secondary"}, "INVALID_REQUEST_BODY"),
        ({"text": 1}, "INVALID_REQUEST_BODY"),
    ],
)
async def test_bad_requests(bare: Daemon, body: dict[str, object], code: str) -> None:
    assert (await put(bare, 400, **body))["code"] == code
    assert (await get(bare, 400, selection="x"))["code"] == "BAD_REQUEST"
    assert (await get(bare, 400, format="gif"))["code"] == "BAD_REQUEST"


async def test_no_desktop(daemon: Daemon) -> None:
    assert (await get(daemon, 503))["code"] == "COMPUTER_USE_UNAVAILABLE"
    assert (await put(daemon, 503, text="a"))["code"] == "COMPUTER_USE_UNAVAILABLE"


async def test_it_ends_with_the_desktop(bare: Daemon) -> None:
    await put(bare, text="old")
    async with bare.http.post("/computeruse/stop") as response:
        assert response.status == 200
    await get(bare, 503)
    async with bare.http.post("/computeruse/start") as response:
        assert response.status == 200
    assert await get(bare) == NOTHING
    await put(bare, text="new")
    assert await paste("-selection", "clipboard") == b"new"


async def test_an_x_server_that_dies(bare: Daemon) -> None:
    await put(bare, text="old")
    pid = xvfb_pid()
    async with role("silent"):
        waiting = asyncio.create_task(bare.http.get("/computeruse/clipboard"))
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        async with await waiting as response:
            assert response.status == 503, await response.text()
    while tree.read_stat(pid) is not None:
        await asyncio.sleep(0.01)
    async with bare.http.post("/computeruse/start") as response:
        assert response.status == 200
    assert await get(bare) == NOTHING
    await put(bare, text="new")
    assert await paste("-selection", "clipboard") == b"new"

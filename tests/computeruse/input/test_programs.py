"""Text typed into a real terminal arrives byte by byte as it was meant."""

import asyncio
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.computeruse.input.conftest import Hands
from tests.computeruse.programs import display_name
from tests.conftest import Daemon

LATE_SECONDS = 40
SESSION = "terminal"


class Terminal:
    """An xfce4-terminal (VTE, GTK) in which `cat` writes what is typed to a file."""

    def __init__(self, hands: Hands, file: Path) -> None:
        self._hands = hands
        self._file = file

    async def types(self, text: str, **options: int) -> str:
        """Type a text and a last line, and return what arrived before that."""
        await self._hands("keyboard/type", text=text + "\n.\n", **options)
        return await self.arrived("\n.\n")

    async def arrived(self, end: str) -> str:
        """Return what arrives up to `end`."""
        async with asyncio.timeout(LATE_SECONDS):
            while not (text := await asyncio.to_thread(self._file.read_text)).endswith(end):
                await asyncio.sleep(0.05)
        return text.removesuffix(end)


@pytest.fixture
async def terminal(bare: Daemon, hands: Hands, tmp_path: Path) -> AsyncIterator[Terminal]:
    """Run a terminal, with no window manager and no session bus: the window under the pointer has the keyboard."""
    file, ready = tmp_path / "typed", tmp_path / "ready"
    await asyncio.to_thread(file.touch)
    script = f"stty -icanon -echo min 1; touch {ready}; exec cat > {file}"
    environ = f"DISPLAY={display_name()} NO_AT_BRIDGE=1 HOME={tmp_path} LC_ALL=C.UTF-8"
    program = f"xfce4-terminal --disable-server --maximize --hide-menubar -x sh -c {shlex.quote(script)}"
    session = f"/process/session/{SESSION}"
    async with bare.http.post("/process/session", json={"sessionId": SESSION}) as response:
        assert response.status == 201
    command = {"command": f"{environ} dbus-run-session -- {program}", "runAsync": True}
    async with bare.http.post(f"{session}/exec", json=command) as response:
        assert response.status == 202
    await hands("mouse/move", x=100, y=100)
    async with asyncio.timeout(LATE_SECONDS):
        while not await asyncio.to_thread(ready.exists):
            await asyncio.sleep(0.05)
    await hands("mouse/click", x=100, y=100)
    yield Terminal(hands, file)
    async with bare.http.delete(session) as response:
        assert response.status == 204


async def test_a_terminal_gets_what_is_typed(terminal: Terminal) -> None:
    text = (
        "plain ASCII, Capitals AND ~!@#$%^&*()_+{}|:\"<>?`-=[]\\;',./\n"
        "äöüß ÄÖÜ €éÅñ Привет Ελλάδα\n日本語テスト 中文 한국어\n😀🚀 👩‍💻 fin"
    )
    assert await terminal.types(text) == text


async def test_a_terminal_gets_a_long_text(terminal: Terminal) -> None:
    text = "The quick brown Fox jumps; 2 dogs sleep!\n" * 488
    assert await terminal.types(text) == text


async def test_a_terminal_gets_more_characters_than_there_are_spare_keys(terminal: Terminal) -> None:
    text = "".join(chr(0x4E00 + 7 * number) + ("a" if number % 5 else "\n") for number in range(400))
    assert await terminal.types(text) == text


async def test_texts_at_the_same_time_come_one_after_another(terminal: Terminal, hands: Hands) -> None:
    texts = ["日本語" * 30 + "\n", "x" * 900 + "\n", "Größe" * 100 + "\n"]
    await asyncio.gather(*(hands("keyboard/type", text=text) for text in texts))
    lines = (await terminal.types("end")).removesuffix("end").splitlines(keepends=True)
    assert sorted(lines) == sorted(texts)


async def test_keys_reach_a_terminal(terminal: Terminal, hands: Hands) -> None:
    for key in ("a", "!", "é", "語", "space", "num7", "num_plus", "num_slash", "enter"):
        await hands("keyboard/key", key=key)
    await hands("keyboard/key", key="b", modifiers=["shift"])
    assert await terminal.types("") == "a!é語 7+/\nB"

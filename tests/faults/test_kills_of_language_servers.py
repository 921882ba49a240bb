"""kill -9 of language servers, and of what they have started, while requests are open."""

import asyncio
import os
import signal
from typing import Any

import pytest

from tests.faults.conftest import Remote, Start

_TEXTS = {
    "python": ("m.py", "class Foo:\n    def bar(self):\n        return 1\n\n\nFoo().bar()\n"),
    "typescript": ("m.ts", "class Foo {\n  bar() {\n    return 1\n  }\n}\nnew Foo().bar()\n"),
}
_BAR = {"python": {"line": 5, "character": 7}, "typescript": {"line": 5, "character": 11}}


async def _hover(daemon: Remote, language: str) -> tuple[int, Any]:
    place = {"languageId": language, "pathToProject": ".", "uri": _TEXTS[language][0], "position": _BAR[language]}
    return await daemon.call("POST", "/lsp/hover", place)


async def _contents(daemon: Remote, language: str) -> str:
    """Ask until the server has been started again."""
    async with asyncio.timeout(90):
        while (answer := await _hover(daemon, language))[0] == 503:
            assert answer[1]["code"] == "LSP_SERVER_RESTARTING", answer
            await asyncio.sleep(0.05)
    assert answer[0] == 200, answer
    return str(answer[1]["contents"])


def _servers(daemon: Remote) -> dict[int, str]:
    """Return what runs below the daemon but its guard: the script of each process, or else its program, by pid."""
    commands = daemon.commands().items()
    return {pid: next((word for word in words if "/" in word), words[0]) for pid, words in commands if words[0] != "sh"}


@pytest.mark.parametrize(
    ("language", "program", "why"),
    [
        ("python", "/pylsp", "SIGKILL"),
        ("typescript", "/.bin/typescript-language-server", "ended"),  # a package's Node runs below a Python
        ("typescript", "/tsserver.js", "tsserver process has exited"),
    ],
    ids=["pylsp", "typescript-language-server", "tsserver"],
)
async def test_killed_while_requests_are_open(
    remote: Start, path_with_node: str, language: str, program: str, why: str
) -> None:
    daemon = await remote(PATH=path_with_node)
    name, text = _TEXTS[language]
    (daemon.home / "work" / name).write_text(text)
    place = {"languageId": language, "pathToProject": "."}
    assert (await daemon.call("POST", "/lsp/start", place))[0] == 200
    before, servers = await _contents(daemon, language), _servers(daemon)
    assert "bar" in before
    (victim,) = [pid for pid, script in servers.items() if script.endswith(program)]
    os.kill(victim, signal.SIGSTOP)
    asking = [asyncio.ensure_future(_hover(daemon, language)) for _ in range(3)]
    await asyncio.sleep(0.2)
    os.kill(victim, signal.SIGKILL)
    for status, answer in await asyncio.gather(*asking):
        assert (status, answer["code"]) == (503, "LSP_SERVER_RESTARTING"), answer
        assert why in answer["message"]
    assert await _contents(daemon, language) == before
    await daemon.until(lambda: not servers.keys() & daemon.commands().keys())
    assert (await daemon.call("POST", "/lsp/stop", place))[0] == 200
    await daemon.until(lambda: not _servers(daemon))

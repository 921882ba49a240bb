"""The keyboard, as a window sees it."""

import asyncio
import subprocess
import threading
from collections import Counter
from typing import Any

import pytest
from Xlib import X

from tests.computeruse.input.conftest import Hands, Observer, Seen
from tests.computeruse.programs import display_name
from tests.conftest import Daemon
from toolbox.computeruse.input.keys import NAMES
from toolbox.computeruse.input.keysyms import named_keysyms

SYMBOLS = "~!@#$%^&*()_+{}|:\"<>?`-=[]\\;',./ "


def typed(seen: list[Seen]) -> str:
    """Return what the keys that were pressed type."""
    return "".join(each.character for each in seen if each.kind == "key down")


def keysyms(seen: list[Seen]) -> list[int]:
    """Return the keysyms that were pressed."""
    return [each.keysym for each in seen if each.kind == "key down"]


def in_pairs(seen: list[Seen]) -> bool:
    """Tell whether every key that was pressed was released."""
    down: list[int] = []
    for each in seen:
        if each.kind == "key down":
            down.append(each.detail)
        elif each.kind == "key up":
            down.remove(each.detail)
    return not down


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello World! 123",
        SYMBOLS,
        "äöüß€éÅñ ÄÖÜẞ",
        "日本語テスト 中文 한국어",
        "😀🚀 ok 👩‍💻",
        "Привет, мир! Γειά σου",  # noqa: RUF001
        "x" * 1000,
        "".join(map(chr, range(0x3041, 0x3097))),  # more than there are spare keys
    ],
)
async def test_types(hands: Hands, observer: Observer, text: str) -> None:
    before = observer.keyboard()
    async with observer.watching() as seen:
        assert await hands("keyboard/type", text=text) == {}
    assert typed(seen) == text
    assert in_pairs(seen)
    assert observer.keyboard() == before
    assert observer.pressed() == ([], 0)


async def test_every_end_of_a_line_is_enter(hands: Hands, observer: Observer) -> None:
    await hands("keyboard/type", text="a\r\nb\nc\rd\n")
    assert typed(observer.read()) == "a\nb\nc\nd\n"


async def test_types_slowly(hands: Hands, observer: Observer) -> None:
    await hands("keyboard/type", text="slow", delay=1)
    await hands("keyboard/type", text=" fast", delay=-5)
    await hands("keyboard/type")
    assert typed(observer.read()) == "slow fast"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"text": 5}, "text"),
        ({"text": "x", "delay": 1.5}, "delay"),
        ({"text": "x", "delay": 60001}, "delay"),
        ({"text": "a\tb"}, "tab"),
        ({"text": "a\x07b"}, "U+0007"),
        ({"text": "a\x7fb"}, "U+007F"),
        ({"text": "a\u2028b"}, "U+2028"),
        ({"text": "a\u2029b"}, "U+2029"),
    ],
)
async def test_what_cannot_be_typed_is_refused_before_anything_is(
    hands: Hands, observer: Observer, body: dict[str, Any], text: str
) -> None:
    assert text in (await hands("keyboard/type", 400, **body))["message"]
    assert observer.read() == []


@pytest.mark.parametrize("lock", ["Caps_Lock", "Num_Lock"])
async def test_locks_do_not_garble_text(hands: Hands, observer: Observer, lock: str) -> None:
    await hands("keyboard/key", key=lock)
    locked = observer.pressed()[1]
    assert locked
    observer.read()
    await hands("keyboard/type", text="aAbB 12!")
    assert typed(observer.read()) == "aAbB 12!"
    assert observer.pressed() == ([], locked)
    await hands("keyboard/key", key="A")
    assert typed(observer.read()) == ("A" if lock == "Caps_Lock" else "a")


async def test_held_modifiers_are_set_aside_while_text_is_typed(hands: Hands, observer: Observer) -> None:
    await hands("keyboard/down", key="shift")
    await hands("keyboard/down", key="ctrl")
    before = observer.pressed()
    observer.read()
    await hands("keyboard/type", text="aA")
    assert [each.state & X.ControlMask for each in observer.read() if each.character in {"a", "A"}] == [0] * 4
    assert observer.pressed() == before
    await hands("keyboard/key", key="b")
    assert typed(observer.read()) == "B"


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("de", "zZyY{[]}@€|~ß?äÖ^´`"),  # noqa: RUF001
        ("fr", "aAqQ1234567890&é\"'(-è_çà@€{}"),
        ("us(dvorak)", "Hello, World? {}"),
        ("ru", "Привет, world! №;%:"),
        ("gr", "Γειά σου ΚΌΣΜΕ ς"),  # noqa: RUF001
        ("us,ru", "abc где"),
        ("de(neo)", "aä{}[]αß"),
        ("jp", "a\"'(~^@`_\\¥"),
    ],
)
async def test_any_layout(hands: Hands, observer: Observer, layout: str, text: str) -> None:
    name, _, variant = layout.removesuffix(")").partition("(")
    command = ["setxkbmap", "-display", display_name(), name, *(["-variant", variant] if variant else [])]
    await asyncio.to_thread(subprocess.run, command, check=True)
    before = observer.keyboard()
    async with observer.watching() as seen:
        await hands("keyboard/type", text=text)
    assert typed(seen) == text
    assert observer.keyboard() == before
    assert observer.pressed() == ([], 0)


async def test_the_second_layout(hands: Hands, observer: Observer) -> None:
    command = ["setxkbmap", "-display", display_name(), "us,ru", "-option", "grp:menu_toggle"]
    await asyncio.to_thread(subprocess.run, command, check=True)
    await hands("keyboard/key", key="ISO_Next_Group")
    observer.read()
    text = "где abc!"
    async with observer.watching() as seen:
        await hands("keyboard/type", text=text)
    assert typed(seen) == text


@pytest.mark.parametrize(
    ("key", "keysym"),
    [
        ("a", 0x61),
        ("A", 0x61),
        ("7", 0x37),
        ("`", 0x60),
        ("!", 0x21),
        ("+", 0x2B),
        ("é", 0xE9),
        ("Ä", 0xC4),
        ("語", 0x1008A9E),
        ("enter", 0xFF0D),
        ("Return", 0xFF0D),
        ("ESC", 0xFF1B),
        ("page-up", 0xFF55),
        ("Page_Up", 0xFF55),
        ("backspace", 0xFF08),
        ("Tab", 0xFF09),
        ("space", 0x20),
        ("f1", 0xFFBE),
        ("F13", 0xFFCA),
        ("f24", 0xFFD5),
        ("menu", 0xFF67),
        ("num7", 0xFFB7),
        ("num_decimal", 0xFFAE),
        ("num_plus", 0xFFAB),
        ("num_minus", 0xFFAD),
        ("num_slash", 0xFFAF),
        ("num_asterisk", 0xFFAA),
        ("num_enter", 0xFF8D),
        ("num_equal", 0xFFBD),
        ("KP_Home", 0xFF95),
        ("kp_enter", 0xFF8D),
        ("print", 0xFF61),
        ("PrintScreen", 0xFF61),
        ("pause", 0xFF13),
        ("break", 0xFF6B),
        ("scroll_lock", 0xFF14),
        ("arrowup", 0xFF52),
        ("ArrowLeft", 0xFF51),
        ("altgr", 0xFE03),
        ("compose", 0xFF20),
        ("left_control", 0xFFE3),
        ("ralt", 0xFFEA),
        ("cmd", 0xFFEB),
        ("volume_mute", 0x1008FF12),
        ("media_play", 0x1008FF14),
        ("XF86AudioNext", 0x1008FF17),
        ("plus", 0x2B),
        ("eacute", 0xE9),
        ("Cyrillic_ya", 0x6D1),
        ("U20AC", 0x10020AC),
        ("dead_acute", 0xFE51),
    ],
)
@pytest.mark.parametrize("num_lock", [False, True])
async def test_keys(hands: Hands, observer: Observer, key: str, keysym: int, num_lock: bool) -> None:
    if num_lock:
        await hands("keyboard/key", key="num_lock")
        observer.read()
    locked = observer.pressed()
    before = observer.keyboard()
    async with observer.watching() as seen:
        assert await hands("keyboard/key", key=key) == {}
    assert keysyms(seen)[-1] == keysym
    assert in_pairs(seen)
    assert observer.keyboard() == before
    assert observer.pressed() == locked


async def test_modifiers_are_held_while_the_key_is_pressed(hands: Hands, observer: Observer) -> None:
    await hands("keyboard/key", key="c", modifiers=["ctrl", "Shift"])
    await hands("keyboard/hotkey", keys="Ctrl + Shift + C")
    chord = [("key down", 0xFFE3), ("key down", 0xFFE1), ("key down", 0x43), ("key up", 0x43), ("key up", 0xFFE1)]
    chord.append(("key up", 0xFFE3))
    assert [(each.kind, each.keysym) for each in observer.read()] == chord * 2


@pytest.mark.parametrize(
    ("keys", "keysym", "state"),
    [
        ("ctrl+c", 0x63, X.ControlMask),
        ("alt+tab", 0xFF09, X.Mod1Mask),
        ("super+e", 0x65, X.Mod4Mask),
        ("ctrl+alt+delete", 0xFFFF, X.ControlMask | X.Mod1Mask),
        ("ctrl+num_plus", 0xFFAB, X.ControlMask),
        ("ctrl+plus", 0x2B, X.ControlMask | X.ShiftMask),
        ("ctrl+f13", 0xFFCA, X.ControlMask),
        ("shift", 0xFFE1, 0),
        ("ctrl+shift", 0xFFE1, X.ControlMask),
        ("enter", 0xFF0D, 0),
    ],
)
async def test_hotkeys(hands: Hands, observer: Observer, keys: str, keysym: int, state: int) -> None:
    async with observer.watching() as seen:
        assert await hands("keyboard/hotkey", keys=keys) == {}
    assert (keysym, state) in [(each.keysym, each.state) for each in seen if each.kind == "key down"]
    assert in_pairs(seen)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "empty"),
        ({"key": ""}, "empty"),
        ({"key": "  "}, "empty"),
        ({"key": " "}, "space"),
        ({"key": "\t"}, "tab"),
        ({"key": "\n"}, "enter"),
        ({"key": "\x01"}, "U+0001"),
        ({"key": "enterr"}, "enter"),
        ({"key": "A!"}, "A!"),
        ({"key": "num+"}, "num_plus"),
        ({"key": "ctrl+c"}, "ctrl+c"),
        ({"key": "two words"}, "two words"),
        ({"key": "Terminate_Server"}, "X server"),
        ({"key": "SlowKeys_Enable"}, "no key"),
        ({"key": 5}, "key"),
        ({"key": "c", "modifiers": ["hyper"]}, "ctrl, alt, shift, cmd"),
        ({"key": "c", "modifiers": ["lctrl"]}, "left and right"),
        ({"key": "c", "modifiers": [""]}, "modifier"),
        ({"key": "c", "modifiers": ["ctrl", "ctrl"]}, "duplicate"),
        ({"key": "c", "modifiers": ["ctrl", "control"]}, "duplicate"),
        ({"key": "lshift", "modifiers": ["shift"]}, "duplicate"),
        ({"key": "c", "modifiers": "ctrl"}, "modifiers"),
    ],
)
async def test_what_is_no_key_is_refused(hands: Hands, observer: Observer, body: dict[str, Any], text: str) -> None:
    assert text in (await hands("keyboard/key", 400, **body))["message"]
    assert observer.read() == []


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("ctrl+", "empty"),
        ("+", "empty"),
        ("ctrl++", "plus"),
        ("ctrl+c v", "one chord"),
        ("ctrl c", "one chord"),
        ("ctrl+a+b", "one key"),
        ("enter+c", "one key"),
        ("lctrl+c", "left and right"),
        ("foo+c", "ctrl, alt, shift, cmd"),
        ("ctrl+foo", "foo"),
        ("ctrl+ctrl+c", "duplicate"),
        ("ctrl+control+c", "duplicate"),
        ("shift+lshift", "duplicate"),
    ],
)
async def test_what_is_no_chord_is_refused(hands: Hands, observer: Observer, keys: str, text: str) -> None:
    message = (await hands("keyboard/hotkey", 400, keys=keys))["message"]
    assert text in message
    assert observer.read() == []


@pytest.mark.parametrize("route", ["type", "key", "hotkey", "down", "up"])
@pytest.mark.parametrize("body", [b"", b"[", b'"x"', b'{"key": 1, "keys": ["ctrl"], "text": 1}'])
async def test_a_body_that_does_not_fit_is_refused(bare: Daemon, route: str, body: bytes) -> None:
    async with bare.http.post(f"/computeruse/keyboard/{route}", data=body) as response:
        assert response.status == 400


async def test_a_key_is_held_until_it_is_released(hands: Hands, observer: Observer) -> None:
    for key in ("ctrl", "a", "f13", "num7"):
        assert await hands("keyboard/down", key=key) == {}
        held = observer.pressed()[0]
        assert len(held) == 1
        await hands("keyboard/down", key=key)
        assert await hands("keyboard/up", key=key) == {}
        assert observer.pressed()[0] == []
    seen = observer.read()
    assert [each.kind for each in seen] == ["key down", "key up"] * 4


async def test_releasing_what_is_not_held_does_nothing(hands: Hands, observer: Observer) -> None:
    before = observer.keyboard()
    for key in ("shift", "a", "f13", "語"):
        await hands("keyboard/up", key=key)
    assert observer.read() == []
    assert observer.keyboard() == before


async def test_a_lent_key_keeps_its_meaning_while_it_is_held(hands: Hands, observer: Observer) -> None:
    before = observer.keyboard()
    await hands("keyboard/down", key="f20")
    text = "日本語"
    async with observer.watching() as seen:
        await hands("keyboard/type", text=text)
    assert typed(seen) == text
    assert any(0xFFD1 in row for row in observer.keyboard())
    await hands("keyboard/up", key="f20")
    assert observer.keyboard() == before


async def test_more_held_keys_than_can_be_lent(hands: Hands, observer: Observer) -> None:
    before = observer.keyboard()
    for number in range(18):
        await hands("keyboard/down", key=chr(0x3041 + number))
    answer = await hands("keyboard/type", 500, text="語")
    assert answer["message"]
    for number in range(18):
        await hands("keyboard/up", key=chr(0x3041 + number))
    assert observer.keyboard() == before
    assert observer.pressed() == ([], 0)


async def test_every_name_of_a_key_is_pressed(hands: Hands, observer: Observer) -> None:
    for name in sorted(NAMES):
        await hands("keyboard/key", key=name)
    assert in_pairs(observer.read())
    assert observer.pressed()[0] == []


async def test_every_keysym_is_pressed_or_refused(bare: Daemon, observer: Observer) -> None:
    before = observer.keyboard()
    stop = threading.Event()
    watching = asyncio.create_task(asyncio.to_thread(observer.answer_pings, stop))
    refused = []
    try:
        for name in sorted(await asyncio.to_thread(named_keysyms)):
            async with bare.http.post("/computeruse/keyboard/key", json={"key": name}) as response:
                assert response.status in {200, 400}, (name, await response.text())
                if response.status == 400:
                    refused.append(name)
    finally:
        stop.set()
        seen = await watching
    assert len(refused) < 90, refused
    down, up = (Counter(each.detail for each in seen if each.type == kind) for kind in (X.KeyPress, X.KeyRelease))
    assert down.total() > 1000
    assert not down - up
    assert (up - down).total() <= 16  # presses that the server keeps to itself: virtual terminals, grabs, video modes
    assert observer.pressed()[0] == []
    assert observer.keyboard() == before

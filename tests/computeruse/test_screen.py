"""Pictures of the screen, compared to what the X protocol itself says is there."""

import asyncio
import base64
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from Xlib import X

from tests.computeruse.canvas import Canvas, decode, x_canvas
from tests.conftest import Daemon
from toolbox.children import tree
from toolbox.computeruse.screen.picture import Cursor, Region, Shot

FULL, REGION = "/computeruse/screenshot", "/computeruse/screenshot/region"
COMPRESSED, BOTH = "/computeruse/screenshot/compressed", "/computeruse/screenshot/region/compressed"
BOX = {"x": 10, "y": 20, "width": 300, "height": 200}


@pytest.fixture
def canvas(bare: Daemon) -> Iterator[Canvas]:
    """Give the screen of the bare desktop, with something on it and the pointer at 640, 360."""
    with x_canvas() as canvas:
        canvas.scribble()
        canvas.point(640, 360)
        yield canvas


async def take(daemon: Daemon, path: str, **query: Any) -> tuple[dict[str, Any], Image.Image]:
    """Take a picture and return the answer and what is to be seen."""
    async with daemon.http.get(path, params=query) as response:
        assert response.status == 200, await response.text()
        answer = await response.json()
    data = base64.b64decode(answer["screenshot"], validate=True)
    assert answer["sizeBytes"] == len(data)
    image = decode(data)
    assert image.size == (answer["width"], answer["height"])
    return answer, image


async def status(daemon: Daemon, path: str, **query: Any) -> int:
    async with daemon.http.get(path, params=query) as response:
        await response.read()
        return response.status


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes()


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures differ by no more than compression makes them."""
    small = ImageChops.difference(one, other.resize(one.size, Image.Resampling.BOX)).reduce(8)
    return max(small.tobytes()) < 64


async def test_the_whole_screen(bare: Daemon, canvas: Canvas) -> None:
    answer, image = await take(bare, FULL)
    assert image.format == "PNG"
    assert same(image, canvas.picture())
    assert answer.keys() == {"screenshot", "cursorPosition", "sizeBytes", "width", "height", "region", "hash"}
    assert (answer["width"], answer["height"]) == (1280, 720)
    assert answer["region"] == {"x": 0, "y": 0, "width": 1280, "height": 720}
    assert answer["cursorPosition"] == {"x": 640, "y": 360}
    again, image = await take(bare, FULL)
    assert again["hash"] == answer["hash"]


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 1280, 720),
        (100, 50, 800, 600),
        (7, 5, 1, 1),
        (13, 17, 333, 77),
        (1279, 719, 1, 1),
        (-50, -40, 200, 100),
        (1200, 700, 201, 99),
        (-10, -10, 1300, 740),
        (0, 719, 3000, 1),
        (5000, 5000, 20, 10),
        (-5000, 0, 20, 10),
        (-(2**40), 2**40, 3, 3),
    ],
)
async def test_a_region(bare: Daemon, canvas: Canvas, box: tuple[int, int, int, int]) -> None:
    x, y, width, height = box
    expected = Image.new("RGB", (width, height))
    if abs(x) < 2**15:
        expected.paste(canvas.picture(), (-x, -y))
    region = {"x": x, "y": y, "width": width, "height": height}
    answer, image = await take(bare, REGION, **region)
    assert same(image, expected)
    assert answer["region"] == region
    assert answer["cursorPosition"] == {"x": 640, "y": 360}
    for name in ("jpeg", "webp"):
        _, image = await take(bare, BOTH, **region, format=name, quality=95)
        assert alike(image, expected)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "PNG") for name in ("png", "PNG")]
    + [(name, "JPEG") for name in ("jpeg", "JPEG", "jpg", "Jpg")]
    + [(name, "WEBP") for name in ("webp", "WebP")],
)
async def test_a_format(bare: Daemon, canvas: Canvas, name: str, kind: str) -> None:
    answer, image = await take(bare, COMPRESSED, format=name)
    assert (image.format, image.mode, image.size) == (kind, "RGB", (1280, 720))
    assert alike(image, canvas.picture())
    if kind == "PNG":
        assert same(image, canvas.picture())
    else:
        low, _ = await take(bare, COMPRESSED, format=name, quality=1)
        high, _ = await take(bare, COMPRESSED, format=name, quality=100)
        assert low["sizeBytes"] < answer["sizeBytes"] < high["sizeBytes"]


@pytest.mark.parametrize("scale", [1, 0.9, 0.75, 0.5, 0.34, 0.25, 0.1])
@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
async def test_a_scale(bare: Daemon, canvas: Canvas, name: str, scale: float) -> None:
    answer, image = await take(bare, COMPRESSED, format=name, scale=scale, quality=95)
    assert image.size == (int(1280 * scale), int(720 * scale))
    assert alike(image, canvas.picture())
    assert answer["cursorPosition"] == {"x": int(640 * scale), "y": int(360 * scale)}
    answer, image = await take(bare, BOTH, x=3, y=4, width=5, height=1, format=name, scale=scale)
    assert image.size == (max(1, int(5 * scale)), 1)
    assert answer["cursorPosition"] == {"x": 640, "y": 360}
    assert answer["region"] == {"x": 3, "y": 4, "width": 5, "height": 1}


@pytest.mark.parametrize("place", [(640, 360), (0, 0), (1279, 719), (3, 715), (105, 48)])
async def test_the_cursor(bare: Daemon, canvas: Canvas, place: tuple[int, int]) -> None:
    font = canvas.display.open_font("cursor")
    cursor = font.create_glyph_cursor(font, 68, 69, (65535, 0, 0), (0, 65535, 0))  # an arrow, red in green
    canvas.root.change_attributes(cursor=cursor)
    canvas.point(*place)
    image = canvas.display.xfixes_get_cursor_image(canvas.root)
    expected = canvas.picture()
    for number, pixel in enumerate(image.cursor_image):
        at = (place[0] - image.xhot + number % image.width, place[1] - image.yhot + number // image.width)
        if pixel >> 24 and 0 <= at[0] < 1280 and 0 <= at[1] < 720:
            assert pixel >> 24 == 255
            expected.putpixel(at, (pixel >> 16 & 255, pixel >> 8 & 255, pixel & 255))
    answer, shown = await take(bare, FULL, showCursor="true")
    assert same(shown, expected)
    assert not same(shown, canvas.picture())
    assert answer["cursorPosition"] == {"x": place[0], "y": place[1]}
    hidden, image = await take(bare, FULL, showCursor="false")
    assert same(image, canvas.picture())
    assert hidden["cursorPosition"] == answer["cursorPosition"]
    assert hidden["hash"] != answer["hash"]
    # A region that cuts the cursor, and one partly outside the screen.
    for x, y in ((place[0], place[1] - 2), (place[0] - 100, place[1] - 100)):
        _, part = await take(bare, REGION, x=x, y=y, width=120, height=110, show_cursor="1")
        background = Image.new("RGB", part.size)
        background.paste(expected, (-x, -y))
        assert same(part, background)


def test_a_cursor_that_is_seen_through() -> None:
    shot = Shot(
        region=Region(-1, -1, 3, 3),
        visible=Region(0, 0, 2, 2),
        pixels=bytearray((200, 100, 50, 0) * 4),
        pointer=(0, 0),
        # Half of red, a third of white, and nothing, multiplied by alpha as X has it.
        cursor=Cursor(Region(0, 0, 3, 1), [0x80800000, 0x55555555, 0], 1),
    )
    shot.complete()
    rows = [bytes(shot.pixels[start : start + 12]) for start in range(0, 36, 12)]
    assert rows[0] == bytes(12)
    assert rows[1] == bytes((0, 0, 0, 0, 100, 50, 153, 0, 218, 152, 118, 0))
    assert rows[2] == bytes(4) + bytes((200, 100, 50, 0) * 2)


async def test_spellings_of_a_boolean(bare: Daemon, canvas: Canvas) -> None:
    plain, _ = await take(bare, FULL)
    with_cursor, _ = await take(bare, FULL, showCursor="true")
    assert plain["hash"] != with_cursor["hash"]
    for name in ("showCursor", "show_cursor"):
        for spelling in ("1", "t", "T", "true", "True", "TRUE"):
            assert (await take(bare, FULL, **{name: spelling}))[0]["hash"] == with_cursor["hash"]
        for spelling in ("0", "f", "F", "false", "False", "FALSE"):
            assert (await take(bare, FULL, **{name: spelling}))[0]["hash"] == plain["hash"]
    both = {"showCursor": "false", "show_cursor": "true"}
    assert (await take(bare, FULL, **both))[0]["hash"] == with_cursor["hash"]


async def test_only_if_it_has_changed(bare: Daemon, canvas: Canvas) -> None:
    scaled: dict[str, Any] = {"format": "webp", "scale": 0.5}
    for path, query in ((FULL, {}), (REGION, BOX), (COMPRESSED, scaled), (BOTH, BOX | scaled)):
        answer, _ = await take(bare, path, **query)
        async with bare.http.get(path, params={**query, "since": answer["hash"]}) as response:
            assert (response.status, await response.read()) == (304, b"")
        canvas.fill(random.getrandbits(24), 12, 25, 1, 1)
        changed, _ = await take(bare, path, **query, since=answer["hash"])
        assert changed["hash"] != answer["hash"]
    seen = (await take(bare, REGION, **BOX))[0]["hash"]
    assert await status(bare, REGION, **{**BOX, "x": 11}, since=seen) == 200
    canvas.fill(0, 700, 500, 10, 10)  # elsewhere
    assert await status(bare, REGION, **BOX, since=seen) == 304
    # The pointer counts if it is shown.
    plain, cursor = [(await take(bare, FULL, showCursor=shown))[0]["hash"] for shown in ("0", "1")]
    canvas.point(300, 300)
    assert await status(bare, FULL, since=plain) == 304
    assert await status(bare, FULL, showCursor="1", since=cursor) == 200


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        (FULL, {"showCursor": "yes"}, "showCursor"),
        (FULL, {"showCursor": ""}, "showCursor"),
        (FULL, {"show_cursor": "2"}, "show_cursor"),
        (FULL, {"display": "1"}, "display"),
        (FULL, {"display": "-1"}, "display"),
        (FULL, {"display": "x"}, "display"),
        *((REGION, {k: v for k, v in BOX.items() if k != missing}, missing) for missing in BOX),
        *((BOTH, {**BOX, name: value}, name) for name in BOX for value in ("", "a", "1.5", "1e400")),
        *((REGION, {**BOX, name: value}, name) for name in ("width", "height") for value in ("0", "-1")),
        (REGION, {**BOX, "width": 100_000, "height": 100_000}, "pixels"),
        (BOTH, {**BOX, "width": 2**25 + 1, "height": 1, "scale": 0.1}, "pixels"),
        (REGION, {**BOX, "width": 2**63, "height": 2**63}, "pixels"),
        (BOTH, {**BOX, "width": 70_000, "height": 1, "format": "jpeg"}, "jpeg"),
        (BOTH, {**BOX, "width": 1, "height": 20_000, "format": "webp"}, "webp"),
        *((COMPRESSED, {"format": value}, "format") for value in ("gif", "", "jpeg2000", "image/png")),
        *((BOTH, {**BOX, "quality": value}, "quality") for value in ("0", "101", "-1", "1.5", "", "x", "nan")),
        *((COMPRESSED, {"scale": v}, "scale") for v in ("0", "0.09", "1.01", "-1", "nan", "inf", "", "x")),
        *((f"{FULL}/stream", {"fps": value}, "fps") for value in ("0", "31", "nan", "x", "")),
        (f"{FULL}/stream", {"quality": "0"}, "quality"),
        (f"{FULL}/stream", {"scale": "2"}, "scale"),
        (f"{FULL}/stream", {"display": "7"}, "display"),
    ],
)
async def test_what_cannot_be(bare: Daemon, path: str, query: dict[str, Any], named: str) -> None:
    async with bare.http.get(path, params=query) as response:
        answer = await response.json()
    assert response.status == 400
    assert answer["code"] == "BAD_REQUEST"
    assert named in answer["message"]


async def test_a_large_region(bare: Daemon, canvas: Canvas) -> None:
    _, image = await take(bare, BOTH, x=-3000, y=0, width=8192, height=4096, scale=0.1, format="png")
    assert image.size == (819, 409)
    assert await status(bare, BOTH, x=0, y=0, width=16_383, height=1, format="webp") == 200
    assert await status(bare, BOTH, x=0, y=0, width=65_500, height=1, format="jpeg") == 200


async def test_several_displays(bare: Daemon, canvas: Canvas) -> None:
    subprocess.run(
        ["xrandr", "--display", canvas.name, "--setmonitor", "right", "480/100x620/100+800+100", "none"], check=True
    )
    monitors = canvas.root.xrandr_get_monitors().monitors
    number = next(number for number, each in enumerate(monitors) if each.x == 800)
    answer, image = await take(bare, FULL, display=number)
    assert same(image, canvas.picture().crop((800, 100, 1280, 720)))
    assert answer["display"] == number
    assert answer["region"] == {"x": 800, "y": 100, "width": 480, "height": 620}
    assert answer["cursorPosition"] == {"x": 640, "y": 360}
    answer, _ = await take(bare, COMPRESSED, display=number, scale=0.5)
    assert answer["cursorPosition"] == {"x": -80, "y": 130}
    answer, image = await take(bare, REGION, **BOX, display=number)
    assert same(image, canvas.picture().crop((810, 120, 1110, 320)))
    assert answer["region"] == {"x": 810, "y": 120, "width": 300, "height": 200}
    assert (await take(bare, FULL))[1].size == (1280, 720)
    assert await status(bare, FULL, display=len(monitors)) == 400


async def test_a_hundred_at_once(bare: Daemon, canvas: Canvas) -> None:
    expected = canvas.picture()
    regions = [{"x": n * 10, "y": n, "width": 200 + n, "height": 100 + n} for n in range(50)]
    taken = await asyncio.gather(
        *(take(bare, FULL) for _ in range(50)), *(take(bare, REGION, **region) for region in regions)
    )
    for _, image in taken[:50]:
        assert same(image, expected)
    for region, (_, image) in zip(regions, taken[50:], strict=True):
        x, y = region["x"], region["y"]
        assert same(image, expected.crop((x, y, x + region["width"], y + region["height"])))


async def test_what_was_drawn_before_is_always_seen(bare: Daemon, canvas: Canvas) -> None:
    async def others() -> None:
        while True:
            await take(bare, COMPRESSED, format="jpeg")

    crowd = [asyncio.create_task(others()) for _ in range(6)]
    for colour in range(1, 30):
        canvas.fill(colour, 0, 0, 40, 40)
        _, image = await take(bare, COMPRESSED)
        assert image.getpixel((20, 20)) == (0, 0, colour)
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_clients_that_do_not_wait(bare: Daemon, canvas: Canvas) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(take(bare, FULL)) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
    assert all(same(task.result()[1], canvas.picture()) for task in tasks[1::2])


async def test_without_a_desktop(bare: Daemon) -> None:
    assert await status(bare, FULL) == 200
    async with bare.http.post("/computeruse/stop") as response:
        assert response.status == 200
    for path, query in ((FULL, {}), (REGION, BOX), (COMPRESSED, {}), (BOTH, BOX), (f"{FULL}/stream", {})):
        async with bare.http.get(path, params=query) as response:
            answer = await response.json()
            assert (response.status, answer["code"]) == (503, "COMPUTER_USE_UNAVAILABLE"), answer
            assert "not started" in answer["message"]
    # The next one is as good as the first, whatever display it has.
    async with bare.http.post("/computeruse/start") as response:
        assert response.status == 200
    with x_canvas() as canvas:
        canvas.scribble(3)
        assert same((await take(bare, FULL))[1], canvas.picture())


async def test_an_x_server_that_is_killed(bare: Daemon, canvas: Canvas) -> None:
    taking = [asyncio.create_task(status(bare, FULL, since=str(number))) for number in range(30)]
    await asyncio.wait(taking, return_when=asyncio.FIRST_COMPLETED)
    os.kill(canvas.pid, signal.SIGKILL)
    assert set(await asyncio.gather(*taking)) <= {200, 503}
    while tree.read_stat(canvas.pid) is not None:  # until the daemon has noticed
        await asyncio.sleep(0.01)
    async with bare.http.post("/computeruse/start") as response:
        assert response.status == 200
    with x_canvas() as new:
        new.scribble(5)
        assert same((await take(bare, FULL))[1], new.picture())


async def test_an_x_server_that_hangs(bare: Daemon, canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolbox.computeruse.screen.screen.ANSWER_SECONDS", 0.2)
    os.kill(canvas.pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            async with bare.http.get(FULL) as response:
                assert response.status == 503
                assert "does not answer" in await response.text()
    finally:
        os.kill(canvas.pid, signal.SIGCONT)
    monkeypatch.undo()
    assert same((await take(bare, FULL))[1], canvas.picture())


async def test_pixels_under_windows_are_not_seen(bare: Daemon, canvas: Canvas) -> None:
    window = canvas.root.create_window(
        100, 100, 200, 150, 0, canvas.display.screen().root_depth, background_pixel=0x123456, override_redirect=True
    )
    window.map()
    canvas.display.sync()
    _, image = await take(bare, REGION, x=90, y=90, width=220, height=170)
    assert image.getpixel((11, 11)) == (0x12, 0x34, 0x56)
    assert canvas.root.get_image(0, 0, 1, 1, X.ZPixmap, 0xFFFFFFFF).depth == 24


def test_png_without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    source = importlib.util.find_spec("toolbox.computeruse.screen.encode")
    assert source is not None
    assert source.origin is not None
    made: list[Any] = []
    for name, blocked in (("encode_with_isal", {}), ("encode_without_isal", {"isal": None})):
        with monkeypatch.context() as patch:
            for module, value in blocked.items():
                patch.setitem(sys.modules, module, value)
            spec = importlib.util.spec_from_file_location(name, Path(source.origin))
            assert spec is not None
            assert spec.loader is not None
            module_copy = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, module_copy)
            spec.loader.exec_module(module_copy)
        pixels = bytearray(random.Random(1).randbytes(33 * 21 * 4))
        region = Region(0, 0, 33, 21)
        shot = Shot(region=region, visible=region, pixels=pixels, pointer=(0, 0), cursor=None)
        made.append(module_copy.develop(shot, module_copy.Encoding(), as_json=True))
        expected = Image.frombytes("RGB", (33, 21), bytes(pixels), "raw", "BGRX")
        assert same(decode(made[-1].image), expected)
        assert base64.b64decode(json.loads(made[-1].json)) == made[-1].image
    assert made[0].hash == made[1].hash
    assert made[0].image != made[1].image


async def test_the_first_screenshot_of_a_desktop_started_again(bare: Daemon) -> None:
    assert await status(bare, FULL) == 200
    # Every client is told: an event that nobody has read when the server goes.
    assert (await bare.execute("xmodmap -e 'keycode 200 = a'"))["exitCode"] == 0
    for action in ("stop", "start"):
        async with bare.http.post(f"/computeruse/{action}") as response:
            assert response.status == 200
    assert await status(bare, FULL) == 200

"""The stream of pictures: one whenever something has changed, none otherwise, and a clean end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from PIL import Image

from tests.computeruse.canvas import Canvas, decode, x_canvas
from tests.conftest import Daemon

STREAM = "/computeruse/screenshot/stream"
NextPicture = Callable[[], Any]


@pytest.fixture
def canvas(bare: Daemon) -> Iterator[Canvas]:
    """Give the screen of the bare desktop, all black, with the pointer at 640, 360."""
    with x_canvas() as canvas:
        canvas.fill(0, 0, 0, *canvas.size)
        canvas.point(640, 360)
        yield canvas


@asynccontextmanager
async def multipart(daemon: Daemon, **query: Any) -> AsyncIterator[NextPicture]:
    """Give a function that returns the next picture of the endless answer, None at its end."""
    async with daemon.http.get(STREAM, params=query) as response:
        assert response.status == 200
        assert response.content_type == "multipart/x-mixed-replace"
        reader = aiohttp.MultipartReader.from_response(response)

        async def following() -> Image.Image | None:
            part = await reader.next()
            if part is None:
                return None
            assert isinstance(part, aiohttp.BodyPartReader)
            assert part.headers["Content-Type"] == "image/jpeg"
            return decode(bytes(await part.read()))

        yield following


@asynccontextmanager
async def websocket(daemon: Daemon, **query: Any) -> AsyncIterator[NextPicture]:
    """Give a function that returns the next picture of the websocket, None at its end with 1001."""
    async with daemon.http.ws_connect(STREAM, params=query, max_msg_size=0) as socket:

        async def following() -> Image.Image | None:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                return decode(message.data)
            assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)
            return None

        yield following


def is_filled(image: Image.Image | None, colour: tuple[int, int, int]) -> bool:
    """Whether the upper left corner has about that colour."""
    assert image is not None
    seen = image.getpixel((20, 20))
    assert isinstance(seen, tuple)
    return all(abs(one - other) < 20 for one, other in zip(seen, colour, strict=True))


@pytest.mark.parametrize("way", [multipart, websocket])
async def test_a_picture_for_each_change(bare: Daemon, canvas: Canvas, way: Callable[..., Any]) -> None:
    async with way(bare, fps=30, quality=90) as following:
        assert is_filled(await following(), (0, 0, 0))
        for number in range(1, 8):
            # Each of the pictures is another one: none came without a change.
            colour = (number * 30, 255 - number * 30, 128)
            canvas.fill(int.from_bytes(bytes(colour)), 0, 0, 64, 64)
            assert is_filled(await following(), colour)


@pytest.mark.parametrize("way", [multipart, websocket])
async def test_no_picture_without_a_change(bare: Daemon, canvas: Canvas, way: Callable[..., Any]) -> None:
    async with way(bare, fps=30) as following:
        assert is_filled(await following(), (0, 0, 0))
        waiting = asyncio.create_task(following())
        canvas.point(100, 100)  # the pointer is not shown
        canvas.fill(0, 0, 0, 64, 64)  # drawn, and the same as before
        await asyncio.sleep(0.2)
        assert not waiting.done()
        canvas.fill(0xFF0000, 0, 0, 64, 64)
        assert is_filled(await waiting, (255, 0, 0))


async def test_the_cursor(bare: Daemon, canvas: Canvas) -> None:
    async with websocket(bare, fps=30, showCursor="true") as following:
        before = await following()
        canvas.point(300, 200)
        after = await following()
        assert before.tobytes() != after.tobytes()


async def test_size_and_quality(bare: Daemon, canvas: Canvas) -> None:
    canvas.scribble()
    sizes = []
    for quality in (10, 95):
        async with bare.http.ws_connect(f"{STREAM}?scale=0.25&quality={quality}&display=0") as socket:
            data = await socket.receive_bytes()
        assert decode(data).size == (320, 180)
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


async def test_many_clients(bare: Daemon, canvas: Canvas) -> None:
    async def follow() -> None:
        async with multipart(bare, fps=30) as following:
            while not is_filled(await following(), (255, 255, 0)):
                pass

    clients = [asyncio.create_task(follow()) for _ in range(8)]
    for colour in (0xFF0000, 0x00FF00, 0xFFFF00):
        await asyncio.sleep(0.05)
        canvas.fill(colour, 0, 0, 64, 64)
    await asyncio.gather(*clients)


@pytest.mark.parametrize("way", [multipart, websocket])
async def test_a_slow_client_gets_the_latest(bare: Daemon, canvas: Canvas, way: Callable[..., Any]) -> None:
    drawn = 100
    async with way(bare, fps=30, quality=100) as following:
        await following()
        for seed in range(drawn):
            canvas.scribble(seed, 400)
            await asyncio.sleep(0.01)
        canvas.fill(0xFF0000, 0, 0, 64, 64)
        count = 1
        while not is_filled(await following(), (255, 0, 0)):
            count += 1
    assert count < drawn


@pytest.mark.parametrize("way", [multipart, websocket])
async def test_it_ends_with_the_desktop(bare: Daemon, canvas: Canvas, way: Callable[..., Any]) -> None:
    async with way(bare, fps=0.1) as following:
        assert is_filled(await following(), (0, 0, 0))
        ending = asyncio.create_task(following())
        async with bare.http.post("/computeruse/stop") as response:
            assert response.status == 200
        last = await ending
        if way is multipart:
            # A part had been begun, for browsers: the same picture again.
            assert is_filled(last, (0, 0, 0))
            last = await following()
        assert last is None


@pytest.mark.parametrize("way", [multipart, websocket])
async def test_it_ends_with_the_x_server(bare: Daemon, canvas: Canvas, way: Callable[..., Any]) -> None:
    async with way(bare, fps=30) as following:
        await following()

        async def to_the_end() -> None:
            while await following() is not None:
                pass

        ending = asyncio.create_task(to_the_end())
        os.kill(canvas.pid, signal.SIGKILL)
        async with bare.http.post("/computeruse/stop") as response:
            assert response.status == 200
        await ending


async def test_a_client_that_leaves(bare: Daemon, canvas: Canvas) -> None:
    for way in (multipart, websocket):
        async with way(bare, fps=30) as following:
            await following()
    async with bare.http.head(STREAM) as response:
        assert (response.status, response.content_type) == (200, "multipart/x-mixed-replace")

"""The marker framing against the demultiplexer of the published Python SDK."""

import asyncio
from collections.abc import AsyncIterator

from daytona._utils.stream import _std_demux_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from toolbox.children.journal import STDERR, STDOUT, Record
from toolbox.session.markers import MAX_FRAME, frames

# Latin-1 text: every byte below 0x80 decodes to itself, so that nothing is hidden by the client's UTF-8 decoding.
BYTES = st.lists(st.sampled_from(list(b"\1\1\1\2\2\2ab\n\0")), min_size=1, max_size=30).map(bytes)
RECORDS = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), BYTES), max_size=8)


async def framed(parts: list[tuple[int, bytes]]) -> list[bytes]:
    async def records() -> AsyncIterator[Record]:
        offset = 0
        for stream, data in parts:
            yield Record(offset, stream, data)
            offset += len(data)

    return [frame async for frame in frames(records())]


async def demultiplexed(received: list[bytes]) -> tuple[str, str]:
    out: list[str] = []
    err: list[str] = []
    rest = iter(received)

    async def receive() -> bytes | None:
        return next(rest, None)

    await _std_demux_loop(receive, out.append, err.append)
    return "".join(out), "".join(err)


def joined(parts: list[tuple[int, bytes]], stream: int) -> str:
    return b"".join(data for each, data in parts if each == stream).decode()


def test_the_sdk_gets_back_every_byte() -> None:
    with asyncio.Runner() as runner:  # one loop: making it takes longer than an example

        @settings(max_examples=1_000)
        @given(RECORDS)
        def every_example(parts: list[tuple[int, bytes]]) -> None:
            runner.run(check(parts))

        every_example()


async def check(parts: list[tuple[int, bytes]]) -> None:
    sent = await framed(parts)
    assert await demultiplexed(sent) == (joined(parts, STDOUT), joined(parts, STDERR))
    assert all(frame[-1] not in (1, 2) for frame in sent[:-1])


async def test_long_records_are_cut_into_frames() -> None:
    parts = [(STDOUT, b"x\1" * 50_000), (STDERR, b"y" * 100_000), (STDOUT, b"\2" * 70_000)]
    sent = await framed(parts)
    assert max(map(len, sent)) <= MAX_FRAME
    assert await demultiplexed(sent) == (joined(parts, STDOUT), joined(parts, STDERR))

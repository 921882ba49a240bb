"""Journals: order, offsets, bounds, followers."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolbox.children.journal import BLOCK_BYTES, STDERR, STDOUT, Journal, JournalStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JournalStore]:
    async with JournalStore(tmp_path, 64 * BLOCK_BYTES) as store:
        yield store


async def collect(journal: Journal, offset: int = 0, until: int | None = None) -> list[tuple[int, int, bytes]]:
    return [(record.offset, record.stream, record.data) async for record in journal.records(offset, until)]


async def spilled(journal: Journal) -> None:
    await asyncio.sleep(0)
    while journal._spilling:
        await asyncio.sleep(0.001)


async def test_records_in_order_with_offsets(store: JournalStore) -> None:
    journal = Journal(store, 1 << 20)
    journal.append(STDOUT, b"abc")
    journal.append(STDERR, b"de")
    journal.append(STDOUT, b"f")
    journal.finish()
    assert await collect(journal) == [(0, STDOUT, b"abc"), (3, STDERR, b"de"), (5, STDOUT, b"f")]
    assert await collect(journal, 1) == [(1, STDOUT, b"bc"), (3, STDERR, b"de"), (5, STDOUT, b"f")]
    assert await collect(journal, 2, 4) == [(2, STDOUT, b"c"), (3, STDERR, b"d")]
    assert await collect(journal, 6) == []
    assert await collect(journal, 99) == []
    await spilled(journal)
    assert await collect(journal, 4) == [(4, STDERR, b"e"), (5, STDOUT, b"f")]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    parts=st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.integers(1, 100_000)), max_size=20),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_range_reads_back(tmp_path: Path, parts: list[tuple[int, int]], cuts: tuple[float, float]) -> None:
    async def check() -> None:
        async with JournalStore(tmp_path, 1024 * BLOCK_BYTES) as store:
            journal = Journal(store, 1 << 30)
            whole = bytearray()
            for index, (stream, size) in enumerate(parts):
                data = bytes([index]) * size
                whole += data
                journal.append(stream, data)
            assert journal.end == len(whole)
            journal.finish()
            first, last = sorted(int(cut * len(whole)) for cut in cuts)
            for _ in range(2):
                at = first
                for record in await collect(journal, first, last):
                    assert record[0] == at
                    at += len(record[2])
                    assert record[2] == whole[record[0] : at]
                assert at == last
                await spilled(journal)

    asyncio.run(check())


async def test_the_oldest_goes_first_and_offsets_stay(store: JournalStore) -> None:
    journal = Journal(store, 4 * BLOCK_BYTES)
    chunk = b"x" * 10_000
    for _ in range(100):
        journal.append(STDOUT, chunk)
        await spilled(journal)
    assert journal.end == 1_000_000
    assert 1_000_000 - 4 * BLOCK_BYTES <= journal.start < 1_000_000 - 2 * BLOCK_BYTES
    records = await collect(journal, 0, journal.end)
    assert records[0][0] == journal.start
    assert sum(len(record[2]) for record in records) == journal.end - journal.start


async def test_followers_see_the_same_bytes_and_end_with_it(store: JournalStore) -> None:
    journal = Journal(store, 1 << 30)
    followers = [asyncio.ensure_future(collect(journal)) for _ in range(10)]
    expected = bytearray()
    for number in range(2000):
        data = b"%d\n" % number * (number % 50 + 1)
        journal.append(STDOUT if number % 3 else STDERR, data)
        expected += data
        if number % 100 == 0:
            await asyncio.sleep(0)
        if journal.full:
            await journal.room()
    journal.finish()
    for records in await asyncio.gather(*followers):
        assert b"".join(record[2] for record in records) == expected


async def test_a_follower_that_was_overtaken_goes_on_with_what_is_kept(store: JournalStore) -> None:
    journal = Journal(store, 2 * BLOCK_BYTES)
    reader = journal.records()
    journal.append(STDOUT, b"first")
    assert (await anext(reader)).data == b"first"
    for _ in range(100):
        journal.append(STDOUT, b"y" * 10_000)
        await spilled(journal)
    journal.finish()
    rest = [record async for record in reader]
    gaps = [b.offset - a.offset - len(a.data) for a, b in itertools.pairwise(rest) if b.offset > a.offset + len(a.data)]
    assert len(gaps) == 1
    assert journal.start in {record.offset for record in rest}
    assert rest[-1].offset + len(rest[-1].data) == journal.end


async def test_when_the_store_is_full_ended_journals_give_way(tmp_path: Path) -> None:
    async with JournalStore(tmp_path, 4 * BLOCK_BYTES) as store:
        old, new = Journal(store, 1 << 30), Journal(store, 1 << 30)
        old.append(STDOUT, b"a" * 3 * BLOCK_BYTES)
        old.finish()
        await spilled(old)
        assert await collect(old, 0, old.end) != []
        new.append(STDOUT, b"b" * 3 * BLOCK_BYTES)
        new.finish()
        await spilled(new)
        assert await collect(old, 0, old.end) == []
        assert old.end == 3 * BLOCK_BYTES
        assert sum(len(record[2]) for record in await collect(new)) == 3 * BLOCK_BYTES


async def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    async with JournalStore(tmp_path, 64 * BLOCK_BYTES) as store:
        journal = Journal(store, 1 << 30)
        journal.append(STDOUT, b"a" * 500_000)
        journal.finish()
        await spilled(journal)
        assert list(tmp_path.iterdir()) == []

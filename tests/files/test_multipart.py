"""The multipart reader, against every way a body can be cut into chunks or cut short."""

import asyncio
import re
from collections.abc import Awaitable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolbox.errors import BadRequest
from toolbox.files.multipart import MAX_HEADER, MultipartReader, Part, Truncated, boundary_of

BOUNDARY = b"XbX"
LIKE_A_BOUNDARY = [b"\r\n--XbX", b"\r\n--XbXy", b"--XbX", b"\r", b"\n", b"\r\n", b"-", b"\r\n--Xb", b"x", b"\r\n--XbX-"]
NOT_A_DELIMITER = re.compile(rb"\r\n--XbX(--)?[ \t]*(\r\n|$)")

contents = st.lists(st.sampled_from(LIKE_A_BOUNDARY), max_size=12).map(b"".join)


def honest(content: bytes) -> bool:
    """Tell whether a client may send this content with this boundary."""
    return NOT_A_DELIMITER.search(b"\r\n" + content + b"\r\n") is None


def body_of(parts: Iterable[bytes]) -> bytes:
    head = b'Content-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
    return b"".join(b"--XbX\r\n" + head + part + b"\r\n" for part in parts) + b"--XbX--\r\n"


def reader_of(chunks: Iterable[bytes], boundary: bytes = BOUNDARY) -> MultipartReader:
    left = iter([chunk for chunk in chunks if chunk])

    async def read() -> bytes:
        return next(left, b"")

    return MultipartReader(read, boundary)


async def read_all(reader: MultipartReader) -> list[tuple[Part, bytes]]:
    parts = []
    while (part := await reader.next_part()) is not None:
        content = b""
        while chunk := await reader.read_chunk():
            content += chunk
        parts.append((part, content))
    return parts


def run(coroutine: Awaitable[list[tuple[Part, bytes]]]) -> list[tuple[Part, bytes]]:
    async def main() -> list[tuple[Part, bytes]]:
        return await coroutine

    return asyncio.run(main())


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    return [body[start:stop] for start, stop in pairwise(places)]


@given(st.lists(contents.filter(honest), max_size=5), st.lists(st.integers(min_value=0), max_size=40))
def test_contents_arrive_whatever_is_in_them_and_however_they_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    assert [content for _, content in run(read_all(reader_of(split(body_of(parts), cuts))))] == parts


@given(st.lists(contents.filter(honest), min_size=1, max_size=3))
def test_byte_by_byte(parts: list[bytes]) -> None:
    chunks = [bytes([byte]) for byte in body_of(parts)]
    assert [content for _, content in run(read_all(reader_of(chunks)))] == parts


def test_a_body_cut_anywhere_is_truncated_and_never_shorter() -> None:
    body = body_of([b"first\r\n--XbXy", b"", b"\r\nlast\r"])
    complete = len(body) - len(b"\r\n")  # the line end after the last delimiter may be missing
    for stop in range(complete):
        with pytest.raises(Truncated):
            run(read_all(reader_of([body[:stop]])))
    for stop in range(complete, len(body) + 1):
        if body[:stop].endswith(b"\r"):
            continue  # half a line end: neither the end nor a line end
        assert len(run(read_all(reader_of([body[:stop]])))) == 3


def test_preamble_epilogue_padding_and_a_part_without_header() -> None:
    body = b"hello\r\n--XbX \t\r\n\r\nplain\r\n--XbX--  \r\nbye\r\n--XbX\r\n"
    assert run(read_all(reader_of([body]))) == [(Part("", None), b"plain")]


def test_an_empty_form_has_no_parts() -> None:
    assert run(read_all(reader_of([b"--XbX--\r\n"]))) == []
    assert run(read_all(reader_of([b"--XbX--"]))) == []


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (b'content-disposition:form-data;name="a b";filename="c;d"', Part("a b", "c;d")),
        (b'Content-Type: x/y\r\nContent-Disposition: form-data; name="q\\"q"', Part('q"q', None)),
        ('Content-Disposition: form-data; name="files[ü].path"'.encode(), Part("files[ü].path", None)),
        (b"Content-Disposition: form-data; name=bare; filename=x", Part("bare", "x")),
        (b"X-Other: 1", Part("", None)),
    ],
)
def test_headers(header: bytes, part: Part) -> None:
    assert run(read_all(reader_of([b"--XbX\r\n" + header + b"\r\n\r\nc\r\n--XbX--"]))) == [(part, b"c")]


def test_a_header_without_end_is_refused_before_it_is_held() -> None:
    chunks = [b"--XbX\r\nX: ", *[b"y" * 1000] * (MAX_HEADER // 1000 + 1), b"\r\n\r\n--XbX--"]
    with pytest.raises(BadRequest, match="too long"):
        run(read_all(reader_of(chunks)))


def test_parts_that_are_not_read_are_passed_over() -> None:
    async def main() -> list[str | None]:
        reader = reader_of([body_of([b"a" * 100, b"b", b"ccc"])])
        await reader.next_part()
        await reader.next_part()
        texts = [await reader.read_text(1)]
        await reader.next_part()
        return [*texts, await reader.read_text(2)]

    assert asyncio.run(main()) == ["b", None]


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/mixed; boundary=abc", None),
        ("text/plain; boundary=abc", None),
        ("", None),
        ("multipart/form-data; boundary=" + "x" * 201, None),
    ],
)
def test_boundary_of(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary


def test_memory_is_bounded_by_the_chunk() -> None:
    chunk = bytes(1 << 16)
    reader = reader_of([body_of([b""]).partition(b"\r\n\r\n")[0] + b"\r\n\r\n", *[chunk] * 64, b"\r\n--XbX--"])

    async def main() -> int:
        await reader.next_part()
        total = 0
        while piece := await reader.read_chunk():
            assert len(piece) <= len(chunk)
            total += len(piece)
        return total

    assert asyncio.run(main()) == 64 * len(chunk)

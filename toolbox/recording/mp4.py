"""As much of fragmented MP4 (ISO/IEC 14496-12) as tells how long a recording is, finished or not."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = 8
_LARGEST_HEAD = 1024 * 1024
"""Bytes of a `moov` or `moof`; what claims more is not ours."""
_CONTAINERS = (b"moov", b"trak", b"mdia", b"mvex", b"traf")
_DEFAULT_BASE = 0x01  # tfhd: base_data_offset follows
_DESCRIPTION = 0x02  # tfhd: sample_description_index follows
_DEFAULT_DURATION = 0x08  # tfhd: default_sample_duration follows
_TRUN_OFFSET, _TRUN_FIRST_FLAGS, _TRUN_DURATION = 0x001, 0x004, 0x100
_TRUN_FIELDS = (_TRUN_DURATION, 0x200, 0x400, 0x800)


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a file's whole fragments reach."""

    seconds: float
    end: int
    """Offset behind the last whole one; what follows was cut short."""


def measure(descriptor: int) -> Extent:
    """Return the extent of an open file. What is not fragmented MP4 has none."""
    try:
        return _measure(descriptor)
    except (struct.error, IndexError):
        return Extent(0.0, 0)


def _measure(descriptor: int) -> Extent:
    size, offset, end = os.fstat(descriptor).st_size, 0, 0
    scale, default, ticks, reached = 0, 0, 0, 0
    while (box := _box_at(descriptor, offset, size)) is not None:
        kind, start, offset = box
        if kind == b"moov":
            scale, default = _timing(_head(descriptor, start, offset))
        elif kind == b"moof":
            reached = _end_of_fragment(_head(descriptor, start, offset), default)
            continue  # not whole without the samples that follow
        elif kind == b"mdat":
            ticks = reached
        end = offset
    return Extent(ticks / scale if scale else 0.0, end)


def _box_at(descriptor: int, offset: int, size: int) -> tuple[bytes, int, int] | None:
    """Return the kind of a box, and where its content starts and stops; None if it is not whole."""
    head = os.pread(descriptor, 16, offset)
    if len(head) < _HEADER:
        return None
    length, kind = struct.unpack_from(">I4s", head)
    start = offset + _HEADER
    if length == 1 and len(head) == 2 * _HEADER:
        (length,) = struct.unpack_from(">Q", head, _HEADER)
        start += _HEADER
    if length < start - offset or offset + length > size:
        return None
    return kind, start, offset + length


def _head(descriptor: int, start: int, stop: int) -> bytes:
    return os.pread(descriptor, min(stop - start, _LARGEST_HEAD), start)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the boxes of a content, those in containers too."""
    offset = 0
    while offset + _HEADER <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        if length < _HEADER:
            return
        content = data[offset + _HEADER : offset + length]
        if kind in _CONTAINERS:
            yield from _boxes(content)
        else:
            yield kind, content
        offset += length


def _timing(moov: bytes) -> tuple[int, int]:
    """Return ticks per second, and the ticks of a sample that does not say."""
    scale = default = 0
    for kind, content in _boxes(moov):
        if kind == b"mdhd":
            (scale,) = struct.unpack_from(">I", content, 20 if content[0] else 12)
        elif kind == b"trex":
            (default,) = struct.unpack_from(">I", content, 12)
    return scale, default


def _end_of_fragment(moof: bytes, default: int) -> int:
    """Return when the last sample of a fragment ends, in ticks."""
    ticks = 0
    for kind, content in _boxes(moof):
        flags = int.from_bytes(content[1:4], "big")
        if kind == b"tfhd" and flags & _DEFAULT_DURATION:
            at = 8 + (8 if flags & _DEFAULT_BASE else 0) + (4 if flags & _DESCRIPTION else 0)
            (default,) = struct.unpack_from(">I", content, at)
        elif kind == b"tfdt":
            (ticks,) = struct.unpack_from(">Q" if content[0] else ">I", content, 4)
        elif kind == b"trun":
            ticks += _ticks_of_run(content, flags, default)
    return ticks


def _ticks_of_run(trun: bytes, flags: int, default: int) -> int:
    count = int.from_bytes(trun[4:8], "big")
    if not flags & _TRUN_DURATION:
        return count * default
    at = 8 + (4 if flags & _TRUN_OFFSET else 0) + (4 if flags & _TRUN_FIRST_FLAGS else 0)
    words = sum(1 for field in _TRUN_FIELDS if flags & field)
    samples = struct.iter_unpack(f">{words}I", trun[at : at + 4 * words * count])
    return sum(sample[0] for sample in samples)

"""Tar archives taken apart as their bytes come, without waiting for any."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from toolbox.errors import BadRequest

if TYPE_CHECKING:  # loaded when the first archive comes
    from tarfile import TarInfo

FILE, LINK, SYMLINK, DIRECTORY, FIFO = b"0", b"1", b"2", b"5", b"6"
FILES = (FILE, b"\0", b"7")
"""Types of regular files: of today, of old, contiguous."""

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_NANO = 1_000_000_000
_MAX_EXTENDED = 1024 * 1024
_PAX, _PAX_OF_SOLARIS, _PAX_FOR_ALL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"X", b"g", b"L", b"K", b"S"
_EXTENSIONS = (_PAX, _PAX_OF_SOLARIS, _PAX_FOR_ALL, _LONG_NAME, _LONG_LINK)


class Member(NamedTuple):
    """One entry of an archive; `kind` is the type letter of the format."""

    name: str
    kind: bytes
    link: str
    size: int
    mode: int
    uid: int
    gid: int
    modified_ns: int

    @property
    def is_file(self) -> bool:
        """Tell whether it is a regular file."""
        return self.kind in FILES


class Sink(Protocol):
    """What takes the members of an archive, one after another."""

    def begin(self, member: Member) -> None:
        """A member begins."""

    def write(self, data: bytes) -> None:
        """More of the content of the member, a regular file."""

    def end(self) -> None:
        """The member is complete."""


class TarReader:
    """Reads the formats of tar programs (ustar, GNU, pax) and hands the members to `sink`.

    Methods raise `BadRequest` for what is no archive, is cut, or is a sparse file, and what the sink raises.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._head = bytearray()
        self._left = 0
        self._padding = 0
        self._extension: tuple[bytes, bytearray] | None = None
        self._global: dict[str, str] = {}
        self._next: dict[str, str] = {}
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        at = 0
        while at < len(data) and not self._ended:
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                self._content(piece)
                if not self._left:
                    self._complete()
            elif self._padding:
                piece = data[at : at + self._padding]
                self._padding -= len(piece)
            else:
                piece = data[at : at + _BLOCK - len(self._head)]
                self._head += piece
                if len(self._head) == _BLOCK:
                    block, self._head = bytes(self._head), bytearray()
                    self._header(block)
            at += len(piece)

    def close(self) -> None:
        """The bytes are at their end."""
        if not self._ended:
            raise BadRequest("the archive is cut: it has no end mark")

    def _content(self, piece: bytes) -> None:
        if self._extension is None:
            self._sink.write(piece)
        else:
            self._extension[1].extend(piece)

    def _complete(self) -> None:
        if self._extension is None:
            self._sink.end()
            return
        (kind, data), self._extension = self._extension, None
        if kind == _LONG_NAME:
            self._next["path"] = _text(bytes(data).rstrip(b"\0"))
        elif kind == _LONG_LINK:
            self._next["linkpath"] = _text(bytes(data).rstrip(b"\0"))
        elif kind == _PAX_FOR_ALL:
            self._global |= _records(bytes(data))
        else:
            self._next |= _records(bytes(data))

    def _header(self, block: bytes) -> None:
        if block == _ZEROS:
            self._ended = True
            return
        import tarfile  # noqa: PLC0415 -- only for archives

        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise BadRequest(f"not a tar archive, or a damaged one: {error}") from None
        self._padding = -info.size % _BLOCK
        if info.type in _EXTENSIONS:
            if not 0 < info.size <= _MAX_EXTENDED:
                raise BadRequest("an extended header of the archive is empty or over 1 MiB")
            self._left, self._extension = info.size, (info.type, bytearray())
            return
        extended, self._next = self._global | self._next, {}
        if info.type == _SPARSE or any(key.startswith("GNU.sparse") for key in extended):
            raise BadRequest(f"sparse files in archives are not understood: {info.name!r}")
        member = _member(info, extended)
        self._left, self._padding = member.size, -member.size % _BLOCK
        self._sink.begin(member)
        if not self._left:
            self._sink.end()


def _member(info: "TarInfo", extended: dict[str, str]) -> Member:
    try:
        size = int(extended.get("size", info.size)) if info.type in FILES else 0
        uid, gid = int(extended.get("uid", info.uid)), int(extended.get("gid", info.gid))
        modified_ns = _nanoseconds(extended.get("mtime", str(info.mtime)))
    except ValueError:
        raise BadRequest(f"the archive is damaged: a number is none, in the header of {info.name!r}") from None
    if size < 0:
        raise BadRequest(f"the archive is damaged: {info.name!r} has a negative size")
    name, link = extended.get("path", info.name), extended.get("linkpath", info.linkname)
    return Member(name, info.type, link, size, info.mode & 0o7777, uid, gid, modified_ns)


def _nanoseconds(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    whole = int(seconds or "0") * _NANO
    part = int(fraction[:9].ljust(9, "0")) if fraction else 0
    return whole - part if text.startswith("-") else whole + part


def _records(data: bytes) -> dict[str, str]:
    """Return the records `length key=value` of an extended header."""
    found = {}
    at = 0
    while at < len(data):
        digits, _, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : at + length].partition(b"=")
        if length <= 0 or at + length > len(data) or not equals or not value.endswith(b"\n"):
            raise BadRequest("the archive is damaged: an extended header")
        found[_text(key)] = _text(value[:-1])
        at += length
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

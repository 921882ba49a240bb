"""Wire models of `/files`."""

from typing import Annotated, Literal

import msgspec

from toolbox.web.wire import Model, Text


class FileInfo(Model):
    """What there is to know about one file or directory."""

    name: str
    """Base name; what is not UTF-8 in it is replaced by U+FFFD."""
    size: int
    mode: str
    """Type letters and permissions in Go's notation, for example `drwxr-xr-x`."""
    mod_time: str
    modified_at: str
    is_dir: bool
    owner: str
    """User id in digits."""
    group: str
    permissions: str
    """The low nine mode bits as four octal digits."""
    path: str
    """Absolute path; every route takes it back, whatever bytes are in it."""


class PathQuery(Model):
    """Names one file."""

    path: Text


class ListQuery(Model):
    """A directory to list."""

    path: Text = "."
    depth: Annotated[int, msgspec.Meta(ge=1)] = 1


class FolderQuery(Model):
    """A directory to create."""

    path: Text
    mode: str = "0755"


class DeleteQuery(Model):
    """A file or directory to delete."""

    path: Text
    recursive: str = "false"
    """Only the word `true` counts."""


class MoveQuery(Model):
    """A file or directory and its new name."""

    source: Text
    destination: Text


class PermissionsQuery(Model):
    """New permissions; what is left out stays."""

    path: Text
    mode: str = ""
    owner: str = ""
    group: str = ""


class DownloadRequest(Model):
    """Files to send in one answer."""

    paths: Annotated[list[str], msgspec.Meta(min_length=1)]


class UploadedFile(Model):
    """One file that arrived."""

    path: str
    bytes: int


class BulkUploadAnswer(Model):
    """All files that arrived."""

    files: list[UploadedFile]


class UploadAnswer(Model):
    """The file that arrived."""

    name: str
    path: str
    """As requested."""
    type: str = "file"


class SearchQuery(Model):
    """What to look for, and where; with `limit` the answer is one page."""

    path: Text
    pattern: Text
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class SearchAnswer(Model):
    """Paths with a matching base name, in lexical order."""

    files: list[str]


class FoundLine(Model, omit_defaults=True):
    """One line that contains the text."""

    file: str
    line: int
    """Counted from 1."""
    content: str
    """The line without its end; of a longer one than 64 KiB, its beginning."""
    truncated: bool = False
    """`content` is only the line's beginning."""


class ReplaceRequest(Model):
    """Files in which every `pattern`, plain text, becomes `newValue`."""

    files: list[str]
    pattern: Text
    new_value: str


class ReplaceResult(Model, omit_defaults=True):
    """How it went with one file."""

    file: str
    success: bool
    error: str | None = None


class WatchQuery(Model):
    """What to watch. Patterns are globs, comma-separated, for base names or (with a slash) for relative paths."""

    path: Text = "."
    recursive: bool = True
    include: str = ""
    """Only these are reported."""
    exclude: str = ""
    """These are neither reported nor, if directories, watched."""
    window_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 50
    """Events are collected for so long, and those of one path told as one."""


class FileEvent(Model, omit_defaults=True):
    """Something that happened in a watched directory."""

    type: str
    """`created` (also by a rename from outside), `modified`, `deleted`, `moved`, or `overflow`: events were lost."""
    path: str
    is_dir: bool
    old_path: str | None = None
    """Where it was before, of `moved`."""


class WaitQuery(Model):
    """A file, and the state to wait for."""

    path: Text
    until: Literal["exists", "changed", "gone"] = "exists"
    since: str = ""
    """The `modifiedAt` that the caller knows: with `changed`, any other one counts."""
    timeout: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30
    """Seconds."""


class WaitAnswer(Model):
    """The state has been reached."""

    state: str
    file: FileInfo | None = None
    """The file as it is now, unless it is gone."""


class ArchiveQuery(Model):
    """A directory or file to pack."""

    path: Text
    format: Literal["tar", "tar.gz", "tar.zst"] = "tar"


class UnpackQuery(Model):
    """Where to unpack an archive."""

    path: Text
    same_owner: bool = True
    """Keep the owner ids of the archive, where the daemon may give files away."""


class UnpackAnswer(Model):
    """What was unpacked."""

    path: str
    """As requested."""
    members: int
    bytes: int

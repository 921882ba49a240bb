"""File URIs and paths.

Clients write `file://` and a path as they have it: `file://src/a.py` is relative, and whether it is percent-encoded
is for the file system to say.
"""

import os
from urllib.parse import quote_from_bytes, unquote_to_bytes

from toolbox import paths
from toolbox.errors import BadRequest

_SCHEME = "file://"


def uri_of(path: str) -> str:
    """Return the URI of an absolute path, as it comes from `os`."""
    return _SCHEME + quote_from_bytes(os.fsencode(path))


def path_of(uri: str) -> str:
    """Return the path that a server's URI means; the URI itself if that is of another kind."""
    return os.fsdecode(unquote_to_bytes(uri.removeprefix(_SCHEME))) if uri.startswith(_SCHEME) else uri


def project_directory(path: str, work_dir: str) -> str:
    """Return the directory that a client means by `pathToProject`. Raises `InvalidPath`."""
    return _joined(work_dir, path.removeprefix(_SCHEME))


def possible_files(uri: str, project: str, work_dir: str) -> list[str]:
    """Return the paths that a client may mean by `uri`, the likelier ones first. Raises `InvalidPath`.

    Percent-encoded first, then as it stands; in the project first, then in the work dir.
    """
    text = uri.removeprefix(_SCHEME)
    names = dict.fromkeys((os.fsdecode(unquote_to_bytes(text)), text))
    return list(dict.fromkeys(_joined(base, name) for name in names for base in (project, work_dir)))


def find_file(uri: str, project: str, work_dir: str) -> str:
    """Return the first of the possible files that is there; it blocks. Raises `BadRequest` if there is none."""
    for path in possible_files(uri, project, work_dir):
        if os.path.isfile(path):
            return path
    raise BadRequest(f"no such file: {uri.removeprefix(_SCHEME)}")


def _joined(base: str, path: str) -> str:
    return os.path.normpath(os.path.join(base, paths.unescape(path)))

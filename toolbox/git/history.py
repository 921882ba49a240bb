"""Commits, from `git log`."""

from toolbox.git.models import Commit

_FIELDS = ("%H", "%an", "%ae", "%aI", "%B")
COMMAND = (
    "log",
    "-z",
    "--encoding=UTF-8",
    "--no-show-signature",
    "--no-color",
    f"--format=tformat:{'%x00'.join(_FIELDS)}",
)


def parse(output: bytes) -> list[Commit]:
    """Return the commits in the order in which git printed them."""
    # No field has a NUL in it, and one ends each commit.
    words = output.decode("utf-8", "replace").split("\0")[:-1]
    return [
        Commit(hash=hash_, author=author, email=email, timestamp=_zulu(when), message=message)
        for hash_, author, email, when, message in zip(*[iter(words)] * len(_FIELDS), strict=True)
    ]


def _zulu(when: str) -> str:
    """Return an RFC 3339 time as the contract writes UTC, whichever way this release of git does."""
    return when.removesuffix("+00:00") + "Z" if when.endswith("+00:00") else when

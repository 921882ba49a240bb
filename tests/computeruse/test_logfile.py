"""Log files of bounded size."""

import os
from pathlib import Path

from toolbox.computeruse.desktop.logfile import MAX_BYTES, LogFile


def test_a_file_is_rotated_under_its_writer(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "it.err")
    assert (file.text(), file.last_line()) == ("", "")
    descriptor = file.open()
    try:
        os.write(descriptor, b"first\n" + b"x" * MAX_BYTES + b"\nlast\n")
        file.trim()
        assert file.text().endswith("x\nlast\n")
        assert len(file.text()) == MAX_BYTES
        os.write(descriptor, b"new \xff\n\n")
        assert file.text().endswith("x\nlast\nnew \N{REPLACEMENT CHARACTER}\n\n")
        assert file.last_line() == "new \N{REPLACEMENT CHARACTER}"
    finally:
        os.close(descriptor)
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= 2 * MAX_BYTES

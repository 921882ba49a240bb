"""What a user of the published SDK does with the screen of the desktop image; fails when something is not as it should.

`python -m tests.image.use_desktop USER`: who the programs are to run as.
"""

import base64
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from daytona import Daytona, Sandbox, SessionExecuteRequest

T = TypeVar("T")
TEXT = "Grüße 日本語 한국어 😀"
PAGE = "<title>A page</title><button>Press</button>"


def main(user: str) -> None:
    """Type into a terminal, look at the screen, film it, and browse where the image has a browser."""
    daytona = Daytona()
    sandbox = daytona.create()
    assert sandbox.process.exec("id -un").result.strip() == user
    computer = sandbox.computer_use
    computer.start()
    states = {name: computer.get_process_status(name).running for name in ("xvfb", "xfce4", "x11vnc", "novnc")}
    assert all(states.values()), states
    programs = sandbox.process.exec("ps -eo user:32,comm").result
    for name in ("xfce4-session", "xfwm4", "xfce4-panel", "xfdesktop"):
        assert f"{user} {name}" in " ".join(programs.split()), programs

    film = computer.recording.start("film")
    terminal = "xfce4-terminal --disable-server --title=typing -e 'sh -c \"cat > typed\"'"
    run(sandbox, "terminal", terminal)
    eventually(lambda: active(sandbox, "typing"))
    computer.keyboard.type(TEXT + "\n")
    computer.keyboard.hotkey("ctrl+d")
    typed = eventually(lambda: sandbox.process.exec("cat typed").result if exists(sandbox, "typed") else "")
    assert typed == TEXT + "\n", typed
    look_for_letters(sandbox)
    picture = base64.b64decode(computer.screenshot.take_full_screen().screenshot or "")
    assert struct.unpack(">II", picture[16:24]) == (1024, 768)
    assert len(picture) > 10_000, "an empty screen"
    look_at_film(sandbox, film.id)
    if sandbox.process.exec("command -v chromium").exit_code == 0:
        browse(sandbox)
    computer.stop()
    sandbox.delete()


def run(sandbox: Sandbox, name: str, command: str) -> None:
    """Start a program on the desktop."""
    sandbox.process.create_session(name)
    sandbox.process.execute_session_command(name, SessionExecuteRequest(command=command, run_async=True))


def active(sandbox: Sandbox, title: str) -> bool:
    """Tell whether the window with this in its title is there and in front."""
    windows = sandbox.computer_use.display.get_windows().windows or []
    return any(title in (each.title or "") and each.is_active for each in windows)


def exists(sandbox: Sandbox, path: str) -> bool:
    """Tell whether a file is there and not empty."""
    return sandbox.process.exec(f"test -s {path}").exit_code == 0


def look_for_letters(sandbox: Sandbox) -> None:
    """Find a font for letters of each kind, as programs of the desktop do."""
    for language, letters in (("ja", "日"), ("ko", "한"), ("zh-cn", "汉"), ("und-zsye", "😀")):
        pattern = f":lang={language}:charset={ord(letters):x}"
        assert sandbox.process.exec(f"fc-list '{pattern}' family").result.strip(), f"no font for {language}"


def look_at_film(sandbox: Sandbox, film: str) -> None:
    """Finish a recording and download it."""
    recording = sandbox.computer_use.recording
    done = recording.stop(film)
    assert (done.status, (done.duration_seconds or 0) > 0) == ("completed", True), done
    with TemporaryDirectory() as directory:
        target = Path(directory, "film.mp4")
        recording.download(film, str(target))
        assert target.read_bytes()[4:8] == b"ftyp"


def browse(sandbox: Sandbox) -> None:
    """Open a page in the image's browser, and find what it shows by accessibility."""
    sandbox.fs.upload_file(PAGE.encode(), "page.html")
    run(sandbox, "browser", "chromium --force-renderer-accessibility file://$PWD/page.html")
    eventually(lambda: active(sandbox, "A page"))
    find = sandbox.computer_use.accessibility.find_nodes
    eventually(lambda: find(scope="all", role="push button", name="Press").matches)
    sandbox.process.delete_session("browser")


def eventually(look: Callable[[], T]) -> T:
    """Return what `look` finds, once it finds something."""
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline, "not found"
        time.sleep(0.2)
    return found


main(sys.argv[1])

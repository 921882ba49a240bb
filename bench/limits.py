"""What the machine itself takes, measured beside each row: no server can be faster, and what slows both cancels out."""

import os
import pty
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.client import Client
from bench.target import MB, Figures, Target, median_ms

_LARGE = 256 * 1024 * 1024
_FILES = 1000
_XTEST_MOTION, _XTEST_KEY, _XTEST_RELEASE = 6, 2, 3
_SHIFT_KEYCODE = 50  # on every keyboard that a virtual X server has


@contextmanager
def bare_server(*mode: str) -> Iterator[tuple[int, int]]:
    """Run a server that does the least; give its port and process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bare", *mode], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.communicate()


def request(_: Target) -> Figures:
    """One request to a server that answers always the same."""
    with bare_server("http") as (port, _pid):
        client = Client(f"http://127.0.0.1:{port}")
        figures = {"bare_request_ms": median_ms(lambda: client.call("GET", "/version"), 1000)}
        client.close()
        return figures


def _shell() -> None:
    subprocess.run(["/bin/bash", "-c", "echo hi"], stdout=subprocess.PIPE, check=True)


def shell(_: Target) -> Figures:
    """A fork, exec and wait of the shell."""
    return {"bare_shell_ms": median_ms(_shell, 200)}


def shell_rate(_: Target) -> Figures:
    """As many of these as the machine can do at once."""
    each, count = 50, 4

    def work() -> None:
        for _number in range(each):
            _shell()

    threads = [threading.Thread(target=work) for _ in range(count)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"bare_shell_per_s": each * count / (time.perf_counter() - started)}


def pipe(_: Target) -> Figures:
    """50 MB of a command read from its pipe."""
    command = ["/bin/bash", "-c", "head -c 50000000 /dev/zero | tr '\\0' x"]
    return {
        "bare_50mb_s": median_ms(lambda: subprocess.run(command, stdout=subprocess.PIPE, check=True), 3) / 1000,
    }


def transfers(target: Target) -> Figures:
    """256 MiB from a socket to a file, and from a file to a socket."""
    chunk, buffer = bytes(range(256)) * 4096, bytearray(1 << 20)
    with tempfile.TemporaryDirectory(dir=target.directory) as directory:
        file = f"{directory}/large"

        def up() -> None:
            with (
                bare_server("receive", file) as (port, _pid),
                socket.create_connection(("127.0.0.1", port)) as connection,
            ):
                started = time.perf_counter()
                for _chunk in range(_LARGE // len(chunk)):
                    connection.sendall(chunk)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(16)
                ups.append(time.perf_counter() - started)

        def down() -> None:
            with bare_server("send", file) as (port, _pid), socket.create_connection(("127.0.0.1", port)) as connection:
                started = time.perf_counter()
                while connection.recv_into(buffer):
                    pass
                downs.append(time.perf_counter() - started)

        ups: list[float] = []
        downs: list[float] = []
        for _round in range(5):
            up()
            down()
    return {
        "bare_receive_mb_per_s": _LARGE / MB / statistics.median(ups),
        "bare_send_mb_per_s": _LARGE / MB / statistics.median(downs),
    }


def directory_scan(target: Target) -> Figures:
    """Names, kinds and sizes of 10,000 files."""
    with tempfile.TemporaryDirectory(dir=target.directory) as directory:
        for number in range(10_000):
            Path(directory, str(number)).touch()
        return {"bare_list_ms": median_ms(lambda: [entry.stat() for entry in os.scandir(directory)], 5)}


@contextmanager
def _tree(target: Target) -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=target.directory) as directory:
        for number in range(20_000):
            file = Path(directory, f"d{number // 100}", f"f{number % 100:02}.txt")
            file.parent.mkdir(exist_ok=True)
            file.write_text("hello\nthe needle\n" if number % 100 == 0 else "hello world\n")
        yield directory


def walk(target: Target) -> Figures:
    """A walk through 20,000 files in 200 directories."""
    with _tree(target) as directory:
        return {"bare_walk_ms": median_ms(lambda: [len(files) for *_, files in os.walk(directory)], 9)}


def text_search(target: Target) -> Figures:
    """Ripgrep alone, for a text in 20,000 files."""
    program = shutil.which("rg", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "rg"
    with _tree(target) as directory:
        command = [program, "--no-ignore", "--fixed-strings", "needle", directory]
        return {
            "bare_find_ms": median_ms(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True), 9),
        }


def rewrite(target: Target) -> Figures:
    """Reading and rewriting 1,000 files, each by a new file in place of the old."""
    with tempfile.TemporaryDirectory(dir=target.directory) as directory:
        files = [Path(directory, str(number)) for number in range(_FILES)]
        for file in files:
            file.write_text("a one, and one more\n")

        def swap() -> None:
            for file in files:
                new = file.with_suffix(".new")
                new.write_bytes(file.read_bytes().replace(b"one", b"two"))
                new.rename(file)

        return {"bare_replace_ms": median_ms(swap, 9)}


@contextmanager
def _talking(*command: str) -> Iterator[Callable[[bytes], bytes]]:
    """Give a function that sends a line to a program and returns the line that it answers."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    reading, writing = process.stdout, process.stdin
    assert reading is not None
    assert writing is not None

    def ask(line: bytes) -> bytes:
        writing.write(line)
        writing.flush()
        return reading.readline()

    try:
        yield ask
    finally:
        process.communicate()


def python_line(_: Target) -> Figures:
    """A line of Python in a process that is there."""
    with _talking(sys.executable, "-u", "-c", "import sys\nfor line in sys.stdin: exec(line)") as ask:
        return {"bare_python_line_ms": median_ms(lambda: ask(b"print(1)\n"), 500)}


def python_start(_: Target) -> Figures:
    """The start of an interpreter that prints."""
    command = [sys.executable, "-c", "print(1)"]
    return {"bare_python_start_ms": median_ms(lambda: subprocess.run(command, stdout=subprocess.PIPE, check=True), 20)}


@contextmanager
def _terminal(script: str) -> Iterator[int]:
    """Run a script in a terminal of its own; give the terminal's other side once the script says `ready`."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", f"stty raw -echo; echo ready; {script}"])
    try:
        text = b""
        while b"ready" not in text:
            text += os.read(master, 100)
        yield master
    finally:
        os.close(master)
        os.waitpid(pid, 0)


def terminal_echo(_: Target) -> Figures:
    """A character to a program in a terminal and back."""
    with _terminal("exec cat") as master:

        def type_one() -> None:
            os.write(master, b"x")
            os.read(master, 100)

        return {"bare_pty_echo_ms": median_ms(type_one, 500)}


def terminal_output(_: Target) -> Figures:
    """100 MB printed to a terminal and read by a loop."""
    with _terminal("read x; head -c 100000000 /dev/zero | tr '\\0' x; read x") as master:
        os.write(master, b"\n")
        started, left = time.perf_counter(), 100 * MB
        while left > 0:
            left -= len(os.read(master, 65536))
        return {"bare_pty_mb_per_s": 100 / (time.perf_counter() - started)}


def aiohttp_start(_: Target) -> Figures:
    """The start of a server with one route on aiohttp, to its first answer, and its memory."""
    durations, memory = [], 0.0
    for _round in range(5):
        started = time.perf_counter()
        with bare_server("aiohttp") as (port, pid):
            client = Client(f"http://127.0.0.1:{port}")
            client.call("GET", "/version")
            durations.append(time.perf_counter() - started)
            client.close()
            memory = resident_mb(pid)
    return {"bare_start_ms": statistics.median(durations) * 1000, "bare_memory_mb": memory}


def resident_mb(pid: int) -> float:
    """Return the memory that a process has, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


@contextmanager
def _display(target: Target) -> Iterator[str]:
    """Start the desktop as rows do, and give the display as a program in the sandbox sees it."""
    client = target.client()
    client.json("POST", "/computeruse/start", {})
    try:
        for name in ("DISPLAY", "XAUTHORITY"):
            value = client.execute(f"printf %s ${name}")["result"]
            if value:
                os.environ[name] = value
        yield os.environ["DISPLAY"]
    finally:
        client.json("POST", "/computeruse/stop", {})


def grab(target: Target) -> Figures:
    """The pixels of the whole screen and of a region, through shared memory."""
    import mss

    with _display(target) as display, mss.MSS(display=display) as screen:
        region = {"left": 100, "top": 100, "width": 800, "height": 600}
        whole = screen.monitors[0]
        return {
            "bare_grab_ms": median_ms(lambda: screen.grab(whole), 50),
            "bare_grab_region_ms": median_ms(lambda: screen.grab(region), 50),
        }


def x_input(target: Target) -> Figures:
    """A motion of the pointer, 100 strokes of a key, and a question about windows, through an X connection."""
    from Xlib.display import Display
    from Xlib.ext import xtest

    with _display(target) as name:
        display = Display(name)
        root = display.screen().root
        clients = display.intern_atom("_NET_CLIENT_LIST")

        def move() -> None:
            xtest.fake_input(display, _XTEST_MOTION, x=random.randrange(200, 400), y=200)
            display.sync()

        def strokes() -> None:
            for _ in range(100):
                xtest.fake_input(display, _XTEST_KEY, _SHIFT_KEYCODE)
                xtest.fake_input(display, _XTEST_RELEASE, _SHIFT_KEYCODE)
            display.sync()

        def windows() -> None:
            listed = root.get_full_property(clients, 0)
            for each in listed.value if listed is not None else []:
                window = display.create_resource_object("window", each)
                window.get_wm_name()
                window.get_geometry()

        figures = {
            "bare_motion_ms": median_ms(move, 200),
            "bare_type_100_ms": median_ms(strokes, 50),
            "bare_windows_ms": median_ms(windows, 100),
        }
        display.close()
        return figures


BESIDE: dict[str, tuple[Callable[[Target], Figures], ...]] = {
    "version": (request,),
    "execute": (shell,),
    "execute_rate": (shell_rate,),
    "execute_large": (pipe,),
    "transfer_large": (transfers,),
    "listing": (directory_scan,),
    "search_names": (walk,),
    "find_text": (text_search,),
    "replace_text": (rewrite,),
    "interpreter_run": (python_line,),
    "interpreter_contexts": (python_start,),
    "pty_echo": (terminal_echo,),
    "pty_throughput": (terminal_output,),
    "mouse": (x_input,),
    "screenshots": (grab,),
}
"""Row -> the limits that are measured right after it."""

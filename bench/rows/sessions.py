"""Sessions and terminals."""

import statistics
import time

from bench.target import MB, Figures, Target, median_ms, session, terminal


def pty_echo(target: Target) -> Figures:
    """One typed character, until it is shown."""
    with terminal(target) as connection:
        connection.send(b"exec sh -c \"stty raw -echo; echo read''y; exec cat\"\n")
        connection.receive_until(b"ready\n")

        def type_one() -> None:
            connection.send(b"x")
            connection.receive_until(b"x")

        return {"pty_echo_ms": median_ms(type_one, 500)}


def pty_throughput(target: Target) -> Figures:
    """100 MB printed to a terminal."""
    with terminal(target) as connection:
        script = b"stty raw -echo; echo read''y; read x; head -c 100000000 /dev/zero | tr '\\0' x; echo do''ne; read x"
        connection.send(b'exec sh -c "%s"\n' % script)
        connection.receive_until(b"ready\n")
        started = time.perf_counter()
        connection.send(b"\n")
        count = connection.receive_until(b"done\n")
        return {"pty_mb_per_s": count / MB / (time.perf_counter() - started)}


def session_execute(target: Target) -> Figures:
    """`echo hi` in a session, waited for."""
    with session(target) as (run, _):
        return {"session_execute_ms": median_ms(lambda: run("echo hi"), 200)}


def session_follow(target: Target) -> Figures:
    """From starting a command to its first followed byte, connection included; and 500 MB followed."""
    durations = []
    for _ in range(30):
        with session(target) as (run, follow):
            run("true")
            started = time.perf_counter()
            connection = follow("echo hi; read x")
            connection.receive()
            durations.append(time.perf_counter() - started)
            connection.close()
    with session(target) as (_, follow):
        started = time.perf_counter()
        connection = follow("yes | head -c 500000000; echo; echo done")
        count = connection.receive_until(b"done\n")
        return {
            "session_first_byte_ms": statistics.median(durations) * 1000,
            "session_follow_mb_per_s": count / MB / (time.perf_counter() - started),
        }

"""The code interpreter."""

import json
import statistics
import threading
import time

from bench.client import Client
from bench.target import Figures, Target, median_ms
from bench.websocket import WebSocket


def _interpret(target: Target, code: str, context: str | None = None) -> int:
    """Run code to its end; return how many bytes the messages had."""
    connection = WebSocket(target.url, target.token, "/process/interpreter/execute")
    connection.send(json.dumps({"code": code, **({"contextId": context} if context else {})}).encode())
    count, last = 0, b""
    while (payload := connection.receive()) is not None:
        count, last = count + len(payload), payload
    connection.close()
    if b'"completed"' not in last:
        raise RuntimeError(f"{code}: {last!r}")
    return count


def _new_context(target: Target, client: Client) -> str:
    """Make a context and run its first code."""
    context: str = client.json("POST", "/process/interpreter/context", {})["id"]
    _interpret(target, "print(1)", context)
    return context


def interpreter_run(target: Target) -> Figures:
    """Code in the default context, one run after another, each with a connection of its own."""
    return {"interpreter_run_ms": median_ms(lambda: _interpret(target, "print(1)"), 200)}


def interpreter_contexts(target: Target) -> Figures:
    """New contexts up to the end of their first run: one, with time for a spare kernel before it, and five at once."""
    client, durations, made = target.client(), [], []
    made.append(_new_context(target, client))
    for _ in range(7):
        time.sleep(1)
        started = time.perf_counter()
        made.append(_new_context(target, client))
        durations.append((time.perf_counter() - started) * 1000)
    time.sleep(1)
    started = time.perf_counter()
    threads = [threading.Thread(target=lambda: made.append(_new_context(target, target.client()))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    burst = (time.perf_counter() - started) * 1000
    for context in made:
        client.call("DELETE", f"/process/interpreter/context/{context}")
    return {"interpreter_context_ms": statistics.median(durations), "interpreter_burst_of_5_ms": burst}


def interpreter_output(target: Target) -> Figures:
    """100 MB printed in lines of 100 bytes, and in blocks."""
    figures = {}
    for name, code in (
        ("lines", "for _ in range(1_000_000): print('x' * 99)"),
        ("blocks", "for _ in range(100): print('x' * 999_999)"),
    ):
        started = time.perf_counter()
        _interpret(target, code)
        figures[f"interpreter_{name}_mb_s"] = 100 / (time.perf_counter() - started)
    return figures

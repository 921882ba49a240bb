"""The desktop: its start, screenshots, input, windows, accessibility, recordings."""

import json
import statistics
import threading
import time
from typing import Any

from bench.client import Client
from bench.target import Figures, Target, median_ms, session, started_desktop


def desktop(target: Target) -> Figures:
    """The desktop started, asked about, and stopped."""
    client, starts, stops = target.client(), [], []
    for _ in range(7):
        started = time.perf_counter()
        client.json("POST", "/computeruse/start", {})
        starts.append(time.perf_counter() - started)
        status = median_ms(lambda: client.call("GET", "/computeruse/process-status"), 100)
        started = time.perf_counter()
        client.json("POST", "/computeruse/stop", {})
        stops.append(time.perf_counter() - started)
    return {
        "desktop_start_ms": statistics.median(starts) * 1000,
        "desktop_start_least_ms": min(starts) * 1000,
        "desktop_stop_ms": statistics.median(stops) * 1000,
        "desktop_status_ms": status,
    }


def accessibility(target: Target) -> Figures:
    """The whole accessibility tree of a desktop with an editor, how many nodes it has, and a search in it."""
    client = target.client()
    client.call("POST", "/computeruse/start")
    everything = {"scope": "all", "limit": 5000}
    text = {"scope": "all", "role": "text", "states": ["multi_line", "showing"]}

    def find(filters: dict[str, Any]) -> list[Any]:
        return client.json("POST", "/computeruse/a11y/find", filters)["matches"] or []

    with session(target) as (run, _):
        run("mousepad --disable-server", run_async=True)
        deadline = time.monotonic() + 30
        while not find(text):
            if time.monotonic() > deadline:
                raise RuntimeError("the editor does not show its text: is mousepad there?")
            time.sleep(0.1)
        figures = {
            "a11y_nodes": float(len(find(everything))),
            "a11y_tree_ms": median_ms(lambda: client.call("GET", "/computeruse/a11y/tree", query={"scope": "all"}), 50),
            "a11y_find_ms": median_ms(lambda: find(text), 50),
        }
    client.call("POST", "/computeruse/stop")
    return figures


def mouse(target: Target) -> Figures:
    """Move, click, and where the pointer is; the desktop is started for it if there is none, and stays."""
    client = target.client()
    client.json("POST", "/computeruse/start", {})
    place = {"x": 200, "y": 200}
    return {
        "mouse_position_ms": median_ms(lambda: client.call("GET", "/computeruse/mouse/position"), 200),
        "mouse_move_ms": median_ms(lambda: client.json("POST", "/computeruse/mouse/move", place), 200),
        "mouse_click_ms": median_ms(lambda: client.json("POST", "/computeruse/mouse/click", place), 200),
    }


def keyboard(target: Target) -> Figures:
    """A chord, 100 characters of which 15 need Shift, and 10 that no key has."""
    client = target.client()
    client.json("POST", "/computeruse/start", {})
    text, foreign = "The quick brown Fox! " * 5, "日本語テスト漢字入力"
    return {
        "hotkey_ms": median_ms(lambda: client.json("POST", "/computeruse/keyboard/hotkey", {"keys": "ctrl+b"}), 100),
        "type_100_ms": median_ms(lambda: client.json("POST", "/computeruse/keyboard/type", {"text": text}), 50),
        "type_10_unicode_ms": median_ms(
            lambda: client.json("POST", "/computeruse/keyboard/type", {"text": foreign}), 10
        ),
    }


def window_list(target: Target) -> Figures:
    """The windows of the desktop as it comes, and how many they are; and the monitors."""
    client = target.client()
    with started_desktop(client):
        return {
            "windows": json.loads(client.call("GET", "/computeruse/display/windows"))["count"],
            "windows_ms": median_ms(lambda: client.call("GET", "/computeruse/display/windows"), 200),
            "displays_ms": median_ms(lambda: client.call("GET", "/computeruse/display/info"), 200),
        }


_SCREENSHOT = "/computeruse/screenshot"
_JPEG = {"format": "jpeg", "quality": "80"}


def screenshots(target: Target) -> Figures:
    """The whole screen as PNG and as JPEG, and a region of 800 x 600."""
    client = target.client()
    region = {"x": "100", "y": "100", "width": "800", "height": "600"}
    with started_desktop(client):
        return {
            "screenshot_ms": median_ms(lambda: client.call("GET", _SCREENSHOT), 50),
            "screenshot_region_ms": median_ms(lambda: client.call("GET", f"{_SCREENSHOT}/region", query=region), 50),
            "screenshot_jpeg_ms": median_ms(lambda: client.call("GET", f"{_SCREENSHOT}/compressed", query=_JPEG), 50),
        }


def screenshot_rate(target: Target) -> Figures:
    """JPEG one after another, per second; and how long other requests take meanwhile, at 30 of them a second."""
    client = target.client()
    with started_desktop(client):
        single = median_ms(lambda: client.call("GET", f"{_SCREENSHOT}/compressed", query=_JPEG), 100)
        idle = _version_p99_ms(target, 2)
        ended = threading.Event()

        def shoot() -> None:
            due = time.perf_counter()
            while not ended.is_set():
                client.call("GET", f"{_SCREENSHOT}/compressed", query=_JPEG)
                due += 1 / 30
                time.sleep(max(0, due - time.perf_counter()))

        thread = threading.Thread(target=shoot)
        thread.start()
        busy = _version_p99_ms(target, 5)
        ended.set()
        thread.join()
    return {
        "screenshot_jpeg_per_s": 1000 / single,
        "version_p99_ms": idle,
        "version_p99_at_30_screenshots_per_s_ms": busy,
    }


def _version_p99_ms(target: Target, seconds: float) -> float:
    """Return what 99 of 100 requests for nothing stay below: how late the event loop comes to them."""
    client, durations, end = target.client(), [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        client.call("GET", "/version")
        durations.append(time.perf_counter() - started)
        time.sleep(0.002)
    return statistics.quantiles(durations, n=100)[-1] * 1000


def recording(target: Target) -> Figures:
    """A recording of the desktop, started and stopped, and what ffmpeg takes of a processor meanwhile."""
    client = target.client()
    client.json("POST", "/computeruse/start", None)
    starts, stops, loads = [], [], []
    try:
        for _ in range(7):
            started = time.perf_counter()
            begun = client.json("POST", "/computeruse/recordings/start", {"label": "bench"})
            starts.append((time.perf_counter() - started) * 1000)
            before = _ffmpeg_seconds(client)
            time.sleep(2)
            loads.append((_ffmpeg_seconds(client) - before) / 2 * 100)
            started = time.perf_counter()
            client.json("POST", "/computeruse/recordings/stop", {"id": begun["id"]})
            stops.append((time.perf_counter() - started) * 1000)
            client.call("DELETE", f"/computeruse/recordings/{begun['id']}")
    finally:
        client.json("POST", "/computeruse/stop", None)
    return {
        "recording_start_ms": statistics.median(starts),
        "recording_stop_ms": statistics.median(stops),
        "recording_cpu_percent": statistics.median(loads),
    }


def _ffmpeg_seconds(client: Client) -> float:
    """Return the processor time that every ffmpeg of the sandbox has taken."""
    script = "awk '$2 == \"(ffmpeg)\" { ticks += $14 + $15 } END { print ticks / 100 }' /proc/[0-9]*/stat 2>/dev/null"
    return float(client.execute(script)["result"])

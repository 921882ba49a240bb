"""CPU, memory and disk use of the sandbox, seen through its cgroup where it has limits, else through `/proc`."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from toolbox.system.models import SystemMetrics

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
_MICRO = 1e6
_NANO = 1e9


class Usage:
    """Answers how much is in use; the CPU window is the time since the last question."""

    def __init__(self, disk_path: Path) -> None:
        self._disk_path = disk_path
        self._last: tuple[float, float] | None = None

    def read(self) -> SystemMetrics:
        """Return the figures of this moment (reads a dozen small files; call it in a thread)."""
        limit = _cpu_limit()
        total, used, cache = _memory()
        disk = os.statvfs(self._disk_path)
        now = datetime.now(UTC)
        return SystemMetrics(
            cpu_count=max(1, round(limit)),
            cpu_used_pct=self._cpu_percent(limit),
            mem_total=total,
            mem_used=used,
            mem_cache=cache,
            disk_total=disk.f_blocks * disk.f_frsize,
            disk_used=(disk.f_blocks - disk.f_bfree) * disk.f_frsize,
            disk_free=disk.f_bavail * disk.f_frsize,
            timestamp=now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            timestamp_unix=int(now.timestamp()),
        )

    def telemetry(self) -> dict[str, float]:
        """Return the figures as telemetry names them: bytes, and shares in percent (reads files, as `read`)."""
        seen = self.read()
        return {
            "daytona.sandbox.cpu.limit": seen.cpu_count,
            "daytona.sandbox.cpu.utilization": seen.cpu_used_pct,
            "daytona.sandbox.memory.limit": seen.mem_total,
            "daytona.sandbox.memory.usage": seen.mem_used,
            "daytona.sandbox.memory.utilization": _percent(seen.mem_used, seen.mem_total),
            "daytona.sandbox.filesystem.total": seen.disk_total,
            "daytona.sandbox.filesystem.usage": seen.disk_used,
            "daytona.sandbox.filesystem.available": seen.disk_free,
            "daytona.sandbox.filesystem.utilization": _percent(seen.disk_used, seen.disk_total),
        }

    def _cpu_percent(self, limit: float) -> float:
        now, used = time.monotonic(), _cpu_seconds()
        last, self._last = self._last, (now, used)
        if last is None or now <= last[0]:
            return 0.0
        return round(max(0.0, (used - last[1]) / (now - last[0]) / limit * 100), 2)


def _percent(part: int, whole: int) -> float:
    return part / whole * 100 if whole else 0.0


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else None


def _cpu_limit() -> float:
    """Return how many CPUs may be used."""
    available = float(len(os.sched_getaffinity(0)))
    quota = _words(_CGROUP / "cpu.max")
    if len(quota) < 2:  # noqa: PLR2004 -- cgroup v1 keeps the two words in two files
        quota = [*_words(_CGROUP / "cpu/cpu.cfs_quota_us"), *_words(_CGROUP / "cpu/cpu.cfs_period_us")]
    match quota:
        case [allowed, period] if allowed.isdigit() and int(period) > 0:
            return min(available, int(allowed) / int(period))
        case _:
            return available


def _cpu_seconds() -> float:
    """Return the CPU time used so far, in seconds."""
    words = _words(_CGROUP / "cpu.stat")
    if "usage_usec" in words:
        return int(words[words.index("usage_usec") + 1]) / _MICRO
    nanoseconds = _number(_CGROUP / "cpuacct/cpuacct.usage")
    if nanoseconds is not None:
        return nanoseconds / _NANO
    user, nice, system = map(int, _words(Path("/proc/stat"))[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _memory() -> tuple[int, int, int]:
    """Return total, used (without page cache) and cache, in bytes."""
    info = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    machine = {name: int(value.split()[0]) * 1024 for name, value in info.items()}
    for limit_file, usage_file, stat_file, cache_name in (
        ("memory.max", "memory.current", "memory.stat", "file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "cache"),
    ):
        limit, usage = _number(_CGROUP / limit_file), _number(_CGROUP / usage_file)
        if limit is None or usage is None or limit >= min(_UNLIMITED, machine["MemTotal"]):
            continue
        words = _words(_CGROUP / stat_file)
        cache = int(words[words.index(cache_name) + 1]) if cache_name in words else 0
        return limit, max(0, usage - cache), cache
    cache = machine["Cached"] + machine["Buffers"] + machine.get("SReclaimable", 0)
    return machine["MemTotal"], machine["MemTotal"] - machine["MemFree"] - cache, cache

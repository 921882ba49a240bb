"""Counters of the running process, kept as plain numbers and rendered for Prometheus when asked."""

import asyncio
import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
LOOP_LAG_PERIOD = 1.0


class Latency:
    """A histogram of seconds."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.buckets[bisect.bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.total += seconds


class Metrics:
    """What the daemon did since it started."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.latency: dict[str, Latency] = {}
        self.events: Counter[str] = Counter()
        self.loop_lag = 0.0
        self.loop_lag_max = 0.0
        self.record_latency: Callable[[str, float], object] | None = None
        """Told of every answered request: its operation and seconds."""
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "event_loop_lag_seconds": ("Last delay of the event loop", lambda: self.loop_lag),
            "event_loop_lag_max_seconds": ("Longest delay seen", lambda: self.loop_lag_max),
        }

    def observe(self, operation: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests[operation, status] += 1
        latency = self.latency.get(operation)
        if latency is None:
            latency = self.latency[operation] = Latency()
        latency.observe(seconds)
        if self.record_latency is not None:
            self.record_latency(operation, seconds)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show `read()` under `toolbox_{name}` at each scrape."""
        self._gauges[name] = (text, read)

    def gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        """Return what each gauge means, and what reads it, by its name."""
        return {f"toolbox_{name}": gauge for name, gauge in self._gauges.items()}

    async def watch_loop(self) -> None:
        """Measure for ever how late the event loop runs its timers, in seconds."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOP_LAG_PERIOD
            await asyncio.sleep(LOOP_LAG_PERIOD)
            self.loop_lag = max(0.0, loop.time() - due)
            self.loop_lag_max = max(self.loop_lag_max, self.loop_lag)

    def collect(self) -> "Iterator[Metric]":
        """Yield the metric families (the collector protocol of prometheus_client)."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily  # noqa: PLC0415

        requests = CounterMetricFamily("toolbox_requests", "Requests answered", labels=["operation", "status"])
        # Copies: this runs in a thread, and requests are counted meanwhile.
        for (operation, status), count in list(self.requests.items()):
            requests.add_metric([operation, str(status)], count)
        yield requests
        latency = HistogramMetricFamily("toolbox_request_seconds", "Time to answer", labels=["operation"])
        for operation, histogram in list(self.latency.items()):
            seen, buckets = 0, []
            for bound, count in zip((*map(str, LATENCY_BOUNDS), "+Inf"), histogram.buckets, strict=True):
                seen += count
                buckets.append((bound, seen))
            latency.add_metric([operation], buckets, histogram.total)
        yield latency
        events = CounterMetricFamily("toolbox_events", "Things that happened", labels=["event"])
        for event, count in list(self.events.items()):
            events.add_metric([event], count)
        yield events
        for name, (text, read) in self.gauges().items():
            yield GaugeMetricFamily(name, text, read())

    def render(self) -> tuple[bytes, str]:
        """Return the Prometheus text exposition and its content type."""
        # Imported at the first scrape: it costs 20 ms and 3 MB, and most sandboxes are never scraped.
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        collector: Any = self
        registry.register(collector)
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

"""`python -m bench.lagging FILE OPTION...`: `toolboxd serve` that notes how late its event loop is, into a file.

Each line: the time (monotonic, s), how late a timer of 2 ms ran (ms), the processor time that the loop's thread took
since the one before (ms). The latter is what a callback held the loop, whatever else the machine does.
"""

import argparse
import asyncio
import os
import sys
import time
from array import array
from pathlib import Path

from toolbox.__main__ import run_until_signal
from toolbox.app import running
from toolbox.config import ServeConfig, add_arguments
from toolbox.lifetime import TaskSet

_PERIOD = 0.002


async def sample(samples: "array[float]") -> None:
    """Add a time, a delay and a processor time to `samples` every 2 ms, for ever."""
    used = time.thread_time()
    while True:
        due = time.monotonic() + _PERIOD
        await asyncio.sleep(_PERIOD)
        now, before = time.monotonic(), used
        used = time.thread_time()
        samples.extend((now, (now - due) * 1000, (used - before) * 1000))


def main() -> int:
    """Serve until told to stop, then write what was noted; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    add_arguments(parser, ServeConfig)
    arguments = vars(parser.parse_args())
    file: Path = arguments.pop("file")
    config, samples = ServeConfig.load(arguments, os.environ), array("d")

    async def serve(stop: asyncio.Event) -> int:
        async with TaskSet() as tasks, running(config, sole=True) as daemon:
            tasks.start(sample(samples), "lag")
            print(f"Starting toolbox server on port {daemon.port}", flush=True)
            await stop.wait()
        return 0

    code = run_until_signal(config, serve)
    file.write_text("\n".join(" ".join(map(str, samples[at : at + 3])) for at in range(0, len(samples), 3)))
    return code


if __name__ == "__main__":
    sys.exit(main())

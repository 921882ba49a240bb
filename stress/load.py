"""Clients in a process of their own: `python -m stress.load JOB`, a JSON object; the answer is one on stdout.

As users they are other machines: they run at a lower priority, so that what is measured is the server and not their
own hunger for the processor.
"""

import asyncio
import json
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import msgspec
from daytona import AsyncDaytona, Daytona

from stress.operations import User
from tests.sdk.clients import Either, without_loop

_NICENESS = 10


class Job(msgspec.Struct):
    """Which clients, and how long they work: until `operations` were done by all together or `seconds` are over."""

    sandbox: str
    screen: str
    seed: int
    users: int
    operations: int
    seconds: float
    is_async: bool


class Outcome(msgspec.Struct):
    """What clients did, and each answer that was wrong, or an error where none may be."""

    done: dict[str, int] = {}
    wrong: list[str] = []


class Work:
    """What the users of a process do together."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.outcome = Outcome()
        self._deadline = time.monotonic() + job.seconds
        self._done: Counter[str] = Counter()

    async def user(self, number: int, daytona: Any) -> None:
        """Work as one user until all is done; what is wrong is noted."""
        random = Random(f"{self.job.seed} {number}")
        user: User | None = None
        try:
            sandbox = await daytona.get(self.job.sandbox)
            user = User(sandbox, random, screen=self.job.screen, is_async=self.job.is_async)
            await user.begin()
            while self._is_more_to_do(user):
                await user.step()
            await user.end()
        except Exception:  # noqa: BLE001 -- whatever it is, it must not happen
            self.outcome.wrong.append(f"{self.job} user {number}: {traceback.format_exc()[-3000:]}")
        if user is not None:
            self._done += user.done
            self.outcome.done = dict(self._done)

    def _is_more_to_do(self, user: User) -> bool:
        return user.done.total() < self.job.operations // self.job.users and time.monotonic() < self._deadline


async def _with_async(work: Work) -> None:
    async with AsyncDaytona() as daytona:
        await asyncio.gather(*(work.user(number, Either(daytona)) for number in range(work.job.users)))


def _with_sync(work: Work) -> None:
    def run(number: int) -> None:
        without_loop(work.user(number, Either(Daytona())))

    with ThreadPoolExecutor(work.job.users) as threads:
        list(threads.map(run, range(work.job.users)))


def main() -> None:
    """Do the job."""
    os.nice(_NICENESS)
    work = Work(msgspec.json.decode(sys.argv[1], type=Job))
    if work.job.is_async:
        asyncio.run(_with_async(work))
    else:
        _with_sync(work)
    print(json.dumps(msgspec.to_builtins(work.outcome)))


if __name__ == "__main__":
    main()

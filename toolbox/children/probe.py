"""Asking an installed program about itself."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence

from toolbox.children.process import Children

_SECONDS = 20.0


async def ask(
    children: Children, argv: Sequence[str], env: Mapping[str, str], *, output: int = subprocess.DEVNULL
) -> int | None:
    """Run a program that answers by its exit code; None when it cannot be run, is killed or does not answer.

    What else it has to say it writes to the descriptor `output`.
    """
    try:
        child = children.spawn(argv, cwd="/", env=env, stdout=output)
    except OSError:
        return None
    try:
        async with asyncio.timeout(_SECONDS):
            return (await child.wait()).code
    except TimeoutError:
        return None
    finally:
        if child.exit is None:
            await child.kill_tree(grace=0)

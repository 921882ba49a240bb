"""Taking the daemon into use: the token, the variables, and what has waited for both."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from toolbox.children.environment import Environment, check_variables
from toolbox.incarnation import Incarnation
from toolbox.telemetry.service import Telemetry
from toolbox.web.auth import Auth

log = logging.getLogger(__name__)


class Initialization:
    """What `/init` and `/env` do.

    A daemon that was started to wait for `/init` is one of many alike: whose it is, it learns from that. So
    `start_entrypoint` is called only when it has the variables too, which come with `/init` or by the first `/env`.
    """

    def __init__(
        self,
        auth: Auth,
        environment: Environment,
        telemetry: Telemetry,
        incarnation: Incarnation,
        *,
        start_entrypoint: Callable[[], Awaitable[None]],
    ) -> None:
        self._auth = auth
        self._environment = environment
        self._telemetry = telemetry
        self._incarnation = incarnation
        self._start_entrypoint = start_entrypoint
        self._given = False
        self._starting = asyncio.Lock()

    async def initialize(self, token: str | None, env: Mapping[str, str] | None) -> None:
        """Take the daemon into use; the same call again only sees to it that random numbers are this daemon's own.

        Raises `BadRequest` for variables no process can be given, or without a token where one is waited for;
        `Conflict` for another token than the first. Then nothing has changed.
        """
        if env is not None:
            check_variables(env)
        self._auth.adopt(token)
        self._incarnation.begin()
        if env is not None and not self._given:
            self._given = True
            self._environment.update(env, (), "")
        await self._begin()
        await self._telemetry.initialize(token)

    async def change_environment(self, set_: Mapping[str, str], unset: Sequence[str], unset_value_prefix: str) -> None:
        """Change what later children inherit. Raises `BadRequest`; then nothing has changed."""
        self._environment.update(set_, unset, unset_value_prefix)
        self._given = True
        await self._begin()

    async def _begin(self) -> None:
        if not self._auth.by_init:
            return
        if not self._given:
            log.info("in use; the entrypoint, if there is one, waits for the environment")
            return
        async with self._starting:
            await self._start_entrypoint()

"""JWTs of an identity provider: verified against its keys, which come from a URL or a file."""

import asyncio
import importlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp

from controlplane.callers import Caller
from toolbox.config import ConfigError, UpConfig
from toolbox.errors import Forbidden, Unauthorized, Unavailable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key only: what verifies must not be able to sign."""
LEEWAY_SECONDS = 30
_FRESH_SECONDS = 3600.0
_AGAIN_SECONDS = 10.0
"""How soon keys are looked up again for a token signed with one that is not known."""
_FETCH_SECONDS = 10.0
_MAX_KEYS_BYTES = 1024 * 1024


def looks_like_jwt(token: str) -> bool:
    """Tell a JWT from an API key."""
    return token.count(".") == 2 and token.startswith("ey")  # noqa: PLR2004 -- header, claims, signature


class Tokens:
    """Verifies JWTs. Without a source of keys it refuses them all, and says so."""

    def __init__(self, *, url: str | None, file: Path | None, audience: str | None, issuer: str | None) -> None:
        self._url = url
        self._file = file
        self._audience = audience
        self._issuer = issuer
        self._keys: dict[str | None, Any] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    @classmethod
    def configured(cls, config: UpConfig) -> Self:
        """Return what the options say. Raises `ConfigError`."""
        if config.jwks_url and config.jwks_file:
            raise ConfigError("jwks-url and jwks-file: only one of them")
        return cls(url=config.jwks_url, file=config.jwks_file, audience=config.jwt_audience, issuer=config.jwt_issuer)

    async def __aenter__(self) -> Self:
        if self._url or self._file:
            try:
                await asyncio.to_thread(importlib.import_module, "jwt")
            except ModuleNotFoundError:
                raise ConfigError("JWTs need the extra sandbox-toolbox[jwt]") from None
        if self._file:
            try:
                await self._read()
            except (OSError, ValueError) as error:
                raise ConfigError(f"jwks-file: cannot be used: {error}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    async def verify(self, token: str, organization: str | None) -> Caller:
        """Return whose token it is, acting for `organization`, which must be one of theirs.

        Raises `Unauthorized`, `Forbidden`, `Unavailable` when the keys cannot be had.
        """
        if not self._url and not self._file:
            raise Unauthorized("JWTs are not accepted here: the server has no jwks-url and no jwks-file")
        import jwt  # noqa: PLC0415 -- an extra

        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(f"the JWT is not valid: {error}") from None
        return _caller(claims, organization)

    async def _key(self, key_id: str | None) -> Any:
        """Return the key of this id, or the only one there is. Raises `Unauthorized`, `Unavailable`."""
        age = time.monotonic() - self._read_at
        if age > _FRESH_SECONDS or (key_id not in self._keys and age > _AGAIN_SECONDS):
            async with self._reading:
                if time.monotonic() - self._read_at >= age:
                    await self._read_again()
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if key_id not in self._keys:
            raise Unauthorized("the JWT is not valid: it is signed with a key that the identity provider does not list")
        return self._keys[key_id]

    async def _read_again(self) -> None:
        try:
            await self._read()
        except (OSError, ValueError, aiohttp.ClientError, TimeoutError):
            if not self._keys:
                raise Unavailable("the identity provider's keys cannot be had: JWTs cannot be verified now") from None
            self._read_at = time.monotonic() - _FRESH_SECONDS + _AGAIN_SECONDS  # what is known still serves

    async def _read(self) -> None:
        import jwt  # noqa: PLC0415 -- an extra

        if self._file is not None:
            document = json.loads(await asyncio.to_thread(self._file.read_bytes))
        else:
            document = json.loads(await self._fetch())
        try:
            keys = [jwt.PyJWK.from_dict(each) for each in document["keys"] if each.get("use", "sig") == "sig"]
        except (jwt.PyJWTError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a JSON Web Key Set: {error}") from None
        self._keys = {each.key_id: each for each in keys}
        self._read_at = time.monotonic()

    async def _fetch(self) -> bytes:
        assert self._url is not None  # noqa: S101 -- asked for only then
        timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(self._url, raise_for_status=True) as response,
        ):
            return await response.content.read(_MAX_KEYS_BYTES)


def _caller(claims: Mapping[str, Any], organization: str | None) -> Caller:
    """Return who the claims name. Their organisations are `organizations` and `org_id`, else one of their own."""
    subject = str(claims["sub"])
    listed = claims.get("organizations")
    theirs = [str(each) for each in listed] if isinstance(listed, Sequence) and not isinstance(listed, str) else []
    if claims.get("org_id"):
        theirs.insert(0, str(claims["org_id"]))
    theirs = theirs or [subject]
    if organization is not None and organization not in theirs:
        raise Forbidden("the JWT does not name this organization as one of its owner's")
    return Caller(actor_id=subject, email=str(claims.get("email") or ""), organization_id=organization or theirs[0])

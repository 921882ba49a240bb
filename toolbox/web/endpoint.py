"""An endpoint is a typed function; its signature is also its documentation.

Parameters are filled by five rules, decided once when the application is put together:

1. a name that stands in the path (`/port/{port}`): that word, converted to the annotated `str` or `int`;
2. `query`: a Struct made from the query string (the first of a repeated key wins);
3. `body`: a Struct decoded from the JSON body, whatever the Content-Type says;
4. `request`: the raw request, for streams and websockets;
5. anything else: a service, found by its type. A type nobody provides stops the daemon at start.

A returned Struct, list or dict becomes JSON, `None` an empty body, a `StreamResponse` passes through.
"""

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from toolbox.errors import BadRequest, InvalidBody
from toolbox.web import wire
from toolbox.web.idempotency import HEADER as IDEMPOTENCY_HEADER
from toolbox.web.idempotency import IdempotentCalls

Services = Mapping[type, Any]
Function = Callable[..., Awaitable[Any]]

JSON = "application/json; charset=utf-8"
MAX_JSON_BODY = 64 * 1024 * 1024
_PATH_WORD = re.compile(r"\{(\w+)(?::[^}]*)?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One operation: where it is, what it takes and gives."""

    method: str
    path: str
    function: Function
    operation: str
    tag: str
    status: int
    other_statuses: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    consumes: str = "application/json"
    produces: str = "application/json"
    hidden: bool = False
    idempotent: bool = False
    optional_body: bool = False
    path_words: Mapping[str, type] = field(default_factory=dict)
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    wants_request: bool = False
    services: Mapping[str, type] = field(default_factory=dict)
    returns: Any = None

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def handler(self, services: Services) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the aiohttp handler. Raises `LookupError` for a service nobody provides."""
        missing = [kind.__name__ for kind in self.services.values() if kind not in services]
        if missing:
            raise LookupError(f"{self.operation} needs a service nobody provides: {', '.join(missing)}")
        given = {name: services[kind] for name, kind in self.services.items()}
        function, status, path_words = self.function, self.status, tuple(self.path_words.items())
        query, body, wants_request, operation = self.query, self.body, self.wants_request, self.operation
        optional_body = self.optional_body
        calls: IdempotentCalls | None = services.get(IdempotentCalls) if self.idempotent else None

        async def handle(request: web.Request) -> web.StreamResponse:
            arguments = dict(given)
            for name, kind in path_words:
                arguments[name] = _path_word(request.match_info[name], kind, name)
            if query is not None:
                arguments["query"] = wire.convert_text(_first_values(request), query)
            if body is not None:
                data = await read_body(request)
                arguments["body"] = wire.decode(b"{}" if optional_body and not wire.is_object(data) else data, body)
            if wants_request:
                arguments["request"] = request
            if calls is not None and IDEMPOTENCY_HEADER in request.headers:

                async def run() -> web.StreamResponse:
                    return respond(await function(**arguments), status)

                return await calls.call(request, operation, run)
            return respond(await function(**arguments), status)

        handle.endpoint = self  # type: ignore[attr-defined]
        return handle


def _first_values(request: web.Request) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in request.query.items():
        values.setdefault(key, value)
    return values


def _path_word(text: str, kind: type, name: str) -> Any:
    if kind is str:
        return text
    try:
        value: Any = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"invalid {name}: {error}") from None
    if type(value) is int and str(value) != text:  # one spelling for each number: no point, no exponent
        raise BadRequest(f"invalid {name}: not a whole number: {text!r}")
    return value


async def read_body(request: web.Request) -> bytes:
    """Return the whole request body, at most `MAX_JSON_BODY` bytes. Raises `InvalidBody` when it was cut short."""
    try:
        return await request.read()
    except (web.RequestPayloadError, ValueError) as error:
        raise InvalidBody(f"invalid request body: {error}") from None


def respond(result: Any, status: int = 200) -> web.StreamResponse:
    """Turn what an endpoint function returned into a response."""
    if isinstance(result, web.StreamResponse):
        return result
    if result is None:
        return web.Response(status=status)
    return web.Response(body=wire.encode(result), status=status, headers={"Content-Type": JSON})


class Routes:
    """Collects the endpoints of one area, next to their functions."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._endpoints: list[Endpoint] = []

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints)

    def get(self, path: str, operation: str, **options: Any) -> Callable[[Function], Function]:
        """Register a GET (and HEAD) endpoint; `operation` is its OpenAPI operationId."""
        return self.add("GET", path, operation, **options)

    def post(self, path: str, operation: str, **options: Any) -> Callable[[Function], Function]:
        """Register a POST endpoint."""
        return self.add("POST", path, operation, **options)

    def put(self, path: str, operation: str, **options: Any) -> Callable[[Function], Function]:
        """Register a PUT endpoint."""
        return self.add("PUT", path, operation, **options)

    def delete(self, path: str, operation: str, **options: Any) -> Callable[[Function], Function]:
        """Register a DELETE endpoint."""
        return self.add("DELETE", path, operation, **options)

    def add(
        self,
        method: str,
        path: str,
        operation: str,
        *,
        status: int = 200,
        other_statuses: Sequence[int] = (),
        aliases: Sequence[str] = (),
        consumes: str = "application/json",
        produces: str = "application/json",
        hidden: bool = False,
        idempotent: bool = False,
        optional_body: bool = False,
    ) -> Callable[[Function], Function]:
        """Register an endpoint.

        `other_statuses` are those of success beside `status`; `consumes` and `produces` (several, comma-separated)
        describe raw bodies; `hidden` keeps it out of OpenAPI; `idempotent` makes it heed the
        `Idempotency-Key` header; with `optional_body` a body that is missing or no JSON object counts as `{}`.
        """

        def register(function: Function) -> Function:
            hints = typing.get_type_hints(function, include_extras=True)
            returns = hints.pop("return", None)
            words = {name: hints.pop(name) for name in _PATH_WORD.findall(path) if name in hints}
            self._endpoints.append(
                Endpoint(
                    method=method,
                    path=path,
                    function=function,
                    operation=operation,
                    tag=self.tag,
                    status=status,
                    other_statuses=tuple(other_statuses),
                    aliases=tuple(aliases),
                    consumes=consumes,
                    produces=produces,
                    hidden=hidden,
                    idempotent=idempotent,
                    optional_body=optional_body,
                    path_words=words,
                    query=hints.pop("query", None),
                    body=hints.pop("body", None),
                    wants_request=hints.pop("request", None) is not None,
                    services=hints,
                    returns=returns,
                )
            )
            return function

        return register


def bind(endpoints: Sequence[Endpoint], services: Services) -> list[web.RouteDef]:
    """Return the aiohttp routes of `endpoints` with their services filled in."""
    routes = []
    for endpoint in endpoints:
        handler = endpoint.handler(services)
        for path in (endpoint.path, *endpoint.aliases):
            if endpoint.method == "GET":
                routes.append(web.get(path, handler))
            else:
                routes.append(web.route(endpoint.method, path, handler))
    return routes

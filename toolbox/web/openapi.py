"""The OpenAPI 3.1 document, made from the endpoints' signatures and docstrings."""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec
from aiohttp import web

from toolbox.web import wire
from toolbox.web.endpoint import Endpoint, Routes

_PATTERN = re.compile(r"\{(\w+):[^}]*\}")
_REF = "#/components/schemas/{name}"


class Envelope(wire.Model):
    """Every error, on every route."""

    status_code: int
    message: str
    code: str
    timestamp: str
    path: str
    method: str
    source: str | msgspec.UnsetType = msgspec.UNSET


def build_document(endpoints: Sequence[Endpoint], *, title: str, version: str) -> bytes:
    """Return the document as JSON bytes."""
    shown = [endpoint for endpoint in endpoints if not endpoint.hidden]
    models = list(dict.fromkeys(model for endpoint in shown for model in _models(endpoint)))
    (*_, envelope), components = msgspec.json.schema_components([*models, Envelope], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in shown:
        path = _PATTERN.sub(r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, envelope)
    document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    return wire.encode(document)


def _models(endpoint: Endpoint) -> Iterator[Any]:
    if endpoint.body is not None:
        yield endpoint.body
    yield from _returned(endpoint)


def _returned(endpoint: Endpoint) -> list[Any]:
    """Return the JSON types an endpoint may answer with (responses and None left out)."""
    kinds = get_args(endpoint.returns) if _is_union(endpoint.returns) else (endpoint.returns,)
    return [kind for kind in kinds if not _is_opaque(kind)]


def _is_union(kind: Any) -> bool:
    return type(kind).__name__ == "UnionType"


def _is_opaque(kind: Any) -> bool:
    return kind in (None, type(None)) or (isinstance(kind, type) and issubclass(kind, web.StreamResponse))


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema


def _operation(endpoint: Endpoint, envelope: dict[str, Any]) -> dict[str, Any]:
    text = inspect.getdoc(endpoint.function) or ""
    operation: dict[str, Any] = {
        "operationId": endpoint.operation,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": {
            **{str(status): _success(endpoint) for status in (endpoint.status, *endpoint.other_statuses)},
            "default": {"description": "An error", "content": {"application/json": {"schema": envelope}}},
        },
    }
    if details := text.partition("\n")[2].strip():
        operation["description"] = details
    if endpoint.body is not None:
        content = {"application/json": {"schema": _schema(endpoint.body)}}
        operation["requestBody"] = {"required": not endpoint.optional_body, "content": content}
    elif endpoint.consumes != "application/json":
        operation["requestBody"] = {"required": True, "content": {endpoint.consumes: {"schema": {}}}}
    return operation


def _success(endpoint: Endpoint) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": endpoint.summary or "Success"}
    kinds = _returned(endpoint)
    if kinds:
        answer["content"] = {"application/json": {"schema": _schema(kinds[0])}}
    elif endpoint.produces != "application/json":
        answer["content"] = {kind.strip(): {"schema": {}} for kind in endpoint.produces.split(",")}
    return answer


def _path_parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    declared = dict(endpoint.path_words)
    for name in re.findall(r"\{(\w+)", endpoint.path):
        yield {"name": name, "in": "path", "required": True, "schema": _schema(declared.get(name, str))}


def _query_parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    if endpoint.query is None:
        return
    for field in msgspec.structs.fields(endpoint.query):
        yield {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": _schema(field.type),
        }


def document_routes(endpoints: list[Endpoint], *, title: str, version: str) -> Routes:
    """Return the routes that serve the document and a page to browse it; the document is built when first asked."""
    routes = Routes("server")
    cache: list[bytes] = []

    @routes.get("/openapi.json", "GetOpenapiDocument", hidden=True)
    async def document() -> web.Response:
        if not cache:
            cache.append(build_document(endpoints, title=title, version=version))
        return web.Response(body=cache[0], content_type="application/json")

    @routes.get("/swagger", "BrowseOpenapiDocument", hidden=True)
    async def page() -> web.Response:
        return web.Response(text=_page(), content_type="text/html")

    return routes


def _page() -> str:
    from importlib.resources import files  # noqa: PLC0415 -- only for the page

    return files("toolbox.web").joinpath("swagger.html").read_text("utf-8")

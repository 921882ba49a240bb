"""Random requests by the API documents of both servers: they answer, in the documented form, and never fail."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any, cast

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case as AnyCase
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi import checks

import controlplane.app
import toolbox.app
from tests.fuzz.conftest import TOKEN, some
from tests.fuzz.servers import PORT, URL, Server
from toolbox.web.auth import PUBLIC_PATHS
from toolbox.web.endpoint import Endpoint
from toolbox.web.openapi import build_document

ANSWER_SECONDS = 60
CHECKS: Sequence[CheckFunction] = (
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)
MEANT = {
    "A11Y_UNAVAILABLE",
    "COMPUTER_USE_UNAVAILABLE",
    "GIT_TRANSPORT_FAILED",
    "LSP_SERVER_NOT_INITIALIZED",
    "LSP_SERVER_START_FAILED",
}
"""Codes of answers in the 500s that the contract asks for, or that tell of what is not there."""
STREAMS = ("text/event-stream", "multipart/x-mixed-replace")
COSTLY = {"createSandbox": 4, "forkSandbox": 3, "createWarmPool": 3}
"""Fewer requests for what starts daemons."""
KNOWN: Mapping[str, Any] = {
    "context_id": "default",
    "languageId": "python",
    "path": "repository",
    "pathToProject": "repository",
    "port": PORT,
    "process_name": "xvfb",
    "sandbox": "box",
    "session_id": "session",
    "snapshot": "default",
    "uri": "repository/file",
    "volume": "volume",
}
"""What there is, so that not every request ends at a name that nobody has."""
LOCKS_OUT = {"Initialize"}
"""Who calls first would be the only one that can go on: for the server that has a token."""

Case = AnyCase[Any]
Credentials = Mapping[str, str]


@schemathesis.serializer("application/x-tar")
def _tar(_: object, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def operations_of(endpoints: Sequence[Endpoint]) -> Mapping[str, Any]:
    """Return what the API document of `endpoints` describes, by name."""
    schema = schemathesis.openapi.from_dict(json.loads(build_document(endpoints, title="", version="")))
    found: list[Any] = [cast("Any", result).ok() for result in schema.get_all_operations()]
    return {each.definition.raw["operationId"]: each for each in found}


@cache
def daemon_operations() -> Mapping[str, Any]:
    return operations_of([each for area in toolbox.app.AREAS for each in area])


@cache
def control_plane_operations() -> Mapping[str, Any]:
    return operations_of(controlplane.app.ENDPOINTS)


def fuzz(operation: Any, examples: int, run: Callable[[Case, Credentials], None]) -> None:
    """Call `run` with requests of an operation, those that fit its schema and others, and with bad credentials."""
    cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    words = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=20).map(str.strip)
    credentials = st.fixed_dictionaries(
        {}, optional={"Authorization": words.map("Bearer {}".format) | words, "X-Daytona-Preview-Token": words}
    )

    @some(examples)
    @given(case=cases, credentials=credentials, known=st.booleans())
    def search(case: Case, credentials: Credentials, known: bool) -> None:
        if known and not case.operation.definition.raw["operationId"].lower().startswith(("delete", "remove")):
            fill_in(case)
        run(case, credentials)

    search()


def fill_in(case: Case) -> None:
    """Name what there is."""
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            part.update({name: value for name, value in KNOWN.items() if name in part})


def send(server: Server, case: Case, headers: Mapping[str, str]) -> requests.Response:
    """Send a request and return the answer, of a stream its head only."""
    query = {**case.query}
    query.pop("follow", None)
    if case.operation.path.endswith("/wait"):
        query["timeout"] = 0
    case.query = query
    wanted = case.as_transport_kwargs(base_url=URL)
    wanted["headers"] = {**wanted["headers"], **headers}
    response = server.session.request(**wanted, timeout=ANSWER_SECONDS, stream=True, allow_redirects=False)
    if response.ok and response.headers.get("Content-Type", "").startswith(STREAMS):
        response.close()
        response._content = b""
    else:
        assert response.content is not None
    return response


def conform(case: Case, response: requests.Response) -> None:
    """Fail unless the answer is one that the API document has, and not of a server that failed."""
    case.validate_response(response, checks=[*CHECKS])
    if response.status_code >= 400:
        answer = response.json()
        assert answer["statusCode"] == response.status_code
        assert response.status_code < 500 or answer["code"] in MEANT, answer


@pytest.mark.parametrize("name", sorted(daemon_operations().keys() - LOCKS_OUT))
def test_daemon(open_daemon: Server, name: str) -> None:
    if "/computeruse/" in daemon_operations()[name].path:
        open_daemon.session.post(f"{URL}/computeruse/start", timeout=60).raise_for_status()
    fuzz(daemon_operations()[name], 10, lambda case, headers: conform(case, send(open_daemon, case, headers)))


@pytest.mark.parametrize("name", sorted(control_plane_operations()))
def test_control_plane(control_plane: Server, name: str) -> None:
    def run(case: Case, _: Credentials) -> None:
        conform(case, send(control_plane, case, {"Authorization": f"Bearer {TOKEN}"}))

    fuzz(control_plane_operations()[name], COSTLY.get(name, 10), run)


def refuse(server: Server, case: Case, headers: Mapping[str, str], *, is_open: bool) -> None:
    """Fail unless the answer is the one to strangers."""
    response = send(server, case, headers)
    conform(case, response)
    assert response.status_code == 401 or (is_open and response.ok), response.text


def refuse_all(server: Server, operations: Mapping[str, Any], open_paths: Collection[str]) -> None:
    """Fail unless every operation refuses who has no credential, or a wrong one."""
    for operation in operations.values():
        fuzz(operation, 2, partial(refuse, server, is_open=operation.path in open_paths))


def test_daemon_with_a_token(guarded_daemon: Server) -> None:
    refuse_all(guarded_daemon, daemon_operations(), PUBLIC_PATHS)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for name in LOCKS_OUT:
        fuzz(daemon_operations()[name], 10, lambda case, _: conform(case, send(guarded_daemon, case, bearer)))


def test_control_plane_without_a_key(control_plane: Server) -> None:
    refuse_all(control_plane, control_plane_operations(), {*PUBLIC_PATHS, "/api/config"})

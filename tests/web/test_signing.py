"""Signed file URLs: what the SDK makes is taken, anything else is not."""

import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qsl, urlsplit

import pytest
from daytona._utils.file_url_signing import build_signed_file_url

from tests.conftest import Daemon, run_daemon
from toolbox.config import ServeConfig, secret_variables

KEY = "the-key"
PATH = "dir/a file é.txt"


@pytest.fixture
async def keyed(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon with a token and a signing key."""
    async with run_daemon(serve_config(token="t", signing_key=KEY)) as running:
        (running.work_dir / "dir").mkdir()
        (running.work_dir / PATH).write_text("content")
        yield running


def link(method: str, path: str = PATH, ttl: int | None = None, key: str = KEY) -> dict[str, str]:
    """Return the query of a link as the Python SDK makes it."""
    operation = "/files/download" if method == "GET" else "/files/upload-v2"
    url = build_signed_file_url("http://proxy", "id", operation, method, path, key, ttl)
    return dict(parse_qsl(urlsplit(url).query))


async def status(daemon: Daemon, method: str, route: str, query: dict[str, str], **options: object) -> int:
    async with daemon.http.request(method, route, params=query, **options) as response:  # type: ignore[arg-type]
        return response.status


async def test_links_of_the_sdk_work(keyed: Daemon) -> None:
    async with keyed.http.get("/files/download", params=link("GET")) as response:
        assert (response.status, await response.text()) == (200, "content")
    assert await status(keyed, "HEAD", "/files/download", link("GET")) == 200
    assert await status(keyed, "GET", "/files/download", link("GET", ttl=0)) == 200
    assert await status(keyed, "POST", "/files/upload-v2", link("POST", "new"), data=b"1") == 200
    assert (keyed.work_dir / "new").read_text() == "1"


async def test_nothing_else_does(keyed: Daemon) -> None:
    good = link("GET")
    wrong = [
        {**good, "path": "dir/other"},
        {**good, "expires": str(int(good["expires"]) + 1)},
        {**good, "expires": "0"},
        {**good, "expires": "x"},
        {**good, "expires": "-1"},
        {**good, "expires": "9" * 5000},
        {**good, "signature": good["signature"][:-1]},
        {**good, "signature": ""},
        {**good, "signature": "v1_é"},
        link("POST"),
        link("GET", key="other"),
        {"path": PATH, "signature": good["signature"]},
        {"path": PATH},
    ]
    for query in wrong:
        assert await status(keyed, "GET", "/files/download", query) == 401, query
    assert await status(keyed, "POST", "/files/upload-v2", good, data=b"") == 401
    for method, route in (("GET", "/files/info"), ("DELETE", "/files"), ("GET", "/files"), ("GET", "/files/archive")):
        assert await status(keyed, method, route, good) == 401
    assert (keyed.work_dir / PATH).read_text() == "content"


async def test_a_second_path_changes_nothing(keyed: Daemon) -> None:
    (keyed.work_dir / "secret").write_text("secret")
    query = [*link("GET").items(), ("path", "secret"), ("Path", "secret"), ("PATH", "secret")]
    for parameters in (query, query[::-1]):
        async with keyed.http.get("/files/download", params=parameters) as response:
            assert await response.text() != "secret"


async def test_an_expired_link(keyed: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    good = link("GET", ttl=60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    async with keyed.http.get("/files/download", params=good) as response:
        assert (response.status, (await response.json())["message"]) == (401, "the link has expired")


async def test_the_token_still_counts(keyed: Daemon) -> None:
    query = {**link("GET"), "signature": "v1_wrong"}
    bearer = {"Authorization": "Bearer t"}
    assert await status(keyed, "GET", "/files/download", query, headers=bearer) == 200


async def test_pages_may_use_links_and_only_links(keyed: Daemon) -> None:
    page = {"Origin": "https://elsewhere.example"}
    asks = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with keyed.http.get("/files/download", params=link("GET"), headers=page) as response:
        assert response.headers["Access-Control-Allow-Origin"] == page["Origin"]
    async with keyed.http.options("/files/upload-v2", params=link("POST"), headers=asks) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == page["Origin"]
        assert response.headers["Access-Control-Allow-Headers"] == "content-type"
    refused = [
        ("/files/upload-v2", link("GET")),
        ("/files/upload-v2", {**link("POST"), "path": "x"}),
        ("/files/info", link("POST")),
    ]
    for route, query in refused:
        async with keyed.http.options(route, params=query, headers=asks) as response:
            assert response.status in (401, 405)
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_without_a_key_a_signature_is_nothing(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(token="t")) as daemon:
        assert await status(daemon, "GET", "/files/download", link("GET")) == 401


async def test_without_a_token_a_wrong_link_is_still_refused(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(signing_key=KEY)) as daemon:
        (daemon.work_dir / "f").write_text("1")
        assert await status(daemon, "GET", "/files/download", link("GET", "f")) == 200
        assert await status(daemon, "GET", "/files/download", link("GET", "f", key="other")) == 401


def test_children_never_see_the_key() -> None:
    assert "TOOLBOX_SIGNING_KEY" in secret_variables()

"""The language servers of the published Python SDKs, sync and async: the real ones."""

from collections.abc import Iterator
from typing import Any

import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    DaytonaBadRequestError,
    DaytonaError,
    DaytonaLspServerNotInitializedError,
    LspCompletionPosition,
    LspLanguageId,
)

from tests.sdk.clients import Sdk, scenario

FILES = {
    "python": ("m.py", "class Foo:\n    def bar(self, x):\n        return x\n\n\nFoo().\n", 5, 6),
    "typescript": ("m.ts", "class Foo { bar(x: number) { return x } }\nnew Foo().\n", 1, 10),
    "javascript": ("m.js", "class Foo { bar(x) { return x } }\nnew Foo().\n", 1, 10),
}


@pytest.fixture(scope="module")
def coding(sdk: Sdk, path_with_node: str) -> Iterator[Any]:
    """Return a sandbox with language servers on its PATH."""
    created = sdk.run(sdk.daytona.create(CreateSandboxFromSnapshotParams(env_vars={"PATH": path_with_node})))
    yield created
    sdk.run(created.delete(wait=True))


@pytest.mark.parametrize("language", LspLanguageId)
@scenario
async def test_from_start_to_stop(*, sdk: Sdk, coding: Any, language: LspLanguageId) -> None:
    file, text, line, character = FILES[language.value]
    project = f"project for {language}"
    await coding.fs.create_folder(project, "755")
    await coding.fs.upload_file(text.encode(), f"{project}/{file}")
    lsp = await coding.create_lsp_server(language, project)
    await lsp.start()
    await lsp.start()
    assert "Foo" in [symbol.name for symbol in await lsp.sandbox_symbols("Foo")]
    await lsp.did_open(file)
    for path in (file, f"{project}/{file}", f"{await coding.get_work_dir()}/{project}/{file}"):
        symbols = {symbol.name: symbol for symbol in await lsp.document_symbols(path)}
        assert {"Foo", "bar"} <= symbols.keys()
        assert symbols["Foo"].location.uri.endswith(f"/{file}")
        assert (symbols["Foo"].kind, symbols["Foo"].location.range.start.line) == (5, 0)
    found = await lsp.completions(file, LspCompletionPosition(line=line, character=character))
    assert found.is_incomplete is False
    assert "bar" in [item.label.partition("(")[0] for item in found.items]
    assert (await lsp.completions(file, LspCompletionPosition(line=0, character=0))).items
    # What is written meanwhile counts.
    await coding.fs.upload_file(text.replace("Foo", "Grown").encode(), f"{project}/{file}")
    assert "Grown" in [symbol.name for symbol in await lsp.document_symbols(file)]
    await lsp.did_close(file)
    await lsp.stop()
    with pytest.raises(DaytonaLspServerNotInitializedError):
        await lsp.document_symbols(file)


@scenario
async def test_what_goes_wrong(*, sdk: Sdk, coding: Any) -> None:
    lsp = await coding.create_lsp_server("python", ".")
    for call in (
        lsp.did_open("m.py"),
        lsp.did_close("m.py"),
        lsp.document_symbols("m.py"),
        lsp.sandbox_symbols("m"),
        lsp.completions("m.py", LspCompletionPosition(line=0, character=0)),
    ):
        with pytest.raises(DaytonaLspServerNotInitializedError) as caught:
            await call
        assert (caught.value.status_code, caught.value.code) == (400, "LSP_SERVER_NOT_INITIALIZED")
    with pytest.raises(DaytonaError) as stopping:
        await lsp.stop()
    assert stopping.value.status_code == 500
    with pytest.raises(DaytonaBadRequestError, match="no language server for 'cobol'"):
        await (await coding.create_lsp_server("cobol", ".")).start()
    with pytest.raises(DaytonaBadRequestError, match="not a directory"):
        await (await coding.create_lsp_server("python", "no/such")).start()
    await lsp.start()
    with pytest.raises(DaytonaBadRequestError, match="no such file"):
        await lsp.did_open("none.py")
    await coding.fs.upload_file(b"x = 1\n", "m.py")
    with pytest.raises(DaytonaBadRequestError, match="beyond the end"):
        await lsp.completions("m.py", LspCompletionPosition(line=9, character=0))
    await lsp.stop()

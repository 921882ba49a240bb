"""What a user of the published SDK does first in the default image; fails when an answer is not the right one."""

import base64
import sys

from daytona import (
    ChartType,
    CodeLanguage,
    CreateSandboxFromSnapshotParams,
    Daytona,
    LspCompletionPosition,
    LspLanguageId,
    Sandbox,
)

CHART = """
import matplotlib.pyplot as plt
import pandas as pd
pd.DataFrame({"year": [2024, 2025], "value": [1, 3]}).plot.bar(x="year", y="value", title="Growth")
plt.show()
"""
TYPES = """
enum Colour { Red = 40 }
const answer: number = Colour.Red + 2
console.log(answer, process.version.startsWith('v24.'))
"""
SERVERS = (
    (LspLanguageId.PYTHON, "m.py", "import pandas\npandas.read_cs\n", 1, 14, "read_csv"),
    (LspLanguageId.TYPESCRIPT, "m.ts", "class Foo { bar(x: number) { return x } }\nnew Foo().\n", 1, 10, "bar"),
)


def main(uid: str) -> None:
    """Use one sandbox, whose commands are to run as `uid`."""
    content = bytes(range(256)) * 4096
    daytona = Daytona()
    sandbox = daytona.create()
    answer = sandbox.process.exec("id -u; command -v python3 node git curl rg")
    expected = ["/usr/bin/python3", "/usr/local/bin/node", "/usr/bin/git", "/usr/bin/curl", "/usr/bin/rg"]
    assert (answer.exit_code, answer.result.split()) == (0, [uid, *expected]), answer
    assert sandbox.process.exec("exit 3").exit_code == 3
    sandbox.fs.upload_file(content, "data/bytes.bin")
    assert sandbox.process.exec("wc -c < data/bytes.bin").result.strip() == str(len(content))
    assert sandbox.fs.download_file("data/bytes.bin") == content
    use_python(sandbox)
    use_language_servers(sandbox)
    sandbox.delete()
    sandbox = daytona.create(CreateSandboxFromSnapshotParams(language=CodeLanguage.TYPESCRIPT))
    ran = sandbox.process.code_run(TYPES)
    assert (ran.exit_code, ran.result) == (0, "42 true\n"), ran
    sandbox.delete()
    assert list(daytona.list()) == []


def use_python(sandbox: Sandbox) -> None:
    """Draw a chart, and compute in the interpreter: both have the packages of the sandbox's own Python."""
    drawn = sandbox.process.code_run(CHART)
    assert drawn.exit_code == 0, drawn
    assert drawn.artifacts is not None
    (chart,) = drawn.artifacts.charts or []
    assert (chart.title, chart.type) == ("Growth", ChartType.BAR), chart
    assert chart.png is not None
    assert base64.b64decode(chart.png).startswith(b"\x89PNG")
    interpreter = sandbox.code_interpreter
    assert interpreter.run_code("import numpy, sys; x = numpy.arange(7)").error is None
    assert interpreter.run_code("print(x.sum() * 2, sys.executable)").stdout == "42 /usr/bin/python3\n"


def use_language_servers(sandbox: Sandbox) -> None:
    """Complete a word in each language."""
    for language, file, text, line, character, label in SERVERS:
        sandbox.fs.upload_file(text.encode(), f"project/{file}")
        server = sandbox.create_lsp_server(language, "project")
        server.start()
        server.did_open(file)
        found = server.completions(file, LspCompletionPosition(line=line, character=character))
        assert label in [item.label.partition("(")[0] for item in found.items], found
        server.stop()


main(sys.argv[1])

"""Which programs run the code of the published SDK in somebody else's image: `python -m tests.image.use_baked BASE`.

Fails when an answer is not the right one.
"""

import sys

from daytona import CodeLanguage, CreateSandboxFromSnapshotParams, Daytona

OWN = "/opt/sandbox-toolbox/bin/python3"
PYTHONS = {"debian": OWN, "python": "/usr/bin/python3", "node": OWN, "newer": OWN}
"""What runs the code of the interpreter in each."""
SCRIPT = "const answer: number = 42; console.log(answer, process.execPath)"


def main(base: str) -> None:
    """Run programs of each language."""
    daytona = Daytona()
    sandbox = daytona.create()
    expected = PYTHONS[base]
    ran = sandbox.code_interpreter.run_code("import sys; print(sys.executable)")
    assert ran.stdout == f"{expected}\n", ran
    if expected != OWN:
        assert sandbox.code_interpreter.run_code("import numpy; print(numpy.arange(4).sum())").stdout == "6\n"
    drawn = sandbox.process.code_run("print(6 * 7)")
    assert (drawn.exit_code, drawn.result) == (0, "42\n"), drawn
    sandbox.delete()
    if base == "node":
        sandbox = daytona.create(CreateSandboxFromSnapshotParams(language=CodeLanguage.TYPESCRIPT))
        answer = sandbox.process.code_run(SCRIPT)
        assert (answer.exit_code, answer.result) == (0, "42 /usr/local/bin/node\n"), answer
        sandbox.delete()
    assert list(daytona.list()) == []


main(sys.argv[1])

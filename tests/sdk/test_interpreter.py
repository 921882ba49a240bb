"""The code interpreter of the published Python SDKs."""

from typing import Any

import pytest
from daytona import (
    AsyncDaytona,  # noqa: F401 -- imported first: the package loads its parts lazily
    DaytonaError,
    DaytonaTimeoutError,
)

from tests.sdk.clients import Sdk, scenario


@scenario
async def test_output_and_state(sdk: Sdk, box: Any) -> None:
    interpreter = box.code_interpreter
    seen: list[tuple[str, str]] = []
    answer = await interpreter.run_code(
        "import sys\nx = 41\nprint('hé')\nprint('e', file=sys.stderr)\nprint('end', end='')",
        on_stdout=lambda message: seen.append(("stdout", message.output)),
        on_stderr=lambda message: seen.append(("stderr", message.output)),
    )
    assert (answer.stdout, answer.stderr, answer.error) == ("hé\nend", "e\n", None)
    assert seen == [("stdout", "hé\n"), ("stderr", "e\n"), ("stdout", "end")]
    assert (await interpreter.run_code("print(x + 1)")).stdout == "42\n"


@scenario
async def test_an_error(sdk: Sdk, box: Any) -> None:
    errors: list[Any] = []
    answer = await box.code_interpreter.run_code("print(1)\n1 / 0", on_error=errors.append)
    assert answer.stdout == "1\n"
    assert errors == [answer.error]
    assert (answer.error.name, answer.error.value) == ("ZeroDivisionError", "division by zero")
    assert answer.error.traceback.startswith('Traceback (most recent call last):\n  File "<stdin>", line 2')


@scenario
async def test_a_dead_kernel_is_an_error(sdk: Sdk, box: Any) -> None:
    answer = await box.code_interpreter.run_code("import os; os._exit(3)")
    assert (answer.error.name, "exit code 3" in answer.error.value) == ("KernelDied", True)
    assert (await box.code_interpreter.run_code("print('back')")).stdout == "back\n"


@scenario
async def test_a_timeout(sdk: Sdk, box: Any) -> None:
    await box.code_interpreter.run_code("kept = 1")
    with pytest.raises(DaytonaTimeoutError):
        await box.code_interpreter.run_code("while True: pass", timeout=1)
    assert (await box.code_interpreter.run_code("print(kept)")).stdout == "1\n"


@scenario
async def test_variables(sdk: Sdk, box: Any) -> None:
    code = "import os; print(os.environ.get('GREETING'))"
    assert (await box.code_interpreter.run_code(code, envs={"GREETING": "x y"})).stdout == "x y\n"
    assert (await box.code_interpreter.run_code(code)).stdout == "None\n"


@scenario
async def test_contexts(sdk: Sdk, box: Any) -> None:
    interpreter = box.code_interpreter
    before = await interpreter.list_contexts()
    first, second = await interpreter.create_context(), await interpreter.create_context(cwd="/")
    try:
        assert (second.cwd, second.language, second.active) == ("/", "python", True)
        await interpreter.run_code("y = 1", context=first)
        assert (await interpreter.run_code("y", context=second)).error.name == "NameError"
        assert (await interpreter.run_code("import os; print(os.getcwd())", context=second)).stdout == "/\n"
        listed = [context.id for context in await interpreter.list_contexts()]
        assert listed == [*(context.id for context in before), first.id, second.id]
    finally:
        await interpreter.delete_context(first)
        await interpreter.delete_context(second)
    with pytest.raises(DaytonaError):
        await interpreter.delete_context(first)
    with pytest.raises(DaytonaError, match="context not found"):
        await interpreter.run_code("1", context=first)
    with pytest.raises(DaytonaError, match="not a directory"):
        await interpreter.create_context(cwd="/nope")


@scenario
async def test_what_the_sdk_does_not_know_does_it_no_harm(sdk: Sdk, box: Any) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()\nprint('after')\n42"
    answer = await box.code_interpreter.run_code(code)
    assert (answer.stdout, answer.error) == ("after\n", None)


@scenario
async def test_much_output(sdk: Sdk, box: Any) -> None:
    answer = await box.code_interpreter.run_code("print('é' * 5_000_000)")
    assert answer.stdout == "é" * 5_000_000 + "\n"

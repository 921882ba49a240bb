"""`code_run` of the published Python SDKs, with real plots for every chart class they have."""

import base64
from typing import Any

import pytest
from daytona import (
    AsyncDaytona,  # noqa: F401 -- imported first: the package loads its parts lazily
    BarChart,
    BoxAndWhiskerChart,
    Chart,
    ChartType,
    CodeLanguage,
    CodeRunParams,
    CompositeChart,
    CreateSandboxFromSnapshotParams,
    LineChart,
    PieChart,
    ScatterChart,
)

from tests.sdk.clients import Sdk, scenario


@scenario
async def test_a_program(sdk: Sdk, box: Any) -> None:
    answer = await box.process.code_run("import sys\nprint('hé')\nprint('e', file=sys.stderr)\nsys.exit(3)")
    assert (answer.exit_code, answer.result, answer.artifacts.stdout) == (3, "hé\ne\n", "hé\ne\n")
    assert answer.artifacts.charts == []


@scenario
async def test_arguments_and_variables(sdk: Sdk, box: Any) -> None:
    params = CodeRunParams(argv=["a b", "$HOME", "'"], env={"GREETING": "x y"})
    answer = await box.process.code_run("import os, sys\nprint(sys.argv[1:], os.environ['GREETING'])", params)
    assert answer.result == "['a b', '$HOME', \"'\"] x y\n"


@scenario
async def test_an_error_is_an_answer(sdk: Sdk, box: Any) -> None:
    answer = await box.process.code_run("def f():\n    return 1 / 0\nf()")
    assert answer.exit_code == 1
    assert 'File "<stdin>", line 3, in <module>\n    f()\n' in answer.result
    assert answer.result.endswith("ZeroDivisionError: division by zero\n")


@scenario
async def test_a_timeout(sdk: Sdk, box: Any) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the SDK lets its API client's own error through here
        await box.process.code_run("print('partial')\nimport time\ntime.sleep(1000)", timeout=1)
    assert getattr(caught.value, "status", None) == 408
    assert '"result":"partial\\n"' in getattr(caught.value, "body", "")


@scenario
async def test_the_other_languages(sdk: Sdk) -> None:
    programs = (
        (CodeLanguage.JAVASCRIPT, "console.log(3, process.argv.slice(1))"),
        (CodeLanguage.TYPESCRIPT, "enum A { B = 3 }\nconst x: number = A.B\nconsole.log(x, process.argv.slice(1))"),
    )
    for language, code in programs:
        box = await sdk.daytona.create(CreateSandboxFromSnapshotParams(language=language))
        try:
            answer = await box.process.code_run(code, CodeRunParams(argv=["a b"]))
            assert (answer.exit_code, answer.result) == (0, "3 [ 'a b' ]\n")
        finally:
            await box.delete(wait=True)


# Charts

PLOTS: dict[type[Chart], str] = {
    LineChart: "plt.plot([0, 1, 2.5], [1, 4, 9], label='squares')",
    ScatterChart: "plt.scatter([1, 2], [3, 4.5], label='dots')",
    BarChart: "plt.bar(['x', 'y'], [1, 2.5], label='sold')",
    PieChart: "plt.pie([1, 3], labels=['a', 'b'])",
    BoxAndWhiskerChart: "plt.boxplot([[1, 2, 3, 4, 20]], tick_labels=['box'])",
    CompositeChart: "f, (a, b) = plt.subplots(1, 2); a.plot([1, 2]); a.set_title('left'); b.bar(['x'], [3])",
    Chart: "plt.imshow([[1, 2], [3, 4]])",
}


def check_line(chart: Any) -> None:
    assert (chart.x_label, chart.y_label, chart.x_scale, chart.y_scale) == ("X", "Y", "linear", "linear")
    assert len(chart.x_ticks) == len(chart.x_tick_labels) > 1
    (element,) = chart.elements
    assert (element.label, element.points) == ("squares", [[0, 1], [1, 4], [2.5, 9]])


def check_scatter(chart: Any) -> None:
    (element,) = chart.elements
    assert (element.label, element.points) == ("dots", [[1, 3], [2, 4.5]])


def check_bar(chart: Any) -> None:
    assert [(e.label, float(e.value), e.group) for e in chart.elements] == [("x", 1, "sold"), ("y", 2.5, "sold")]


def check_pie(chart: Any) -> None:
    assert [(e.label, round(e.angle, 3), e.radius) for e in chart.elements] == [("a", 90, 1), ("b", 270, 1)]


def check_box(chart: Any) -> None:
    (box,) = chart.elements
    assert (box.label, box.min, box.first_quartile, box.median) == ("box", 1, 2, 3)
    assert (box.third_quartile, box.max, box.outliers) == (4, 4, [20])


def check_composite(chart: Any) -> None:
    assert [part.type for part in chart.elements] == ["line", "bar"]
    assert chart.elements[0].title == "left"


def check_unknown(chart: Any) -> None:
    assert chart.elements == []


CHECKS = {
    LineChart: (ChartType.LINE, check_line),
    ScatterChart: (ChartType.SCATTER, check_scatter),
    BarChart: (ChartType.BAR, check_bar),
    PieChart: (ChartType.PIE, check_pie),
    BoxAndWhiskerChart: (ChartType.BOX_AND_WHISKER, check_box),
    CompositeChart: (ChartType.COMPOSITE_CHART, check_composite),
    Chart: (ChartType.UNKNOWN, check_unknown),
}


@scenario
async def test_every_chart_class(sdk: Sdk, box: Any) -> None:
    program = "import matplotlib.pyplot as plt\n" + "".join(
        f"{plot}\nplt.suptitle('T') if len(plt.gcf().axes) > 1 else plt.title('T')\n"
        "plt.xlabel('X'); plt.ylabel('Y'); plt.show()\n"
        for plot in PLOTS.values()
    )
    answer = await box.process.code_run(program)
    assert (answer.exit_code, answer.result) == (0, "")
    assert [type(chart) for chart in answer.artifacts.charts] == list(PLOTS)
    for kind, chart in zip(PLOTS, answer.artifacts.charts, strict=True):
        name, check = CHECKS[kind]
        assert (chart.type, chart.title) == (name, "T")
        assert base64.b64decode(chart.png, validate=True).startswith(b"\x89PNG")
        check(chart)

"""Values, displays and charts: what comes beside text."""

import base64
import json
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from charts.models import read_chart
from tests.conftest import Daemon, run_daemon
from tests.interpreter.client import create, run
from toolbox.config import ServeConfig

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4], label='a')\nplt.title('T')\n"


@pytest.fixture
async def daemon(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon without spare kernels."""
    async with run_daemon(serve_config(spare_kernels="0")) as running_daemon:
        yield running_daemon


async def test_a_value_by_mime_type(daemon: Daemon) -> None:
    code = """
class Rich:
    def _repr_html_(self): return '<b>h</b>'
    def _repr_latex_(self): return '$x$'
    def _repr_svg_(self): return '<svg/>'
    def _repr_json_(self): return {'nan': float('nan'), 'set': {1}, 3: b'ab'}
    def _repr_png_(self): return b'\\x89PNG'
    def _repr_jpeg_(self): return b'\\xff\\xd8'
    def __repr__(self): return 'rich'
Rich()
"""
    (result,) = (await run(daemon, code)).of("result")
    assert result["data"] == {
        "text/plain": "rich",
        "text/html": "<b>h</b>",
        "text/latex": "$x$",
        "image/svg+xml": "<svg/>",
        "image/png": base64.b64encode(b"\x89PNG").decode(),
        "image/jpeg": base64.b64encode(b"\xff\xd8").decode(),
        "application/json": {"nan": None, "set": "{1}", "3": base64.b64encode(b"ab").decode()},
    }
    assert result["metadata"] == {}


async def test_specifications_of_plots(daemon: Daemon) -> None:
    for mime in ("application/vnd.plotly.v1+json", "application/vnd.vegalite.v5+json"):
        ran = await run(
            daemon, f"from IPython.display import display\ndisplay({{{mime!r}: {{'data': [1]}}}}, raw=True)"
        )
        (shown,) = ran.of("display")
        assert shown["data"] == {mime: {"data": [1]}}


async def test_displays_come_between_what_is_printed(daemon: Daemon) -> None:
    code = """
from IPython.display import HTML, display
print('a')
handle = display(HTML('<i>1</i>'), display_id='it')
print('b')
handle.update(HTML('<i>2</i>'))
print('c', end='')
'value'
"""
    ran = await run(daemon, code)
    kinds = [(m["type"], m["text"] or m.get("data", {}).get("text/html", "")) for m in ran.messages]
    assert kinds == [
        ("stdout", "a\n"),
        ("display", "<i>1</i>"),
        ("stdout", "b\n"),
        ("display", "<i>2</i>"),
        ("stdout", "c"),
        ("result", ""),
        ("control", "completed"),
    ]
    first, second = ran.of("display")
    assert (first["displayId"], first["update"]) == ("it", False)
    assert (second["displayId"], second["update"]) == ("it", True)


async def test_what_is_too_large_is_left_out_and_named(daemon: Daemon) -> None:
    code = (
        "from IPython.display import display\ndisplay({'image/png': 'A' * 5_000_000, 'text/plain': 'small'}, raw=True)"
    )
    (shown,) = (await run(daemon, code)).of("display")
    assert (shown["data"], shown["omitted"]) == ({"text/plain": "small"}, ["image/png"])


async def test_metadata_that_is_too_large_is_left_out_and_named(daemon: Daemon) -> None:
    code = (
        "from IPython.display import display\ndisplay({'text/plain': 'x'}, metadata={'a': 'm' * 9_000_000}, raw=True)"
    )
    (shown,) = (await run(daemon, code)).of("display")
    assert (shown["data"], shown["metadata"], shown["omitted"]) == ({"text/plain": "x"}, {}, ["metadata"])


async def test_a_figure_that_takes_too_long_to_draw_is_interrupted(daemon: Daemon) -> None:
    code = f"x = 1\n{PLOT}import time\nplt.ioff(); plt.gcf().draw = lambda *_: time.sleep(600)\nNone"
    await run(daemon, "import matplotlib.pyplot")
    ran = await run(daemon, code, timeout=1)
    assert (ran.code, ran.reason) == (4008, "")
    assert (await run(daemon, "plt.close('all'); x")).value() == "1"


async def test_a_repr_that_fails_is_an_error(daemon: Daemon) -> None:
    ran = await run(daemon, "class Bad:\n    def __repr__(self): raise OSError('no')\nBad()")
    assert ran.error["name"] == "OSError"
    assert (await run(daemon, "1")).value() == "1"


@pytest.mark.parametrize(
    "end",
    [
        "plt.show()",
        "None",
        "import matplotlib\nNone",
        "plt.savefig('x.png'); plt.close()",
        "plt.switch_backend('agg'); plt.show()",
        "plt.show = lambda *a, **k: None\nplt.show()",
    ],
)
async def test_a_figure_is_a_chart(daemon: Daemon, end: str) -> None:
    ran = await run(daemon, PLOT + end)
    (message,) = ran.of("chart")
    chart = message["chart"]
    assert read_chart(json.dumps(chart).encode())
    assert (chart["type"], chart["title"]) == ("line", "T")
    assert chart["elements"] == [{"label": "a", "points": [[0, 1], [1, 2], [2, 4]]}]
    assert base64.b64decode(chart["png"]).startswith(b"\x89PNG")
    assert ran.of("display") == ran.of("error") == []
    assert ran.controls == ["completed"]
    assert (await run(daemon, "plt.get_fignums()")).value() == "[]"


async def test_charts_stand_where_they_were_shown(daemon: Daemon) -> None:
    ran = await run(daemon, f"print(1)\n{PLOT}plt.show()\nprint(2)\nplt.bar(['x'], [3]); plt.show()\nprint(3)\n1 / 0")
    assert [m["type"] for m in ran.messages] == ["stdout", "chart", "stdout", "chart", "stdout", "error", "control"]


async def test_a_chart_with_too_many_points_is_still_a_chart(daemon: Daemon) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([n / 7 for n in range(200_000)])\nplt.show()"
    (message,) = (await run(daemon, code)).of("chart")
    assert message["omitted"] == ["elements"]
    assert message["chart"]["elements"] == []
    assert message["chart"]["png"]


async def test_data_frames(daemon: Daemon) -> None:
    ran = await run(daemon, "import pandas\npandas.DataFrame({'a': [1, 2]})")
    assert "<th>a</th>" in ran.value("text/html")
    (chart,) = (await run(daemon, "pandas.DataFrame({'a': [1, 2]}).plot()\nNone")).of("chart")
    assert chart["chart"]["elements"] == [{"label": "a", "points": [[0, 1], [1, 2]]}]


async def test_another_language(serve_config: Callable[..., ServeConfig], tmp_path: object) -> None:
    spec = {
        "argv": ["{python}", "-m", "bash_kernel", "-f", "{connection_file}"],
        "display_name": "Bash",
        "language": "bash",
    }
    config = serve_config(spare_kernels="0")
    place = config.work_dir / "jupyter/kernels/shell"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec).replace("{python}", sys.executable))
    (place.parent / "broken").mkdir()
    (place.parent / "broken/kernel.json").write_text("{")
    async with run_daemon(config) as daemon:
        # In a home of its own: the shell would read the start-up files of whoever runs the tests.
        variables = {"JUPYTER_PATH": str(place.parent.parent), "HOME": str(config.work_dir)}
        async with daemon.http.post("/env", json={"set": variables}) as response:
            assert response.status == 200
        async with daemon.http.get("/process/interpreter/languages") as response:
            languages = (await response.json())["languages"]
        assert languages[0]["name"] == "python"
        assert {"name": "shell", "displayName": "Bash", "language": "bash", "path": str(place)} in languages
        (daemon.work_dir / "sub").mkdir()
        context = await create(daemon, language="bash", cwd="sub")
        ran = await run(daemon, "x=41; pwd; echo error >&2", context)
        assert ran.text().splitlines()[:1] == [str(daemon.work_dir / "sub")], ran.messages
        ran = await run(daemon, "echo $((x + 1)); false", context)
        assert ran.text().strip() == "42"
        assert ran.controls == ["completed"]
        stopped = await run(daemon, "echo on; sleep 60", context, timeout=1)
        assert (stopped.code, stopped.text().strip()) == (4008, "on")
        assert (await run(daemon, "echo $x", context)).text().strip() == "41"
        assert (await run(daemon, "exit", context, timeout=20)).code in (1000, 4008)
        async with daemon.http.post("/process/interpreter/context", json={"language": "cobol"}) as response:
            assert response.status == 400
            assert "there are: python" in (await response.json())["message"]

"""Programs that do with matplotlib what the hook must bear, with the oldest and the newest one."""

import base64
import struct

import pytest

from tests.charts.drawing import run
from tests.conftest import Daemon

DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4])\nplt.title('T')\n"


@pytest.mark.parametrize("size", ["figsize=(200, 100), dpi=100", "figsize=(5, 4), dpi=3200"])
async def test_a_figure_of_200_megapixels_is_drawn_smaller(daemon: Daemon, size: str) -> None:
    code = f"import matplotlib.pyplot as plt\nfigure = plt.figure({size})\n"
    code += "before = figure.dpi, *figure.get_size_inches()\n"
    code += "plt.plot([1, 2])\nplt.show()\nprint((figure.dpi, *figure.get_size_inches()) == before)\n"
    # Not `getrusage`, whose maximum counts the process that started this one.
    code += "peak = dict(line.split(':') for line in open('/proc/self/status'))['VmHWM']\n"
    code += "print(int(peak.removesuffix(' kB\\n')) < 400_000)\n"
    answer = await run(daemon.http, code)
    assert (answer["exitCode"], answer["result"]) == (0, "True\nTrue\n")
    (chart,) = answer["artifacts"]["charts"]
    assert chart["elements"][0]["points"] == [[0, 1], [1, 2]]
    width, height = struct.unpack(">II", base64.b64decode(chart["png"])[16:24])
    assert 1_000_000 < width * height < 8_100_000


@pytest.mark.parametrize("replacement", ["lambda: print('mine')", "lambda show=plt.show: (print('mine'), show())"])
async def test_a_program_that_replaces_show(daemon: Daemon, replacement: str) -> None:
    answer = await run(daemon.http, f"{DRAW}plt.show = {replacement}\nplt.show()\n")
    assert (answer["exitCode"], answer["result"]) == (0, "mine\n")
    assert [chart["title"] for chart in answer["artifacts"]["charts"]] == ["T"]


async def test_a_full_disk(daemon: Daemon) -> None:
    code = (
        DRAW + "try:\n    plt.savefig('/dev/full', format='png')\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    answer = await run(daemon.http, code)
    assert (answer["exitCode"], answer["result"]) == (0, "No space left on device\n")
    assert [chart["title"] for chart in answer["artifacts"]["charts"]] == ["T"]


async def test_modules_of_the_program_called_as_ours(daemon: Daemon) -> None:
    names = ("charts", "extract", "axis", "series", "values", "report", "picture", "hook")
    for name in names:
        (daemon.work_dir / f"{name}.py").write_text(f"mine = {name!r}\n")
    answer = await run(daemon.http, f"import {', '.join(names)}\n{DRAW}print(charts.mine, series.mine)\n")
    assert (answer["exitCode"], answer["result"]) == (0, "charts series\n")
    assert [chart["title"] for chart in answer["artifacts"]["charts"]] == ["T"]

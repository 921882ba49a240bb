"""The rows of the speed card. Each is a function of a `Target` that returns figures by name.

Milliseconds are medians. A row cleans up after itself, so that rows can be run again and in any order.
"""

from collections.abc import Callable

from bench.rows import code, desktop, files, interpreter, process, sessions
from bench.target import Figures, Target

Row = Callable[[Target], Figures]

ROWS: tuple[Row, ...] = (
    process.version,
    process.execute,
    process.execute_rate,
    process.execute_large,
    files.transfer_large,
    files.transfer_small,
    files.listing,
    files.search_names,
    files.find_text,
    files.replace_text,
    files.upload_many,
    files.archive,
    process.run_program,
    process.run_chart,
    interpreter.interpreter_run,
    interpreter.interpreter_contexts,
    interpreter.interpreter_output,
    sessions.session_execute,
    sessions.session_follow,
    sessions.pty_echo,
    sessions.pty_throughput,
    code.git_reads,
    code.git_clone,
    code.completions,
    desktop.desktop,
    desktop.accessibility,
    desktop.mouse,
    desktop.keyboard,
    desktop.screenshots,
    desktop.screenshot_rate,
    desktop.recording,
    desktop.window_list,
)

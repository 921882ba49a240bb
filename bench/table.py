"""The table of the speed card: each figure with the reference's, the bound it is to keep, and what limits it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of the card.

    `limit` is the figure that nothing can beat on the machine, measured in the same run; `factor` how far from it the
    figure may be before `bench.check` fails: about twice what it is on a quiet machine.
    """

    figure: str
    what: str
    unit: str
    reference: float | None
    """The reference daemon's, on a quiet machine of two cores."""
    bound: float | None
    limit: str | None = None
    factor: float | None = None
    more_is_better: bool = False

    def ratio_to_reference(self, value: float) -> float | None:
        """Return the figure as a part of the reference's: below 1 is better; None where that has none."""
        return self._ratio(value, self.reference)

    def ratio_to_limit(self, figures: Mapping[str, float]) -> float | None:
        """Return how many times the limit the figure costs; None if one of them was not measured."""
        if self.limit is None or self.figure not in figures:
            return None
        return self._ratio(figures[self.figure], figures.get(self.limit))

    def keeps_bound(self, value: float) -> bool | None:
        """Tell whether the figure keeps its bound; None where there is none."""
        ratio = self._ratio(value, self.bound)
        return None if ratio is None else ratio <= 1

    def _ratio(self, value: float, other: float | None) -> float | None:
        if not other:
            return None
        if self.more_is_better:
            return other / value if value else math.inf
        return value / other


MS, RATE, SPEED, MB = "ms", "/s", "MB/s", "MB"
LINES = (
    Line("version_ms", "GET /version", MS, 0.38, 0.38, "bare_request_ms", 6),
    Line("execute_ms", "execute `echo hi`", MS, 5.0, 2.3, "bare_shell_ms", 4),
    Line("execute_per_s", "execute, 16 clients", RATE, 398, 850, "bare_shell_per_s", 4, more_is_better=True),
    Line("execute_50mb_s", "execute with 50 MB of output", "s", 0.55, 0.5, "bare_50mb_s", 8),
    Line("execute_50mb_growth_mb", "… memory meanwhile", MB, None, 150),
    Line("code_run_ms", "code-run, Python `print`", MS, 18.5, None, "bare_python_ms", 2),
    Line("code_run_beyond_python_ms", "… beyond the bare interpreter", MS, None, 5),
    Line("code_run_chart_ms", "code-run, one chart", MS, 618, 450, "code_run_savefig_ms", 2),
    Line("session_execute_ms", "session exec (sync)", MS, 52, 3, "bare_shell_ms", 4),
    Line("session_first_byte_ms", "session async, first followed byte", MS, 24, 4, "bare_request_ms", 45),
    Line("pty_echo_ms", "PTY echo", MS, 0.59, 0.5, "bare_pty_echo_ms", 45),
    Line("pty_mb_per_s", "PTY throughput", SPEED, 35, 50, "bare_pty_mb_per_s", 3, more_is_better=True),
    Line("interpreter_run_ms", "interpreter run, warm", MS, 53, 5, "bare_python_line_ms", 120),
    Line("interpreter_context_ms", "interpreter, new context", MS, 55, 60, "bare_python_start_ms", 12),
    Line("interpreter_burst_of_5_ms", "interpreter, five new contexts", MS, None, 1000, "bare_python_start_ms", 70),
    Line("upload_mb_per_s", "upload 256 MB", SPEED, 490, 900, "bare_receive_mb_per_s", 3, more_is_better=True),
    Line("download_mb_per_s", "download 256 MB", SPEED, 1880, 1880, "bare_send_mb_per_s", 3, more_is_better=True),
    Line("bulk_download_mb_per_s", "bulk-download", SPEED, 1600, 1600, "bare_send_mb_per_s", 3, more_is_better=True),
    Line("transfer_growth_mb", "… memory meanwhile", MB, None, 16),
    Line("upload_1kb_ms", "upload 1 kB", MS, 1.0, 1.0, "bare_request_ms", 16),
    Line("download_1kb_ms", "download 1 kB", MS, 0.44, 0.44, "bare_request_ms", 12),
    Line("list_10000_ms", "list 10,000 files", MS, 40, 40, "bare_list_ms", 4),
    Line("search_20000_for_200_ms", "search 20,000 files by name", MS, 40, 15, "bare_walk_ms", 3),
    Line("find_20000_ms", "find a text in 20,000 files", MS, 179, 80, "bare_find_ms", 2.5),
    Line("replace_1000_ms", "replace in 1,000 files", MS, 168, 150, "bare_replace_ms", 2),
    Line("git_status_20000_ms", "git status, 20,000 files", MS, 201, 60, "git_status_native_ms", 2),
    Line("git_branches_ms", "git branches", MS, 0.25, 2, "bare_request_ms", 20),
    Line("screenshot_ms", "screenshot, 1080p PNG", MS, 137, 20, "bare_grab_ms", 10),
    Line("screenshot_region_ms", "screenshot, 800 x 600 PNG", MS, 39, 8, "bare_grab_region_ms", 12),
    Line("screenshot_jpeg_ms", "screenshot, 1080p JPEG q80", MS, 61, 12, "bare_grab_ms", 13),
    Line("mouse_move_ms", "mouse move", MS, 53, 2, "bare_motion_ms", 20),
    Line("mouse_click_ms", "mouse click", MS, 109, 5, "bare_motion_ms", 35),
    Line("type_100_ms", "type 100 characters", MS, 557, 30, "bare_type_100_ms", 3),
    Line("windows_ms", "list of windows", MS, 200, 20, "bare_windows_ms", 12),
    Line("a11y_tree_ms", "accessibility tree", MS, 800, 150),
    Line("desktop_start_ms", "desktop start", MS, 10_000, 3000),
    Line("start_ms", "start to first answer", MS, 63, 250, "bare_start_ms", 2.2),
    Line("idle_memory_mb", "idle memory", MB, 46, 45, "bare_memory_mb", 1.5),
    Line("loop_held_max_screenshots_ms", "event loop held at most, 30 screenshots/s", MS, None, 10),
)

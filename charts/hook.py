"""Watch matplotlib in the user's program, and report every figure once.

Loaded by file path as module `_toolbox_charts`, before the user's code. Nothing happens until the program imports
matplotlib. A figure is reported when it is finished:

- by `plt.show()`: all open figures, in the order of their numbers; they are closed then, as a window would be;
- when it was saved (`savefig`) or shown without waiting (`fig.show()`, `plt.show(block=False)`) and is then closed or
  cleared;
- at the end of the program (`collect`), when it is still open.

A figure that is closed without having been shown or saved was thrown away, and is not reported. Another process (a fork
of the program) reports nothing. No error of ours reaches the program.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import inspect
import os
import sys
import threading
import traceback
from typing import Any, Callable, Optional

__path__ = [os.path.dirname(__file__)]  # the files beside this one are its submodules

Emit = Callable[[dict[str, Any], Optional[bytes]], None]
"""Takes a chart as JSON-ready data, and the picture as PNG, if it could be drawn."""

MAX_WAITING = 20
"""Saved figures that nobody closes (made without pyplot) are kept up to this number, then the oldest is reported."""


def install(emit: Emit, failed: Callable[[str], None]) -> Hook:
    """Report each figure of this process from now on to `emit`, and errors of ours to `failed`."""
    sys.modules.setdefault(__name__, _this_module())
    hook = Hook(emit, failed)
    for name, patch in hook.patches.items():
        module = sys.modules.get(name)
        if module is not None:
            hook.guarded(patch, module)
    sys.meta_path.insert(0, AfterImport(hook))
    return hook


def _this_module() -> Any:
    """Return this module, for loaders that did not register it."""
    module = type(sys)(__name__)
    module.__dict__.update(globals())
    return module


def _keep(axes: Any, name: str, value: Any) -> None:
    axes.__dict__.setdefault(f"_toolbox_{name}", []).append(value)


class AfterImport:
    """A finder that finds nothing itself, but sees when a module of `Hook.patches` has been imported."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec that the other finders find, its loader calling our patch after the module's code."""
        patch = self.hook.patches.get(name)
        if patch is None:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    self.hook.guarded(self._follow, spec.loader, name, patch)
                return spec
        return None

    def _follow(self, loader: Any, name: str, patch: Callable[[Any], None]) -> None:
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            if module.__name__ == name:
                del loader.exec_module
                self.hook.guarded(patch, module)

        loader.exec_module = exec_module


class Hook:
    """The figures of this process that have something to report."""

    def __init__(self, emit: Emit, failed: Callable[[str], None]) -> None:
        self.emit = emit
        self.failed = failed
        self.process = os.getpid()
        self.lock = threading.RLock()
        self.waiting: list[Any] = []
        """Figures that were saved, or shown without waiting, and are not reported yet, oldest first."""
        self.patches: dict[str, Callable[[Any], None]] = {
            "matplotlib": self._choose_backend,
            "matplotlib.figure": self._patch_figure,
            "matplotlib.axes": self._patch_axes,
            "matplotlib.pyplot": self._patch_pyplot,
            "matplotlib_inline.backend_inline": self._patch_inline,
        }

    def collect(self) -> None:
        """Report the figures that are still open, or saved and never closed, and close them."""
        self.guarded(self._collect)

    def guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of ours; its error goes to the log, never to the program."""
        try:
            return function(*arguments)
        except Exception:
            self._report_failure(traceback.format_exc())

    def _report_failure(self, text: str) -> None:
        with contextlib.suppress(Exception):  # nobody is left to tell
            self.failed(text)

    # What the program calls

    def _choose_backend(self, matplotlib: Any) -> None:
        """Draw into memory when the program has not chosen: a window would wait for somebody to close it."""
        if not isinstance(dict.get(matplotlib.rcParams, "backend"), str):
            matplotlib.rcParams["backend"] = "agg"

    def _patch_figure(self, module: Any) -> None:
        figure = module.Figure

        @functools.wraps(figure.savefig)
        def savefig(self: Any, *arguments: Any, **options: Any) -> Any:
            result = saved(self, *arguments, **options)
            # A frame of an animation is not a picture of its own.
            if sys._getframe(1).f_globals.get("__name__") != "matplotlib.animation":
                hook.guarded(hook._wait, self)
            return result

        @functools.wraps(figure.clear)
        def clear(self: Any, *arguments: Any, **options: Any) -> Any:
            hook.guarded(hook._finish, [self])
            return cleared(self, *arguments, **options)

        @functools.wraps(figure.show)
        def show(self: Any, *arguments: Any, **options: Any) -> Any:
            if hook._has_window(self) or getattr(self.canvas, "manager", None) is None:
                result = shown(self, *arguments, **options)
            else:
                result = None  # the original would warn that there is no window
            hook.guarded(hook._wait, self)
            return result

        hook, saved, cleared, shown = self, figure.savefig, figure.clear, figure.show
        figure.savefig, figure.clear, figure.show = savefig, clear, show
        if "clf" in figure.__dict__:  # its own method before 3.6
            figure.clf = clear

    def _patch_axes(self, module: Any) -> None:
        """Keep the numbers of what matplotlib leaves only lines and outlines of."""
        axes = module.Axes
        hook, plain_bxp, plain_hist, plain_broken = self, axes.bxp, axes.hist, axes.broken_barh

        @functools.wraps(plain_bxp)
        def bxp(self: Any, bxpstats: Any, *arguments: Any, **options: Any) -> Any:
            bxpstats = list(bxpstats)
            artists = plain_bxp(self, bxpstats, *arguments, **options)
            _keep(self, "boxes", (bxpstats, artists))
            return artists

        @functools.wraps(plain_hist)
        def hist(self: Any, *arguments: Any, **options: Any) -> Any:
            drawn = plain_hist(self, *arguments, **options)
            hook.guarded(keep_hist, self, drawn, arguments, options)
            return drawn

        def keep_hist(axes: Any, drawn: Any, arguments: Any, options: Any) -> None:
            given = inspect.signature(plain_hist).bind(axes, *arguments, **options).arguments
            if str(given.get("histtype")).startswith("step"):
                _keep(axes, "hists", (drawn, {name: given.get(name) for name in ("bottom", "stacked", "orientation")}))

        @functools.wraps(plain_broken)
        def broken_barh(self: Any, xranges: Any, *arguments: Any, **options: Any) -> Any:
            drawn = plain_broken(self, xranges, *arguments, **options)
            _keep(self, "broken_bars", (xranges, drawn))
            return drawn

        axes.bxp, axes.hist, axes.broken_barh = bxp, hist, broken_barh

    def _patch_pyplot(self, pyplot: Any) -> None:
        @functools.wraps(pyplot.show)
        def show(*arguments: Any, **options: Any) -> Any:
            if hook.process != os.getpid():
                return shown(*arguments, **options)
            figures = hook.guarded(hook._open) or []
            result = shown(*arguments, **options) if any(map(hook._has_window, figures)) else None
            if options.get("block") is False:
                for figure in figures:
                    hook.guarded(hook._wait, figure)
            else:
                hook.guarded(hook._report_all, figures)
                hook.guarded(close_all, figures)
            return result

        @functools.wraps(pyplot.close)
        def close(*arguments: Any, **options: Any) -> Any:
            before = hook.guarded(hook._open) or []
            result = closed(*arguments, **options)
            after = hook.guarded(hook._open) or []
            hook.guarded(hook._finish, [figure for figure in before if figure not in after])
            return result

        def close_all(figures: list[Any]) -> None:
            for figure in figures:
                closed(figure)

        hook, shown, closed = self, pyplot.show, pyplot.close
        pyplot.show, pyplot.close = show, close
        # matplotlib closes all figures at exit by a function that it registered before this one, so it runs after it.
        atexit.register(self.collect)

    def _patch_inline(self, module: Any) -> None:
        """Make notebooks' backend (`%matplotlib inline`) show figures in our way, also at the end of a cell."""

        @functools.wraps(module.show)  # the module keeps what it has to do in the function's attributes
        def show(close: Any = None, block: Any = None) -> None:
            self.collect()

        module.show = show

    # What happens to a figure

    def _wait(self, figure: Any) -> None:
        if self.process != os.getpid():
            return
        with self.lock:
            if not any(figure is other for other in self.waiting):
                self.waiting.append(figure)
            unmanaged = [other for other in self.waiting if other.canvas.manager is None]
            late = unmanaged[: -MAX_WAITING or None] if len(unmanaged) > MAX_WAITING else []
        self._report_all(late)

    def _finish(self, figures: list[Any]) -> None:
        """Report those of the figures that were shown or saved."""
        self._report_all([figure for figure in figures if any(figure is other for other in self.waiting)])

    def _collect(self) -> None:
        figures = self._open()
        unseen = [figure for figure in self.waiting if not any(figure is other for other in figures)]
        ours = [figure for figure in figures if self._is_drawn(figure) or any(figure is w for w in self.waiting)]
        self._report_all(unseen + ours)
        if figures and self.process == os.getpid():
            helpers = sys.modules["matplotlib._pylab_helpers"]
            for figure in figures:
                helpers.Gcf.destroy_fig(figure)

    def _report_all(self, figures: list[Any]) -> None:
        for figure in figures:
            self.guarded(self._report, figure)

    def _report(self, figure: Any) -> None:
        if self.process != os.getpid():
            return
        with self.lock:
            self.waiting = [other for other in self.waiting if other is not figure]
            report = importlib.import_module(__name__ + ".report")
            chart, png, errors = report.describe(figure)
            for error in errors:
                self._report_failure(error)
            self.emit(chart, png)

    @staticmethod
    def _open() -> list[Any]:
        """Return the figures that pyplot has open, in the order of their numbers."""
        helpers = sys.modules.get("matplotlib._pylab_helpers")
        if helpers is None:
            return []
        managers: list[tuple[Any, Any]] = sorted(helpers.Gcf.figs.items(), key=lambda item: item[0])
        return [manager.canvas.figure for _, manager in managers]

    @staticmethod
    def _is_drawn(figure: Any) -> bool:
        """Tell whether something has been put into the figure."""
        return bool(figure.axes or figure.texts or figure.images or figure.artists or figure.lines or figure.patches)

    @staticmethod
    def _has_window(figure: Any) -> bool:
        """Tell whether the figure's backend puts it on a screen; then showing it is the backend's business too."""
        return bool(getattr(type(figure.canvas), "required_interactive_framework", None))

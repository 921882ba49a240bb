"""The kernel: ipykernel's, with output, results, errors and charts on the daemon's channel.

The request comes by Jupyter's shell channel, its `metadata` telling what is ours: `{"toolbox": {"run": NUMBER, "env":
{...}, "cwd": PATH, "reseed": true}}`. `env` is for this run only; `cwd` is the directory of the context that a spare
kernel has become; `reseed` says that there may be twins of this process, who would draw the same random numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import importlib.util
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import ipykernel
from ipykernel.displayhook import ZMQDisplayHook, ZMQShellDisplayHook
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQDisplayPublisher, ZMQInteractiveShell

from .channel import END, READY, STARTED, STDERR, STDOUT, TEXT_LIMIT, Channel, encode
from .errors import describe
from .output import Output, Stream


class Daemon:
    """The way to the daemon, set by `run`."""

    channel: Channel
    output: Output
    charts: Any = None


def tell(message: dict[str, Any]) -> None:
    """Send a message after all that was printed before it."""
    Daemon.output.flush()
    Daemon.channel.message(message)


def bundle(data: dict[str, Any]) -> dict[str, Any]:
    """Return a MIME bundle whose text is not longer than is kept."""
    text = data.get("text/plain")
    if isinstance(text, str) and len(text) > TEXT_LIMIT:
        data = {**data, "text/plain": f"{text[:TEXT_LIMIT]}[... {len(text) - TEXT_LIMIT} characters cut ...]"}
    return data


class ResultHook(ZMQShellDisplayHook):
    """Sends the value of an expression."""

    bundle: dict[str, Any] | None = None
    bundle_metadata: Any = None

    def start_displayhook(self) -> None:
        """Begin a value."""
        self.bundle = None

    def write_output_prompt(self) -> None:
        """Show no prompt."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        """Take the representations of the value."""
        self.bundle, self.bundle_metadata = format_dict, md_dict

    def finish_displayhook(self) -> None:
        """Send them."""
        data, self.bundle = self.bundle, None
        if data:
            tell({"type": "result", "data": bundle(data), "metadata": self.bundle_metadata or {}})


class DisplayPublisher(ZMQDisplayPublisher):
    """Sends what `display()` is given."""

    def publish(self, data: Any, metadata: Any = None, *_: Any, **options: Any) -> None:
        """Send a bundle, or a new one for what was displayed under the same id."""
        message = {"type": "display", "data": bundle(data), "metadata": metadata or {}}
        display_id = (options.get("transient") or {}).get("display_id")
        if display_id is not None:
            message["displayId"] = display_id
            message["update"] = bool(options.get("update"))
        tell(message)

    def clear_output(self, wait: bool = False) -> None:
        """Leave what was sent."""


class Shell(ZMQInteractiveShell):
    """An IPython shell whose errors are told to the daemon, and whose `!` leaves output where it is printed."""

    displayhook_class = ResultHook
    display_pub_class = DisplayPublisher
    system = ZMQInteractiveShell.system_raw

    def showtraceback(
        self,
        exc_tuple: Any = None,
        filename: Any = None,
        tb_offset: Any = None,
        exception_only: bool = False,
        running_compiled_code: bool = False,
    ) -> None:
        """Tell the daemon of an error; an interrupt and `sys.exit` are none."""
        try:
            kind, error, trace = self._get_exc_info(exc_tuple)  # type: ignore[no-untyped-call]
        except ValueError:
            return
        if Daemon.output.forked:
            end_fork(error)
        if issubclass(kind, SystemExit):
            self._last_traceback = []
            return
        if issubclass(kind, KeyboardInterrupt) or (Kernel.signalled and issubclass(kind, asyncio.CancelledError)):
            Kernel.interrupted = True
            self._last_traceback = []
            return
        found = describe(kind, error, None if exception_only else trace, Kernel.code_name)
        self._last_traceback = found["traceback"].splitlines()
        Kernel.failed = True
        tell({"type": "error", **found})

    def _format_exception_for_storage(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Format no error a second time, for a history that nobody asks for."""
        return {}

    @contextlib.contextmanager
    def _tee(self, *_: Any, **__: Any) -> Iterator[None]:
        """Keep no copy of all that is printed, as IPython 9 does for its history: that is memory without bound."""
        yield

    def showsyntaxerror(self, filename: Any = None, running_compiled_code: bool = False) -> None:
        """Tell the daemon of code that is no Python."""
        self.showtraceback(exception_only=not running_compiled_code)

    def showindentationerror(self) -> None:
        """Tell the daemon of code that is no Python."""
        self.showsyntaxerror()


class Kernel(IPythonKernel):
    """ipykernel's kernel with the daemon's rules for a run: when it can be interrupted, and when it has ended."""

    shell_class = Shell
    running = False
    signalled = False
    """SIGINT came during this run."""
    interrupted = False
    """The run was ended by it, or by a KeyboardInterrupt of its own."""
    failed = False
    """The daemon was told of an error of this run."""
    code_name = ""
    directory: str | None = None
    """Where the kernel is to go before it runs anything."""
    cell: asyncio.Future[Any] | None = None
    """The run, when it awaits something."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        shell: Any = self.shell
        shell.compile.get_code_name = self._name_code

    def _name_code(self, _raw: str, _transformed: str, number: int) -> str:
        Kernel.code_name = f"<run {number}>"
        return Kernel.code_name

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run code as the daemon wishes, and tell it when it has started and ended."""
        wishes = parent.get("metadata", {}).get("toolbox", {})
        Kernel.signalled = Kernel.interrupted = Kernel.failed = False
        error = None
        signal.signal(signal.SIGINT, on_interrupt)
        try:
            if wishes.get("reseed"):
                reseed()
            error = self._enter_directory(wishes.get("cwd"))
            if error is None:
                with variables(wishes.get("env") or {}):
                    await self._run(stream, ident, parent, wishes.get("run"))
        except KeyboardInterrupt:
            Kernel.interrupted = True
        except Exception as failure:
            # What IPython itself needs is not as it should be: the program has closed sys.stdout, for example.
            if not (Kernel.failed or Daemon.output.forked):
                tell({"type": "error", **describe(type(failure), failure, failure.__traceback__, Kernel.code_name)})
        finally:
            Kernel.running = False
            if Daemon.output.forked:
                end_fork(None)
            self._end(wishes.get("run"), error)

    async def _run(self, stream: Any, ident: Any, parent: Any, number: Any) -> None:
        try:
            Kernel.running = True
            Daemon.channel.send(STARTED, encode(number))
            await super().execute_request(stream, ident, parent)  # type: ignore[no-untyped-call]
            # Still interruptible, as a figure may take long; after an interrupt it is left for the next run.
            if not (Kernel.signalled or Daemon.output.forked or Daemon.charts is None):
                Daemon.charts.collect()
        finally:
            Kernel.running = False

    def _end(self, number: Any, error: BaseException | None) -> None:
        Daemon.output.flush()
        end = {"run": number, "interrupted": Kernel.interrupted, "failed": str(error) if error else None}
        Daemon.channel.send(END, encode(end))

    @staticmethod
    def _enter_directory(wanted: str | None) -> OSError | None:
        """Go to the directory of the context; until that has worked no code runs."""
        Kernel.directory = wanted or Kernel.directory
        if Kernel.directory is None:
            return None
        try:
            os.chdir(Kernel.directory)
        except OSError as error:
            return error
        os.environ["PWD"] = Kernel.directory
        Kernel.directory = None
        return None

    @contextlib.contextmanager
    def _cancel_on_sigint(self, future: Any) -> Iterator[None]:
        Kernel.cell = future
        try:
            yield
        finally:
            Kernel.cell = None

    def pre_handler_hook(self) -> None:
        """Leave SIGINT as it is."""

    def post_handler_hook(self) -> None:
        """Leave SIGINT as it is."""


def on_interrupt(*_: Any) -> None:
    """Interrupt the run, if one is running."""
    if not Kernel.running:
        return
    Kernel.signalled = True
    if Daemon.output.busy:
        Daemon.output.interrupted = True
        return
    cell = Kernel.cell
    if cell is not None and asyncio.current_task(cell.get_loop()) is None:
        # It awaits something: an exception would end the event loop instead.
        cell.get_loop().call_soon_threadsafe(cell.cancel)
        return
    raise KeyboardInterrupt


def end_fork(error: BaseException | None) -> NoReturn:
    """End a fork of this process where a program would end: only the kernel itself ends the run and takes the next."""
    code = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        code = (error.code or 0) & 0xFF
    elif error is not None:
        code = 1
        found = describe(type(error), error, error.__traceback__, Kernel.code_name)
        sys.stderr.write(found["value"] + "\n" if isinstance(error, SystemExit) else found["traceback"])
    os._exit(code)


@contextlib.contextmanager
def variables(wanted: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and give back what they were."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def reseed() -> None:
    """Seed anew the generators that programs share; those that a program has made itself cannot be found."""
    for name, function in (("random", "seed"), ("numpy.random", "seed"), ("torch", "seed")):
        module = sys.modules.get(name)
        if module is not None:
            getattr(module, function)()
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(64), 64.0)


class App(IPKernelApp):
    """ipykernel's application with the daemon's streams."""

    kernel_class = Kernel

    def init_io(self) -> None:
        """Send all output to the daemon; a crash is still reported where the process was started."""
        crash_report = os.dup(2)
        os.set_inheritable(crash_report, False)
        faulthandler.enable(crash_report)
        # What the kernel expects of it; results go through the shell's own hook.
        self.displayhook = sys.displayhook = ZMQDisplayHook(self.session, self.iopub_socket)  # type: ignore[no-untyped-call]
        self.patch_io()  # type: ignore[no-untyped-call]
        Daemon.output.capture()
        sys.stdout = Stream(Daemon.output, STDOUT, 1, "<stdout>")
        sys.stderr = Stream(Daemon.output, STDERR, 2, "<stderr>")

    def init_path(self) -> None:
        """Let modules be imported from where the user is, behind the standard library, as in any kernel."""
        super().init_path()  # type: ignore[no-untyped-call]
        # IPython leaves that out of an isolated Python: the bundle's, but so it is to keep others out of the daemon.
        if sys.flags.isolated and "" not in sys.path:
            packages = os.path.dirname(os.path.dirname(ipykernel.__file__))
            sys.path.insert(sys.path.index(packages) if packages in sys.path else len(sys.path), "")

    def reset_io(self) -> None:
        """Leave the streams: nothing goes anywhere else."""

    def init_signal(self) -> None:
        """Be interruptible during a run only."""
        signal.signal(signal.SIGINT, on_interrupt)

    def log_connection_info(self) -> None:
        """Say nothing, only keep what the kernel asks for."""
        names = ("shell", "iopub", "stdin", "hb", "control")
        self._ports = {name: getattr(self, name + "_port") for name in names}


def directories(place: str) -> dict[str, str]:
    """Return the variables that let Jupyter and IPython start where there is no home, or one that is not to be written.

    They would fail, or leave a directory behind in `/tmp`; the daemon removes `place`.
    """
    found = {"JUPYTER_RUNTIME_DIR": place}
    wanted = os.environ.get("IPYTHONDIR") or os.path.expanduser("~/.ipython")
    if not os.access(wanted if os.path.exists(wanted) else os.path.dirname(wanted), os.W_OK | os.X_OK):
        found["IPYTHONDIR"] = os.path.join(place, "ipython")
    return found


def load_charts(path: str) -> Any:
    """Load the charts' hook, which waits for matplotlib; None when that fails, and the log says why."""

    def emit(chart: dict[str, Any], png: bytes | None) -> None:
        tell({"type": "chart", "chart": {**chart, "png": png} if png is not None else chart})

    def failed(text: str) -> None:
        Daemon.channel.message({"type": "log", "text": text})

    try:
        spec: Any = importlib.util.spec_from_file_location("_toolbox_charts", path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.install(emit, failed)
    except Exception as error:
        failed(f"the charts' hook cannot be loaded: {error!r}")
        return None


def run(connection: str, channel: int, charts: str) -> None:
    """Run the kernel until it is killed."""
    Daemon.channel = Channel(channel)
    Daemon.output = Output(Daemon.channel)
    app: Any = App.instance(connection_file=connection, log_level=50)
    # One of a run's errors is not to end those behind it; history belongs to people at a prompt.
    app.config.HistoryManager.enabled = False
    with variables(directories(os.path.dirname(connection))):
        app.initialize([])
    warnings.filterwarnings("ignore", message="To exit: use", category=UserWarning)
    sys.modules.pop("debugpy", None)  # it was kept away, see launch.py; the user may have it
    Daemon.charts = load_charts(charts)
    Daemon.channel.send(READY)
    app.start()
    while True:  # an interrupt in a task of the user's has stopped the loop, or `exit()`
        with contextlib.suppress(KeyboardInterrupt):
            app.io_loop.start()

"""The command line: `toolboxd serve | up | ps | logs | stop | gc | ca | kernel-python | doctor`."""

import argparse
import asyncio
import errno
import math
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from toolbox import __version__
from toolbox.config import (
    ClientConfig,
    CommonConfig,
    ConfigError,
    ServeConfig,
    UpConfig,
    add_arguments,
    secret_variables,
    split_entrypoint,
)

if TYPE_CHECKING:
    from toolbox.lifetime import Stop

_MOST_FILES = 65_536
_SAY_AGAIN_SECONDS = 60.0
_WISHES = ("sandboxes", "all", "force", "quiet", "dry_run")
"""What commands of people take beside options."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options, entrypoint = split_entrypoint(sys.argv[1:] if argv is None else argv)
    arguments = vars(_parser().parse_args(options))
    command = arguments.pop("command")
    try:
        match command:
            case "serve":
                config = ServeConfig.load(arguments, os.environ)
                return _serve(config, entrypoint)
            case "up":
                return _up(UpConfig.load(arguments, os.environ))
            case "ps" | "logs" | "stop" | "gc":
                wishes = {name: arguments.pop(name) for name in _WISHES if name in arguments}
                return _ask(command, wishes, ClientConfig.load(arguments, os.environ))
            case "ca":
                return _ca(UpConfig.load(arguments, os.environ))
            case "kernel-python":
                return _kernel_python(ServeConfig.load(arguments, os.environ))
            case _:
                from toolbox.doctor import report  # noqa: PLC0415 -- only for this command

                return report(sys.stdout)
    except ConfigError as error:
        print(f"toolboxd: {error}", file=sys.stderr)  # noqa: T201 -- a command line talks
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="toolboxd", description="The computer of an AI agent, over HTTP.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve", help="run the daemon of this sandbox", usage="toolboxd serve [options] [-- entrypoint command]"
    )
    add_arguments(serve, ServeConfig)
    up = commands.add_parser("up", help="run the sandboxes API, with a daemon for each sandbox")
    add_arguments(up, UpConfig)
    _add_client_commands(commands)
    ca = commands.add_parser("ca", help="print the certificate of the authority that clients of `up` are to trust")
    add_arguments(ca, UpConfig)
    kernel_python = commands.add_parser("kernel-python", help="print which Python kernels run in")
    add_arguments(kernel_python, ServeConfig)
    commands.add_parser("doctor", help="tell what is there, and what is lost without the rest")
    return parser


def _add_client_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    ps = commands.add_parser("ps", help="list the sandboxes of a running `up`")
    ps.add_argument("--quiet", "-q", action="store_true", help="names only")
    logs = commands.add_parser("logs", help="print what the daemon of a sandbox wrote")
    logs.add_argument("sandboxes", metavar="SANDBOX", nargs=1, help="name or id")
    stop = commands.add_parser("stop", help="stop sandboxes; their files stay")
    stop.add_argument("sandboxes", metavar="SANDBOX", nargs="*", help="names or ids")
    stop.add_argument("--all", action="store_true", help="all that run")
    stop.add_argument("--force", action="store_true", help="do not ask their programs first")
    gc = commands.add_parser("gc", help="remove from this machine what no sandbox owns")
    gc.add_argument("--dry-run", action="store_true", help="only tell what that is")
    for each in (ps, logs, stop, gc):
        add_arguments(each, ClientConfig, only=("api_url", "state_dir"))


def _ask(command: str, wishes: Mapping[str, Any], config: ClientConfig) -> int:
    try:
        from controlplane.console import ask  # noqa: PLC0415 -- an optional extra
    except ModuleNotFoundError as error:
        raise ConfigError(f"`{command}` needs the extra sandbox-toolbox[controlplane]: {error}") from None
    return asyncio.run(ask(command, wishes, config))


def _serve(config: ServeConfig, entrypoint: tuple[str, ...]) -> int:
    from dataclasses import replace  # noqa: PLC0415

    with _without_certificates():
        from toolbox.app import running  # noqa: PLC0415 -- `--help` needs none of it

    async def serve(stop: "Stop") -> int:
        async with running(replace(config, entrypoint=entrypoint), sole=True, hurry=stop.hurry) as daemon:
            if daemon.generated_token is not None:
                _announce(f"TOOLBOX_TOKEN={daemon.generated_token}")
            if daemon.ssh_port:
                _announce(f"Starting SSH server on port {daemon.ssh_port}")
            place = f"socket {config.socket}" if config.socket else f"port {daemon.port}"
            _announce(f"Starting toolbox server on {place}")  # platforms wait for this line
            await stop.wait()
        return 0

    return run_until_signal(config, serve)


def _kernel_python(config: ServeConfig) -> int:
    from toolbox.children.environment import Environment  # noqa: PLC0415
    from toolbox.children.process import Children  # noqa: PLC0415
    from toolbox.children.python import Pythons  # noqa: PLC0415

    async def find() -> None:
        environment = Environment(config.work_dir, hide=secret_variables(), user=config.user)
        async with Children(user=config.user) as children:
            pythons = Pythons(children, environment, config.kernel_python)
            kernels, programs = await pythons.for_kernels(), await pythons.for_programs(environment.child())
        print(kernels.path)  # noqa: T201
        print(f"kernels: {kernels}; code-run: {programs}", file=sys.stderr)  # noqa: T201

    asyncio.run(find())
    return 0


def _announce(line: str) -> None:
    """Write a line to stdout with one system call, also when unbuffered: the entrypoint writes there too."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _up(config: UpConfig) -> int:
    try:
        from controlplane.app import run  # noqa: PLC0415 -- an optional extra
    except ModuleNotFoundError as error:
        raise ConfigError(f"`up` needs the extra sandbox-toolbox[controlplane]: {error}") from None
    return run_until_signal(config, lambda stop: run(config, stop))


def _ca(config: UpConfig) -> int:
    from toolbox.state import StateDir  # noqa: PLC0415

    try:
        from controlplane.authority import Authority  # noqa: PLC0415 -- an optional extra
    except ModuleNotFoundError as error:
        raise ConfigError(f"`ca` needs the extra sandbox-toolbox[storage]: {error}") from None
    directory = StateDir.open(config.state_dir).directory("controlplane", "ca")
    sys.stdout.write(Authority(directory).open())
    return 0


def run_until_signal(config: CommonConfig, serve: Callable[["Stop"], Awaitable[int]]) -> int:
    """Run `serve` with logging set up; what it gets is set by SIGTERM and SIGINT. Raises `ConfigError`."""
    from toolbox.heap import share_one_arena  # noqa: PLC0415
    from toolbox.lifetime import Stop  # noqa: PLC0415
    from toolbox.logs import logging_to  # noqa: PLC0415
    from toolbox.places import writable_places  # noqa: PLC0415
    from toolbox.threads import ThreadPool  # noqa: PLC0415

    async def guarded() -> int:
        stop = Stop()
        asyncio.get_running_loop().set_default_executor(ThreadPool(thread_name_prefix="asyncio"))
        asyncio.get_running_loop().set_exception_handler(_LoopErrors())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.tell)
        return await serve(stop)

    _raise_file_limit()
    share_one_arena()
    with logging_to(config), writable_places(config):
        try:
            return asyncio.run(guarded())
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                raise
            raise ConfigError(f"cannot listen: {error.strerror}") from None


class _LoopErrors:
    """Logs the event loop's errors; that no descriptor is left for a connection, which it says hundreds of times, once.

    It tries again each second as long as that lasts.
    """

    def __init__(self) -> None:
        self._said = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE) and "socket" in context:
            if loop.time() - self._said < _SAY_AGAIN_SECONDS:
                return
            self._said = loop.time()
        loop.default_exception_handler(context)


@contextmanager
def _without_certificates() -> Iterator[None]:
    """Let aiohttp be imported without the system's CA certificates, which it loads twice at once.

    That takes a quarter of our start, and the daemon opens no TLS connection with it.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each stream and child needs some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())

"""Everything that can be set, once: each option is a command-line flag and a `TOOLBOX_*` variable.

A flag wins over `TOOLBOX_NAME`, which wins over the reference daemon's variable (where it has one), which wins over
the default.
"""

import argparse
import ipaddress
import os
import pwd
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

MIB = 1024 * 1024


class ConfigError(Exception):
    """An option that cannot be used, said in one line."""


def option(text: str, default: Any = MISSING, *, legacy: str | None = None, secret: bool = False) -> Any:
    """Declare an option: its help text, default, and the reference daemon's variable of the same meaning."""
    metadata = {"help": text, "legacy": legacy, "secret": secret}
    return field(default=default, metadata=metadata)


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return where state is kept when nothing is configured."""
    base = environ.get("XDG_STATE_HOME")
    home = Path(environ.get("HOME") or "/")
    if base:
        return Path(base) / "sandbox-toolbox"
    if os.access(home, os.W_OK):
        return home / ".local/state/sandbox-toolbox"
    return Path("/tmp") / f"sandbox-toolbox-{os.getuid()}"  # noqa: S108 -- created 0700 and checked for its owner


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What both servers share."""

    host: str = option("address to listen on", "127.0.0.1")
    port: int = option("port to listen on (0: any free one)", 2280)
    token: str | None = option("token that callers must bring", None, secret=True)
    token_file: Path | None = option("file that holds the token", None)
    state_dir: Path = option("where state is kept", None)
    allow_origins: tuple[str, ...] = option("origins of web pages that may call, comma-separated (* for all)", ())
    log_level: str = option("debug, info, warning or error", "info", legacy="LOG_LEVEL")
    log_file: Path | None = option("also write the log to this file", None, legacy="DAYTONA_DAEMON_LOG_FILE_PATH")
    log_file_max_mb: int = option(
        "size at which the log file is rotated", 100, legacy="DAYTONA_DAEMON_LOG_FILE_MAX_SIZE_MB"
    )
    log_file_backups: int = option("rotated log files kept", 5, legacy="DAYTONA_DAEMON_LOG_FILE_MAX_BACKUPS")
    log_file_days: int = option(
        "days a rotated log file is kept (0: for ever)", 14, legacy="DAYTONA_DAEMON_LOG_FILE_MAX_AGE_DAYS"
    )
    log_file_compress: bool = option("compress rotated log files", True, legacy="DAYTONA_DAEMON_LOG_FILE_COMPRESS")

    @property
    def bound_to_loopback(self) -> bool:
        """Tell whether only this machine can reach the listening address."""
        return is_local_host(self.host)

    def resolve_token(self) -> str | None:
        """Return the configured token. Raises `ConfigError` for an unreadable or empty file."""
        if self.token_file is None:
            return self.token or None
        try:
            token = self.token_file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"cannot read the token file: {error}") from None
        if not token:
            raise ConfigError(f"the token file is empty: {self.token_file}")
        return token

    @classmethod
    def load(cls, arguments: Mapping[str, str | None], environ: Mapping[str, str]) -> Self:
        """Make the configuration from flags and environment. Raises `ConfigError`."""
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for each in fields(cls):
            text = _configured_text(each, arguments, environ)
            if text is not None:
                values[each.name] = _parse(text, hints[each.name], each.name)
        values.setdefault("state_dir", default_state_dir(environ))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig(CommonConfig):
    """Options of `toolboxd serve`, the daemon alone."""

    socket: Path | None = option("listen on this unix socket instead of TCP", None)
    auth: str = option("token, local, init or none; without it: token where one is set, else by address", "")
    sandbox_id: str = option("id of this sandbox, accepted as a path prefix", "", legacy="DAYTONA_SANDBOX_ID")
    work_dir: Path = option("directory that relative paths and commands start from", None)
    signing_key: str | None = option("key that signed file URLs are verified with", None, secret=True)
    user: str | None = option("user that children and file operations act as (needs root)", None)
    shell: Path | None = option("shell that runs commands; without it the best of /etc/shells", None)
    kernel_python: Path | None = option(
        "Python that kernels and code-run use; without it python3 on the PATH, or else the daemon's own", None
    )
    spare_kernels: int = option("kernels kept ready for new contexts once one was used", 1)
    max_contexts: int = option("contexts of the code interpreter beside the default one", 32)
    output_limit_mb: int = option("output kept of one command, in MiB", 128)
    session_log_limit_mb: int = option("output kept of one session command, in MiB; the oldest goes first", 64)
    total_log_limit_mb: int = option("output kept of all session commands on disk, in MiB", 1024)
    ssh_port: int | None = option("port for SSH (0: any free one); without it SSH has no port", None)
    ssh_authorized_keys: Path | None = option("file of keys that SSH lets in; the token works as a password", None)
    entrypoint: tuple[str, ...] = ()
    language_servers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Commands by language, from `TOOLBOX_LSP_<LANGUAGE>`, the language as it stands there."""

    @property
    def output_limit(self) -> int:
        """Bytes of output kept of one command."""
        return self.output_limit_mb * MIB

    @property
    def session_log_limit(self) -> int:
        """Bytes of output kept of one session command."""
        return self.session_log_limit_mb * MIB

    @property
    def total_log_limit(self) -> int:
        """Bytes of output kept on disk of all session commands."""
        return self.total_log_limit_mb * MIB

    @classmethod
    def load(cls, arguments: Mapping[str, str | None], environ: Mapping[str, str]) -> Self:
        """As `CommonConfig.load`; the work dir is checked and made absolute."""
        arguments = dict(arguments)
        if not arguments.get("work_dir") and "TOOLBOX_WORK_DIR" not in environ:
            as_home = environ.get("DAYTONA_USER_HOME_AS_WORKDIR", "").lower() in ("true", "1")
            arguments["work_dir"] = environ.get("HOME", "/") if as_home else str(Path.cwd())
        config = super(ServeConfig, cls).load(arguments, environ)
        if not config.work_dir.is_dir():
            raise ConfigError(f"the work dir is not a directory: {config.work_dir}")
        if config.shell is not None and not os.access(config.shell, os.X_OK):
            raise ConfigError(f"the shell cannot be run: {config.shell}")
        python = config.kernel_python
        if python is not None and not (python.is_file() and os.access(python, os.X_OK)):
            raise ConfigError(f"the kernel python cannot be run: {python}")
        if config.user is not None:
            _check_user(config.user)
        return replace(config, language_servers=_language_servers(environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class UpConfig(CommonConfig):
    """Options of `toolboxd up`, the sandboxes API with a proxy to their daemons."""

    driver: str = option("what a sandbox is made of: process", "process")
    public_url: str | None = option("URL that clients reach this server at, when not that of their request", None)
    preview_domain: str | None = option(
        "domain whose subdomains all lead to this server, for previews; *.localhost always does", None
    )
    ssh_port: int | None = option("port for SSH to all sandboxes (0: any free one); without it SSH is off", None)
    storage_port: int | None = option(
        "port for object storage over TLS (0: any free one), which the Python SDK needs; without it, /s3 without TLS",
        None,
    )


def add_arguments(parser: argparse.ArgumentParser, config: type[CommonConfig]) -> None:
    """Add a flag for each option of `config`."""
    for each in fields(config):
        if "help" in each.metadata:
            flag = "--" + each.name.replace("_", "-")
            parser.add_argument(flag, dest=each.name, default=None, help=f"{each.metadata['help']} ({_variable(each)})")


def secret_variables() -> frozenset[str]:
    """Return the environment variables that children never see."""
    return frozenset(
        _variable(each) for each in fields(ServeConfig) if each.metadata.get("secret") or each.name == "token_file"
    )


def _variable(each: "Field[Any]") -> str:
    return "TOOLBOX_" + each.name.upper()


def _configured_text(each: "Field[Any]", arguments: Mapping[str, str | None], environ: Mapping[str, str]) -> str | None:
    text = arguments.get(each.name)
    if text is None:
        text = environ.get(_variable(each)) or None
    legacy = each.metadata.get("legacy")
    if text is None and legacy:
        text = environ.get(legacy) or None
    return text


def _parse(text: str, kind: Any, name: str) -> Any:
    kinds = [each for each in get_args(kind) if each is not type(None)] or [kind]
    try:
        if Path in kinds:
            return Path(text).expanduser().absolute()
        if bool in kinds:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if int in kinds:
            return _natural(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{name.replace('_', '-')}: not usable: {text!r}") from None
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _language_servers(environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    commands = {}
    for name, command in environ.items():
        language = name.removeprefix("TOOLBOX_LSP_")
        if language == name or not language or not command:
            continue
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ConfigError(f"{name}: not a command: {error}") from None
        if not words:
            raise ConfigError(f"{name}: not a command: {command!r}")
        commands[language] = tuple(words)
    return commands


def _check_user(name: str) -> None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"no such user: {name}") from None
    if entry.pw_uid == 0:
        raise ConfigError("the workload user must not be root")
    if os.getuid() != 0:
        raise ConfigError("acting as another user needs root")


def is_local_host(name: str | None) -> bool:
    """Tell whether `name` can only mean this machine."""
    if not name:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def split_entrypoint(argv: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Split a command line at `--`: options before, the sandbox's entrypoint command after."""
    if "--" not in argv:
        return list(argv), ()
    at = list(argv).index("--")
    return list(argv[:at]), tuple(argv[at + 1 :])

"""Everything that can be set, once: each option is a command-line flag and a `TOOLBOX_*` variable.

A flag wins over `TOOLBOX_NAME`, which wins over the reference daemon's variable (where it has one), which wins over
the default.
"""

import argparse
import ipaddress
import json
import os
import pwd
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from toolbox.telemetry import settings as otel

MIB = 1024 * 1024


class ConfigError(Exception):
    """An option that cannot be used, said in one line."""


_LANGUAGE_SERVER = "TOOLBOX_LSP_"


def option(
    text: str, default: Any = MISSING, *, legacy: str | None = None, secret: bool = False, passed_on: bool = False
) -> Any:
    """Declare an option: its help text, default, and the reference daemon's variable of the same meaning.

    `passed_on`: set for `up`, its variable holds for every sandbox. Not for what is secret or of one sandbox alone.
    """
    metadata = {"help": text, "legacy": legacy, "secret": secret, "passed_on": passed_on}
    return field(default=default, metadata=metadata)


def home_of(environ: Mapping[str, str]) -> Path:
    """Return the home directory; the root where nothing says which it is."""
    return Path(environ.get("HOME") or "/")


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return where state is kept when nothing is configured: below the home directory, or in /tmp."""
    base = environ.get("XDG_STATE_HOME")
    if base:
        return Path(base) / "sandbox-toolbox"
    path = home_of(environ) / ".local/state/sandbox-toolbox"
    nearest = next(each for each in (path, *path.parents) if each.exists())
    if os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        return path
    return Path("/tmp") / f"sandbox-toolbox-{os.getuid()}"  # noqa: S108 -- created 0700 and checked for its owner


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What both servers share."""

    host: str = option("address to listen on", "127.0.0.1")
    port: int = option("port to listen on (0: any free one)", 2280)
    token: str | None = option("token that callers must bring", None, secret=True)
    token_file: Path | None = option("file that holds the token", None)
    state_dir: Path = option("where state is kept", None)
    drain_seconds: int = option("seconds that requests under way have to end in after SIGTERM; /readyz says 503", 0)
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
    telemetry: otel.Settings = field(default_factory=otel.Settings)
    """What is exported, from OpenTelemetry's own variables."""

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
        return cls(**values, telemetry=otel.Settings.load(environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig(CommonConfig):
    """Options of `toolboxd serve`, the daemon alone."""

    socket: Path | None = option("listen on this unix socket instead of TCP", None)
    socket_mode: str | None = option("permissions of the unix socket, in octal; without it those of the umask", None)
    auth: str = option("token, local, init or none; without it: token where one is set, else by address", "")
    sandbox_id: str = option("id of this sandbox, accepted as a path prefix", "", legacy="DAYTONA_SANDBOX_ID")
    work_dir: Path = option("directory that relative paths and commands start from", None)
    signing_key: str | None = option("key that signed file URLs are verified with", None, secret=True)
    user: str | None = option("user that children and file operations act as (needs root)", None)
    env_file: Path | None = option("JSON object of variables for what the daemon starts, over its own", None)
    shell: Path | None = option("shell that runs commands; without it the best of /etc/shells", None, passed_on=True)
    kernel_python: Path | None = option(
        "Python that kernels and code-run use; without it python3 on the PATH, or else the daemon's own",
        None,
        passed_on=True,
    )
    spare_kernels: int = option("kernels kept ready for new contexts once one was used", 1, passed_on=True)
    max_contexts: int = option("contexts of the code interpreter beside the default one", 32, passed_on=True)
    desktop: str = option("what runs on the desktop: xfce4, openbox (lighter) or none", "xfce4", passed_on=True)
    resolution: str = option("size of the desktop, WIDTHxHEIGHT", "1024x768", legacy="VNC_RESOLUTION", passed_on=True)
    display: str = option("X display of the desktop, :NUMBER; without it any free one", "")
    vnc_port: int = option("port for VNC on loopback (0 or taken: any free one)", 5901, legacy="VNC_PORT")
    novnc_port: int = option("port for noVNC's page on loopback (0 or taken: any free one)", 6080, legacy="NO_VNC_PORT")
    recordings_dir: Path = option("where recordings of the desktop are kept", None, legacy="DAYTONA_RECORDINGS_DIR")
    max_recordings: int = option("recordings of the desktop under way at once", 4, passed_on=True)
    recording_limit_minutes: int = option("minutes after which a recording ends by itself", 240, passed_on=True)
    recordings_limit_mb: int = option("size of all recordings together, in MiB", 10 * 1024, passed_on=True)
    output_limit_mb: int = option("output kept of one command, in MiB", 128, passed_on=True)
    session_log_limit_mb: int = option(
        "output kept of one session command, in MiB; the oldest goes first", 64, passed_on=True
    )
    total_log_limit_mb: int = option("output kept of all session commands on disk, in MiB", 1024, passed_on=True)
    otel_command_text: bool = option(
        "put the text of commands, secrets and all, into exported spans", False, passed_on=True
    )
    ssh_port: int | None = option("port for SSH (0: any free one); without it SSH has no port", None)
    ssh_authorized_keys: Path | None = option("file of keys that SSH lets in; the token works as a password", None)
    entrypoint: tuple[str, ...] = ()
    language_servers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Commands by language, from `TOOLBOX_LSP_<LANGUAGE>`, the language as it stands there."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What `env_file` holds."""

    @property
    def socket_permissions(self) -> int | None:
        """Permissions of the unix socket, None for those of the umask."""
        return int(self.socket_mode, 8) if self.socket_mode is not None else None

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
            user = arguments.get("user") or environ.get("TOOLBOX_USER")
            home = _home(user, environ) if as_home else ""
            arguments["work_dir"] = home if home and Path(home).is_dir() else str(Path.cwd())
        config = super(ServeConfig, cls).load(arguments, environ)
        if not config.work_dir.is_dir():
            raise ConfigError(f"the work dir is not a directory: {config.work_dir}")
        if config.shell is not None and not os.access(config.shell, os.X_OK):
            raise ConfigError(f"the shell cannot be run: {config.shell}")
        python = config.kernel_python
        if python is not None and not (python.is_file() and os.access(python, os.X_OK)):
            raise ConfigError(f"the kernel python cannot be run: {python}")
        if config.socket_mode is not None and not re.fullmatch("0?[0-7]{3}", config.socket_mode):
            raise ConfigError(f"socket-mode: not usable: {config.socket_mode!r}")
        if config.user is not None:
            _check_user(config.user)
        _check_desktop(config)
        if config.recordings_dir is None:
            config = replace(config, recordings_dir=_recordings_dir(config, environ))
        variables = _variables(config.env_file) if config.env_file is not None else {}
        return replace(config, language_servers=_language_servers(environ), variables=variables)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpConfig(CommonConfig):
    """Options of `toolboxd up`, the sandboxes API with a proxy to their daemons."""

    driver: str = option("what a sandbox is made of: process, docker or kubernetes", "process")
    kubeconfig: Path | None = option(
        "file that says where the cluster is (kubernetes driver); without it that of the pod, or the usual one", None
    )
    namespace: str | None = option("namespace of the sandboxes (kubernetes driver); without it the usual one", None)
    template: str = option("SandboxTemplate that sandboxes are made from (kubernetes driver)", "sandbox-toolbox")
    start_seconds: int = option("seconds that a sandbox may take to start (kubernetes driver)", 120)
    docker_host: str | None = option(
        "where the container engine listens (docker driver); without it DOCKER_HOST or the usual sockets", None
    )
    image: str | None = option("image of the default snapshot (docker driver); without it a Debian that is there", None)
    bundle: Path | None = option("bundle that containers get the daemon from (docker driver)", None)
    public_url: str | None = option("URL that clients reach this server at, when not that of their request", None)
    preview_domain: str | None = option(
        "domain whose subdomains all lead to this server, for previews; *.localhost always does", None
    )
    ssh_port: int | None = option("port for SSH to all sandboxes (0: any free one); without it SSH is off", None)
    jwks_url: str | None = option("URL of the identity provider's keys: JWTs signed with them are accepted", None)
    jwks_file: Path | None = option("as jwks-url, from a file", None)
    jwt_audience: str | None = option("audience that a JWT must be for", None)
    jwt_issuer: str | None = option("issuer that a JWT must be from", None)
    rate_limit: int | None = option("calls of the API that one key may make in a minute; without it any number", None)
    storage_port: int | None = option(
        "port for object storage over TLS (0: any free one), which the Python SDK needs; without it, /s3 without TLS",
        None,
    )
    passed_on: Mapping[str, str] = field(default_factory=dict)
    """Variables for the daemon of each sandbox: options of `serve` that our own environment sets."""

    @classmethod
    def load(cls, arguments: Mapping[str, str | None], environ: Mapping[str, str]) -> Self:
        """As `CommonConfig.load`; what is passed on is checked too."""
        config = super(UpConfig, cls).load(arguments, environ)
        return replace(config, passed_on=_passed_on(environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig(CommonConfig):
    """Options of the commands that talk to a running `toolboxd up`."""

    api_url: str | None = option(
        "URL of the API; without it that of the state directory", None, legacy="DAYTONA_API_URL"
    )
    api_key: str | None = option(
        "key of the API; without it that of the state directory", None, legacy="DAYTONA_API_KEY", secret=True
    )


def add_arguments(
    parser: argparse.ArgumentParser, config: type[CommonConfig], *, only: Collection[str] | None = None
) -> None:
    """Add a flag for each option of `config`, or for `only` those."""
    for each in fields(config):
        if "help" in each.metadata and (only is None or each.name in only):
            flag = "--" + each.name.replace("_", "-")
            parser.add_argument(flag, dest=each.name, default=None, help=f"{each.metadata['help']} ({_variable(each)})")


def secret_variables() -> frozenset[str]:
    """Return the environment variables that children never see."""
    own = {_variable(each) for each in fields(ServeConfig) if each.metadata.get("secret") or each.name == "token_file"}
    # Where our telemetry goes, and by which key, is not for the programs of the sandbox.
    return frozenset(own | {name for name in os.environ if name.startswith(otel.PREFIX)})


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


def _passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of options that hold for every sandbox; paths as seen from here. Raises `ConfigError`."""
    _language_servers(environ)
    found = {name: command for name, command in environ.items() if name.startswith(_LANGUAGE_SERVER)}
    found |= otel.passed_on(environ)
    hints = get_type_hints(ServeConfig)
    for each in fields(ServeConfig):
        text = environ.get(_variable(each))
        if text and each.metadata.get("passed_on"):
            found[_variable(each)] = str(_parse(text, hints[each.name], each.name))
    return found


def _language_servers(environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    commands = {}
    for name, command in environ.items():
        language = name.removeprefix(_LANGUAGE_SERVER)
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


def _home(user: str | None, environ: Mapping[str, str]) -> str:
    if user:
        try:
            return pwd.getpwnam(user).pw_dir
        except KeyError:
            raise ConfigError(f"no such user: {user}") from None
    return environ.get("HOME", "/")


def _variables(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the env file: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ConfigError(f"the env file is not a JSON object of strings: {path}")
    return found


def _check_desktop(config: ServeConfig) -> None:
    if config.desktop not in ("xfce4", "openbox", "none"):
        raise ConfigError(f"desktop: xfce4, openbox or none, not {config.desktop!r}")
    if re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}(x\d{1,2})?", config.resolution) is None:
        raise ConfigError(f"resolution: not usable: {config.resolution!r}")
    if config.display and re.fullmatch(r":\d{1,5}", config.display) is None:
        raise ConfigError(f"display: not usable: {config.display!r}")


def _check_user(name: str) -> None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"no such user: {name}") from None
    if entry.pw_uid == 0:
        raise ConfigError("the workload user must not be root")
    if os.getuid() != 0:
        raise ConfigError("acting as another user needs root")


def _recordings_dir(config: ServeConfig, environ: Mapping[str, str]) -> Path:
    """Return where the reference keeps recordings, in the home of whom they belong to; else the state directory."""
    if config.user is not None:
        return Path(pwd.getpwnam(config.user).pw_dir) / ".daytona/recordings"
    home = home_of(environ)
    return home / ".daytona/recordings" if os.access(home, os.W_OK) else config.state_dir / "recordings"


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

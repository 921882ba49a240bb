"""Options: where they come from, and what is refused."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from toolbox.config import CommonConfig, ConfigError, ServeConfig, UpConfig, default_state_dir, split_entrypoint
from toolbox.state import StateDir


def load(tmp_path: Path, arguments: Mapping[str, str | None] | None = None, **environ: str) -> ServeConfig:
    return ServeConfig.load(arguments or {}, {"HOME": str(tmp_path), **environ})


def test_a_flag_wins_over_a_variable_over_the_reference_variable(tmp_path: Path) -> None:
    assert load(tmp_path).log_level == "info"
    assert load(tmp_path, LOG_LEVEL="debug").log_level == "debug"
    assert load(tmp_path, LOG_LEVEL="debug", TOOLBOX_LOG_LEVEL="error").log_level == "error"
    assert load(tmp_path, {"log_level": "warning"}, TOOLBOX_LOG_LEVEL="error").log_level == "warning"


@pytest.mark.parametrize(
    "environ",
    [
        {"TOOLBOX_PORT": "x"},
        {"TOOLBOX_PORT": "-1"},
        {"TOOLBOX_LOG_FILE_COMPRESS": "maybe"},
        {"TOOLBOX_WORK_DIR": "/no/such/directory"},
        {"TOOLBOX_SOCKET_MODE": "rw"},
        {"TOOLBOX_USER": "no-such-user"},
        {"TOOLBOX_USER": "root"},
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, None, **environ)


def test_token_files(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigError):
        load(tmp_path, TOOLBOX_TOKEN_FILE=str(file)).resolve_token()
    file.write_text("\n")
    with pytest.raises(ConfigError):
        load(tmp_path, TOOLBOX_TOKEN_FILE=str(file)).resolve_token()
    file.write_text("abc\n")
    assert load(tmp_path, TOOLBOX_TOKEN_FILE=str(file)).resolve_token() == "abc"


def test_env_files(tmp_path: Path) -> None:
    file = tmp_path / "env.json"
    for text in (None, "not JSON", "[]", '{"A": 1}'):
        if text is not None:
            file.write_text(text)
        with pytest.raises(ConfigError, match="env file"):
            load(tmp_path, TOOLBOX_ENV_FILE=str(file))
    file.write_text('{"A": "two\\nlines"}')
    assert load(tmp_path, TOOLBOX_ENV_FILE=str(file)).variables == {"A": "two\nlines"}


def test_home_as_the_work_dir(tmp_path: Path) -> None:
    wanted = {"DAYTONA_USER_HOME_AS_WORKDIR": "true"}
    assert load(tmp_path, None, **wanted).work_dir == tmp_path
    assert load(tmp_path / "is-not-there", None, **wanted).work_dir == Path.cwd()
    with pytest.raises(ConfigError, match="no such user: no-such-user"):
        load(tmp_path, {"user": "no-such-user"}, **wanted)


def test_lists_and_numbers(tmp_path: Path) -> None:
    config = load(tmp_path, TOOLBOX_ALLOW_ORIGINS="https://a, https://b,", TOOLBOX_OUTPUT_LIMIT_MB="3")
    assert config.allow_origins == ("https://a", "https://b")
    assert config.output_limit == 3 * 1024 * 1024


def test_what_up_passes_on_to_its_sandboxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "HOME": "/home/x",
        "TOOLBOX_SHELL": "bin/sh",
        "TOOLBOX_KERNEL_PYTHON": "~/py",
        "TOOLBOX_SPARE_KERNELS": "",
    }
    kept = {"TOOLBOX_LSP_GO": "gopls -v", "TOOLBOX_MAX_CONTEXTS": "3", "TOOLBOX_OUTPUT_LIMIT_MB": "4"}
    home = Path("~").expanduser()
    assert UpConfig.load({}, {**environ, **kept}).passed_on == {
        **kept,
        "TOOLBOX_SHELL": f"{tmp_path}/bin/sh",
        "TOOLBOX_KERNEL_PYTHON": f"{home}/py",
    }
    for name, value in {"TOOLBOX_MAX_CONTEXTS": "many", "TOOLBOX_LSP_GO": "'"}.items():
        with pytest.raises(ConfigError):
            UpConfig.load({}, {**environ, name: value})


def test_nothing_that_is_secret_or_of_one_sandbox_is_passed_on() -> None:
    passed_on = {each.name for each in fields(ServeConfig) if each.metadata.get("passed_on")}
    kept_back = {each.name for each in fields(CommonConfig)} | {each.name for each in fields(UpConfig)}
    kept_back |= {each.name for each in fields(ServeConfig) if each.metadata.get("secret")}
    kept_back |= {"auth", "sandbox_id", "socket", "ssh_authorized_keys", "user", "work_dir"}
    assert passed_on & kept_back == set()


def test_the_state_directory_is_private_and_its_layout_is_checked(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert state.directory("a", "b").is_dir()
    StateDir.open(tmp_path / "state")
    (tmp_path / "state/layout.json").write_text('{"layout": 99}')
    with pytest.raises(ConfigError, match="layout 99"):
        StateDir.open(tmp_path / "state")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError):
        StateDir.open(tmp_path / "file")


def test_where_state_goes_by_default(tmp_path: Path) -> None:
    assert default_state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/sandbox-toolbox")
    assert default_state_dir({"HOME": str(tmp_path)}) == tmp_path / ".local/state/sandbox-toolbox"


def test_the_entrypoint_follows_two_dashes() -> None:
    assert split_entrypoint(["serve", "--port", "1", "--", "npm", "start", "--", "x"]) == (
        ["serve", "--port", "1"],
        ("npm", "start", "--", "x"),
    )
    assert split_entrypoint(["serve"]) == (["serve"], ())

"""Keys of services: where they come from, and that they never show."""

import os
from pathlib import Path

import pytest

from autopoll.backends.contract import Setting
from autopoll.backends.keys import ApiKey, read_key
from autopoll.errors import ConfigError

VALUE = "mock-key-0123456789"


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(shard="main", root=tmp_path, context=[])


def private(path: Path, text: str = VALUE, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(setting: Setting, name: str) -> str:
    with pytest.raises(ConfigError) as refused:
        read_key(setting, name, "MOCK_KEY", {})
    assert "shards.main.options.key_file" in refused.value.what
    assert VALUE not in str(refused.value)
    return str(refused.value)


def test_a_key_comes_from_the_variable_that_is_named(setting: Setting) -> None:
    key = read_key(setting, None, "MOCK_KEY", {"MOCK_KEY": f" {VALUE}\n", "OTHER": "x"})
    assert key is not None and key.value == VALUE


@pytest.mark.parametrize("environ", [{}, {"MOCK_KEY": ""}, {"MOCK_KEY": " \n"}])
def test_no_key_in_the_environment_is_no_error_yet(
    setting: Setting, environ: dict[str, str]
) -> None:
    assert read_key(setting, None, "MOCK_KEY", environ) is None


def test_a_key_file_is_meant_from_the_home_and_comes_before_the_environment(
    setting: Setting,
) -> None:
    private(setting.root / "key", f"\ufeff{VALUE}\n")  # as editors of Windows write it
    key = read_key(setting, "key", "MOCK_KEY", {"MOCK_KEY": "another"})
    assert key is not None and key.value == VALUE


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused_with_the_mend(
    setting: Setting, mode: int
) -> None:
    path = private(setting.root / "key", mode=mode)
    assert f"chmod 600 '{path}'" in refusal(setting, "key")


def test_a_key_file_that_is_no_file_of_ours_is_refused(setting: Setting) -> None:
    assert "No such file" in refusal(setting, "missing")
    (setting.root / "folder").mkdir()
    assert "not a regular file" in refusal(setting, "folder")
    os.mkfifo(setting.root / "pipe", 0o600)
    assert "not a regular file" in refusal(setting, "pipe")
    private(setting.root / "key")
    (setting.root / "link").symlink_to("key")
    assert "symbolic link" in refusal(setting, "link")
    private(setting.root / "empty", "\n")
    assert "is empty" in refusal(setting, "empty")


@pytest.mark.parametrize(
    "text", [f"{VALUE}\n{VALUE}", f"KEY {VALUE}", f"{VALUE}\x07", "schl\u00fcssel"]
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(setting: Setting, text: str) -> None:
    private(setting.root / "key", text)
    assert "holds no key" in refusal(setting, "key")


def test_a_key_is_taken_out_of_what_is_shown() -> None:
    key = ApiKey(VALUE, "variable MOCK_KEY")
    assert VALUE not in repr(key)
    assert key.hidden(f"Incorrect key: {VALUE}.") == "Incorrect key: [key]."
    other = "sk-ant-api03-" + "x" * 40
    assert other not in key.hidden(f"not {other}")


@pytest.mark.parametrize("name", ["~nosuchuser/key", "a\0b"])
def test_a_key_file_that_is_no_path_is_a_mistake_in_the_settings(tmp_path: Path, name: str) -> None:
    setting = Setting(shard="main", root=tmp_path, context=[])
    with pytest.raises(ConfigError, match=r"shards.main.options.key_file: .* is no path"):
        read_key(setting, name, "KEY")

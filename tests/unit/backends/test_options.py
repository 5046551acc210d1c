"""Options of backends that cannot be used are named."""

from pathlib import Path

import pytest

from autopoll.backends import open_backend
from autopoll.backends.contract import Setting
from autopoll.errors import ConfigError


@pytest.mark.parametrize(
    ("backend", "options", "key"),
    [
        ("command", {"command": ["~nosuchuser/x"]}, "command"),
        ("command", {"command": ["cat", "a\0b"]}, "command"),
        ("claude-code", {"cli_path": "~nosuchuser/x"}, "cli_path"),
        ("openai", {"model": "m", "key_file": "~nosuchuser/x"}, "key_file"),
    ],
)
def test_an_option_that_is_no_path_is_named(
    backend: str, options: dict[str, object], key: str, tmp_path: Path
) -> None:
    setting = Setting(shard="main", root=tmp_path, context=[], options=options)
    with pytest.raises(ConfigError, match=rf"shards\.main\.options\.{key}"):
        open_backend(backend, setting)

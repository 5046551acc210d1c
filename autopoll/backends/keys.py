"""The key of a service: from a private file or the environment, and never anywhere else.

It is neither an option itself, nor an argument, nor part of any text: the text of a service's error
goes through `ApiKey.hidden` before it is shown.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from autopoll.backends.contract import Setting
from autopoll.backends.options import option_path
from autopoll.errors import ConfigError
from autopoll.home import private_file
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.home.shard_files import SettingsStamp, settings_stamp
from autopoll.redact.redact import redact

_SHORT = 8  # a shorter word may stand in any text by chance


class ApiKey:
    """A key that does not show itself."""

    def __init__(self, value: str, origin: str) -> None:
        self.value = value
        self.origin = origin  # what to name when it is refused

    def __repr__(self) -> str:
        return f"<key from {self.origin}>"

    def hidden(self, text: str) -> str:
        """Return a text that holds neither the key nor any other that is known by its form."""
        if len(self.value) >= _SHORT:
            text = text.replace(self.value, "[key]")
        return redact(text)


class Login(NamedTuple):
    """What a client needs to get in: the key, and where; None is the library's own address."""

    key: ApiKey
    base_url: str | None


class KeyFiles:
    """The files that the settings name as keys, whichever shard's, and as the bridge's password, as
    the settings are now.

    Looked up and not handed in: a key that is named for one shard must not be shown by another that
    was started before, and is not restarted for it.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._seen: SettingsStamp | None = None
        self._paths: frozenset[Path] = frozenset()

    def paths(self) -> frozenset[Path]:
        """Return them, resolved; those of before while the settings cannot be read."""
        try:
            seen = settings_stamp(self._home)
            if seen != self._seen:
                config = load(self._home)
                options = [section.options for section in config.shards.values()]
                names = [table["key_file"] for table in options if "key_file" in table]
                names.append(config.bridge.password_file)
                found = [_resolved(self._home, name) for name in names if isinstance(name, str)]
                self._paths = frozenset(path for path in found if path is not None)
                self._seen = seen
        except ConfigError:
            return self._paths
        return self._paths


def _resolved(home: Home, name: str) -> Path | None:
    try:
        return (home.root / Path(name).expanduser()).resolve()
    except (OSError, ValueError, RuntimeError):  # no path; its own shard fails with it
        return None


NO_KEY = ApiKey("none", "nowhere")  # for services of one's own; the libraries insist on some word


def read_key(
    setting: Setting, key_file: str | None, key_env: str, environ: Mapping[str, str] = os.environ
) -> ApiKey | None:
    """Return the key in the file if one is named, else in the variable; None when there is none.

    Raises ConfigError when the file is missing, a symlink, somebody else's or open to others, or
    when what it holds cannot be a key.
    """
    if key_file is not None:
        option = f"shards.{setting.shard}.options.key_file"
        path = option_path(setting, "key_file", key_file)
        text, origin = private_file.read_text(path, option, "key"), f"file {path}"
    else:
        option = f"shards.{setting.shard}.options.key_env"
        text, origin = environ.get(key_env, ""), f"variable {key_env}"
    value = text.strip()
    if not value:
        if key_file is None:
            return None
        raise ConfigError(f"{option}: {origin} is empty", "Put the key into it.")
    if not (value.isascii() and value.isprintable()) or " " in value:
        # A client would put it into the text of its error.
        raise ConfigError(
            f"{option}: {origin} holds no key, but several words, lines or odd characters",
            "Put the key into it and nothing else.",
        )
    return ApiKey(value, origin)

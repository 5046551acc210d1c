"""A home with settings, a bridge and credentials, and without any process."""

from collections.abc import Callable
from pathlib import Path

from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.init import prepare

Run = Callable[..., tuple[int, str, str]]  # of a command: exit code, stdout, stderr

ECHO = '[shards.main]\nbackend = "echo"\n'


def prepared_home(root: Path, config: str = ECHO) -> Home:
    """Prepare a home as `up` does; no supervisord answers at its socket."""
    home = Home(root)
    home.config.write_text(config)
    home.supervisord_conf.parent.mkdir()
    home.supervisord_conf.write_text("[unix_http_server]\nfile = %(here)s/../s.sock\n")
    prepare(home, load(home, {}))
    return home

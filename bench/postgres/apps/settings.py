"""Where homes find the server, and what else is written for them."""

from pathlib import Path
from urllib.parse import quote

from bench.peers.apps import POSTGRESQL_FOLDER, POSTGRESQL_USER

SETTINGS = "home.toml"
ELSEWHERE = "elsewhere"  # a file that is there where another home answers
_HOME = """
[bridge]
url = "{url}"
{listen}
[access]
rate_per_second = 1000000.0
rate_burst = 1000000
[shards.{shard}]
backend = "echo"
options.concurrency = 64
"""


def url_of(folder: Path, options: str = "") -> str:
    """Return the url of the server that runs in a folder."""
    host = quote(str(folder / POSTGRESQL_FOLDER), safe="")
    return f"postgresql://{POSTGRESQL_USER}@/postgres?host={host}{options}"


def settings_of(server: Path, shards: tuple[str, ...], *, notified: bool) -> str:
    """Return the settings of a home on that server; one that is not notified looks each second."""
    listen = "" if notified else f'listen_url = "{url_of(server / "nowhere")}"\n'
    first, *others = shards
    text = _HOME.format(url=url_of(server), listen=listen, shard=first)
    return text + "".join(f'[shards.{name}]\nbackend = "echo"\n' for name in others)

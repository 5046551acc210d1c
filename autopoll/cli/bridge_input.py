"""The url of a bridge as it is given: in the command line, or on stdin."""

from autopoll.cli.question_input import decoded, require_stdin, stdin_readable
from autopoll.errors import UsageError
from autopoll.home.bridge_url import BridgeUrl

_LONGEST = 4096  # bytes


def read_bridge_url(text: str) -> BridgeUrl:
    """Return the url, or for `-` the one that stdin holds.

    Raises ConfigError for what is none, and UsageError for a password where all can see it.
    """
    if text == "-":
        return BridgeUrl(_from_stdin())
    url = BridgeUrl(text)
    if url.has_password:
        raise UsageError(
            "the url in the command line holds a password, and whoever lists processes sees it",
            "Change it on the server, and put the new one into ~/.pgpass, a service file"
            " (postgresql://?service=NAME) or PGPASSWORD; or give the url by --bridge - on stdin.",
        )
    return url


def _from_stdin() -> str:
    stdin = require_stdin().buffer
    with stdin_readable():
        data = stdin.read(_LONGEST + 1)
    text = decoded(data).strip()
    if not text or len(data) > _LONGEST:
        raise UsageError("stdin holds no url", "Give one: autopoll init --bridge - < FILE")
    return text

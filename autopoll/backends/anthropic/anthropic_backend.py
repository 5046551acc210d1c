"""The backend `anthropic`: a model behind Anthropic's Messages API.

The code that uses the library is in messages_api.py. It is imported when the backend starts.
"""

from autopoll.backends.anthropic.anthropic_options import AnthropicOptions
from autopoll.backends.contract import Setting
from autopoll.backends.http.http_backend import Remote
from autopoll.backends.http.service import Service
from autopoll.backends.keys import Login
from autopoll.backends.options import read_options
from autopoll.backends.requirements import need

WINDOW = 200_000  # tokens, unless the service reports another


class Anthropic(Remote):
    """One kept client of the Messages API."""

    def __init__(self, setting: Setting) -> None:
        self._own = options = read_options(setting, AnthropicOptions)
        need(setting.shard, "anthropic", (2,))
        super().__init__(setting, options, window=WINDOW, address="ANTHROPIC_BASE_URL")

    def connect(self, login: Login) -> Service:
        """Return a new client."""
        from autopoll.backends.anthropic.messages_api import MessagesService

        return MessagesService(self._own, login)

"""The backend `openai`: any service that speaks OpenAI's chat completions.

That is OpenAI, Ollama, vLLM, llama.cpp, LM Studio and many more, by `base_url`. What speaks to the
library stands in chat_api.py, which is imported when the backend starts.
"""

from typing import Annotated

import msgspec

from autopoll.backends.contract import Setting
from autopoll.backends.http.backend import Remote, RemoteOptions
from autopoll.backends.http.connection import Service
from autopoll.backends.keys import Login
from autopoll.backends.options import read_options
from autopoll.backends.requirements import need

WINDOW = 128_000  # tokens, as long as the service does not tell another


class OpenAiOptions(RemoteOptions, frozen=True, kw_only=True):
    """What `openai` can be told in autopoll.toml."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    key_env: Annotated[str, msgspec.Meta(min_length=1)] = "OPENAI_API_KEY"
    stream_usage: bool = True


class OpenAi(Remote):
    """One kept client of a chat completions API."""

    def __init__(self, setting: Setting) -> None:
        self._own = options = read_options(setting, OpenAiOptions)
        need(setting.shard, "openai", (3, 30))  # older ones keep no connection after a stream
        super().__init__(setting, options, window=WINDOW, address="OPENAI_BASE_URL")

    def connect(self, login: Login) -> Service:
        """Return a new client."""
        from autopoll.backends.openai.client import Chat

        return Chat(self._own, login)

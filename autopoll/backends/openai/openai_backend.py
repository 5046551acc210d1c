"""The backend `openai`: any service that speaks OpenAI's chat completions.

That is OpenAI, Ollama, vLLM, llama.cpp, LM Studio and many more, by `base_url`. The code that
uses the library is in chat_completions.py. It is imported when the backend starts.
"""

from autopoll.backends.contract import Setting
from autopoll.backends.http.http_backend import Remote
from autopoll.backends.http.service import Service
from autopoll.backends.keys import Login
from autopoll.backends.openai.openai_options import OpenAiOptions
from autopoll.backends.options import read_options
from autopoll.backends.requirements import need

WINDOW = 128_000  # tokens, unless the service reports another


class OpenAi(Remote):
    """One kept client of a chat completions API."""

    def __init__(self, setting: Setting) -> None:
        self._own = options = read_options(setting, OpenAiOptions)
        need(setting.shard, "openai", (3, 30))  # older ones keep no connection after a stream
        super().__init__(setting, options, window=WINDOW, address="OPENAI_BASE_URL")

    def connect(self, login: Login) -> Service:
        """Return a new client."""
        from autopoll.backends.openai.chat_completions import Chat

        return Chat(self._own, login)

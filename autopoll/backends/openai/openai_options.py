"""The options of the backend `openai`."""

from typing import Annotated

import msgspec

from autopoll.backends.http.http_backend import RemoteOptions


class OpenAiOptions(RemoteOptions, frozen=True, kw_only=True):
    """Options of the backend `openai` in autopoll.toml."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    key_env: Annotated[str, msgspec.Meta(min_length=1)] = "OPENAI_API_KEY"
    stream_usage: bool = True

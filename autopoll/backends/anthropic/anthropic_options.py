"""The options of the backend `anthropic`."""

from typing import Annotated

import msgspec

from autopoll.backends.http.http_backend import RemoteOptions


class AnthropicOptions(RemoteOptions, frozen=True, kw_only=True):
    """Options of the backend `anthropic` in autopoll.toml."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 8192  # the API insists on a number
    key_env: Annotated[str, msgspec.Meta(min_length=1)] = "ANTHROPIC_API_KEY"

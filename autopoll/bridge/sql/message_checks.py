"""What a text and its metadata must be to be stored, and what is redacted of them."""

import json

from autopoll.bridge.records import BridgeLimits
from autopoll.errors import UsageError
from autopoll.redact.redact import redact_message
from autopoll.text import storable


class MessageChecks:
    """The checks under the limits of one store; to be made before its write lock is taken."""

    def __init__(self, limits: BridgeLimits) -> None:
        self._limits = limits

    def text(self, text: str) -> str:
        """Return the text as it is stored; raise UsageError for one that is too large."""
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > self._limits.max_message:
            raise UsageError(
                f"the message is too large: {size} bytes, the limit is {self._limits.max_message}",
                "Send a shorter text, or name a context_file.",
            )
        return storable(redact_message(text) if self._limits.redact else text)

    def metadata(self, metadata: str | None) -> str | None:
        """Return the metadata as it is stored; raise UsageError for what is no JSON object."""
        if metadata is None:
            return None
        try:
            fields = json.loads(metadata)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise UsageError("the metadata is not a JSON object", 'Send it as {"key": "value"}.')
        return self.text(metadata)

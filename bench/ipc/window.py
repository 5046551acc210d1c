"""How much is in flight: the same for every channel."""

from collections.abc import Sequence

from bench.ipc.contract import Wrong

AHEAD = 64  # payloads
ROOM = 128 * 1024  # bytes, unless one payload is more: it fits into every buffer, so none blocks


class Window:
    """Gives out payloads in order, and takes what comes back in the same order."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self._payloads = payloads
        self._sent = self._back = self._bytes = 0

    @property
    def done(self) -> bool:
        """Whether everything has come back."""
        return self._back == len(self._payloads)

    def fill(self) -> list[bytes]:
        """Return what may be sent now."""
        batch = []
        while self._sent < min(len(self._payloads), self._back + AHEAD):
            payload = self._payloads[self._sent]
            if self._sent > self._back and self._bytes + len(payload) > ROOM:
                break
            self._sent += 1
            self._bytes += len(payload)
            batch.append(payload)
        return batch

    def take(self, echo: bytes) -> None:
        """Check what came back; raise Wrong."""
        payload = self._payloads[self._back]
        if echo != payload:
            raise Wrong(f"payload {self._back + 1} came back as another")
        self._back += 1
        self._bytes -= len(payload)

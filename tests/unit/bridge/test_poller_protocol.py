"""What the poller says of a question reaches its asker as it was."""

import pytest

from autopoll.bridge.poller_protocol import error_of, refusal
from autopoll.errors import (
    AutopollError,
    BridgeBusy,
    BridgeError,
    BridgeFull,
    BridgeUnavailable,
    KeyReused,
    NotFound,
    RowRefused,
    UsageError,
)

ERRORS = [
    BridgeBusy, BridgeError, BridgeFull, BridgeUnavailable, KeyReused, NotFound, RowRefused,
    UsageError,
]  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS)
def test_a_refusal_is_raised_by_the_asker_as_the_error_that_it_was(
    kind: type[AutopollError],
) -> None:
    error = error_of(refusal(kind("it is so", "Do this.")))
    assert (type(error), error.what, error.mend) == (kind, "it is so", "Do this.")

"""The channel of the comparison of pipes that is the product's own: named pipes by `fifo`."""

import os
from pathlib import Path

from bench.ipc.named import Named


def test_what_comes_back_is_what_was_sent_at_every_size(tmp_path: Path) -> None:
    with Named(tmp_path) as channel:
        for size in (0, 1, 200, 4096, 65_536, 65_537, 1_048_576):
            payload = os.urandom(size)
            assert channel.exchange(payload) == payload


def test_a_server_killed_in_mid_frame_is_noticed_and_a_new_one_answers(tmp_path: Path) -> None:
    with Named(tmp_path) as first:
        loss = first.lose()
        assert loss.seconds is not None
        assert "before the kill" not in loss.sign
    with Named(tmp_path) as second:
        assert second.exchange(b"again") == b"again"

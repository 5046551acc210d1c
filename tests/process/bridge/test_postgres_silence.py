"""A PostgreSQL server that says nothing, near or far: no call waits for it longer than one may."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from bridge_calls import ask, talk
from place import until
from postgres_calls import LOADED_S, claimed, repeated, require_one_answer, within

from autopoll.bridge.records import LONGEST_CALL_S
from autopoll.errors import BridgeUnavailable

SERVED_AGAIN_S = 12.0  # after a connection that began in silence was given up
# A name server that takes every question and answers none, in a network of its own.
ASKS_FOR_A_NAME = """
import fcntl, socket, struct, time
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
swallows = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
swallows.bind(("127.0.0.1", 53))
from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import BridgeUnavailable
begun = time.monotonic()
try:
    PostgresBridge("postgresql://db.example.org/agents", BridgeLimits())
except BridgeUnavailable as error:
    print(time.monotonic() - begun, error.what)
"""


def require_calls_to_end(call: Callable[[], object], seconds: float = 9.0) -> None:
    """Make calls for a while, all in vain, and see that each ends in time, and most at once."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        with pytest.raises(BridgeUnavailable):
            call()
        took.append(time.monotonic() - begun)
        time.sleep(0.05)
    assert max(took) < LONGEST_CALL_S + LOADED_S
    assert sum(each < 0.1 for each in took) > len(took) / 2, took


@pytest.mark.long
def test_calls_end_in_time_while_a_network_swallows_all_and_then_service_goes_on(
    server, name, proxy, open_bridge
) -> None:
    bridge = open_bridge(server.tcp_url(name, proxy.port))
    held = claimed(bridge)
    proxy.swallow()
    require_calls_to_end(bridge.overview.counts)
    proxy.mend()
    assert repeated(bridge.overview.in_flight, SERVED_AGAIN_S) == {"main": 1}
    require_one_answer(bridge, held)


@pytest.mark.long
def test_calls_end_in_time_while_the_server_is_frozen_and_then_service_goes_on(
    server, name, open_bridge
) -> None:
    bridge = open_bridge(server.tcp_url(name))
    held = claimed(bridge)
    server.freeze()
    try:
        require_calls_to_end(bridge.overview.counts)
    finally:
        server.thaw()
    assert repeated(bridge.overview.in_flight, SERVED_AGAIN_S) == {"main": 1}
    require_one_answer(bridge, held)


@pytest.mark.long
def test_a_transaction_whose_server_falls_silent_ends_in_time_and_leaves_no_lock(
    server, name, proxy, open_bridge
) -> None:
    there, near = open_bridge(server.tcp_url(name, proxy.port)), open_bridge(server.tcp_url(name))
    held = claimed(near)
    with within(), pytest.raises(BridgeUnavailable), there._db.writing():
        there._db.lock_conversations([held.conversation])
        proxy.swallow()
        there._db.rows("SELECT 1")
    # The server, too, finds the client gone; by itself it would not for hours.
    until(lambda: server.run_sql("SELECT 1 FROM pg_stat_activity WHERE xact_start<now()") == [])
    require_one_answer(near, held)


def test_many_statements_together_take_no_longer_than_a_call(
    server, name, proxy, open_bridge
) -> None:
    bridge = open_bridge(server.tcp_url(name, proxy.port))
    conversation = talk(bridge)
    proxy.delay_s = 0.3
    with within(), pytest.raises(BridgeUnavailable):
        ask(bridge, conversation, *["why?"] * 20)
    proxy.delay_s = 0.0
    assert repeated(lambda: bridge.messages.find(conversation=conversation)) == []


@pytest.mark.long  # not everywhere may one make a network
def test_a_name_that_no_server_resolves_holds_a_call_no_longer_than_a_call(tmp_path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    script = f'mount --bind {resolver} /etc/resolv.conf && exec "$@"'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c", script, "sh",
         sys.executable, "-c", ASKS_FOR_A_NAME],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    took, _, what = done.stdout.partition(" ")
    assert float(took) < LONGEST_CALL_S + LOADED_S
    assert "no reply in" in what

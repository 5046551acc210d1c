"""Ctrl-C in the middle of a call: what follows finds the connection usable, or makes another."""

import itertools
import os
import signal
import sys
import threading

import psycopg
import pytest
from bridge_calls import answered, settle
from place import until
from postgres_calls import answers, claimed, require_one_answer, waiting_for_locks, within

from autopoll.bridge.postgres import connection


@pytest.fixture
def bridge(server, name, open_bridge):
    return open_bridge(server.tcp_url(name))


def test_a_call_that_waits_for_the_server_is_interrupted_and_the_next_goes_through(
    server, name, bridge
) -> None:
    held = claimed(bridge)

    def interrupt() -> None:
        until(lambda: waiting_for_locks(server))
        os.kill(os.getpid(), signal.SIGINT)

    with psycopg.connect(server.url(name)) as other:
        other.execute("SELECT 1 FROM autopoll.conversations FOR UPDATE")
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with within(), pytest.raises(KeyboardInterrupt):
            settle(bridge, answered(held))
        interrupting.join()
    assert answers(bridge, held) == []
    require_one_answer(bridge, held)
    assert server.run_sql("SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in%'") == []


@pytest.mark.long
def test_an_interrupt_between_any_two_lines_leaves_no_half_of_a_call_in_the_store(
    server, name, open_bridge
) -> None:
    """Of each line of the connection that a settle runs, in turn; the command ends with it."""
    other = open_bridge(server.tcp_url(name))
    for number in itertools.count(1):
        bridge = open_bridge(server.tcp_url(name))
        held = claimed(bridge)
        interrupted = interrupted_at(number, lambda b=bridge, h=held: settle(b, answered(h)))
        bridge.close()
        after = answers(other, held)
        settled = settle(other, answered(held))
        assert settled.state == "done"
        assert after in ([], [settled.answer_id]), number
        assert answers(other, held) == [settled.answer_id], number
        if not interrupted:
            break
    assert number > 30


def interrupted_at(number: int, call) -> bool:
    """Make a call that is interrupted at its nth line in the connection; return whether it was."""
    left = itertools.count(number, -1)

    def trace(frame, event, _):
        if frame.f_code.co_filename != connection.__file__:
            return None
        if event == "line" and next(left) == 0:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False

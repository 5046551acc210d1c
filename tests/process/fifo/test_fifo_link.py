"""Two living ends over real pipes: what passes, who is refused, and what slowness costs."""

import asyncio
import os

import pytest
from fifo_end import Answerer, Asker, on_loop, stand_still_until, until
from frames import encode

from fifo import client_end, endpoint, events, pair, server_end, server_session, wire
from fifo.exceptions import AlreadyHeld, NoCredit, NotConnected, TooLarge
from fifo.frame import HEADER_SIZE, MAX_PAYLOAD, Frame, Type
from fifo.link import BUFFER_LIMIT
from fifo.pipe import CAPACITY
from fifo.server_end import ServerEnd


def frames_written(monkeypatch):
    """Return a list that takes up how many frames go into a pipe with each write; small ones."""
    counts, write, writev = [], os.write, os.writev

    def counting(descriptor, data):
        counts.append(1)
        return write(descriptor, data)

    def counting_several(descriptor, frames):
        counts.append(len(frames))
        return writev(descriptor, frames)

    monkeypatch.setattr(wire.os, "write", counting)
    monkeypatch.setattr(wire.os, "writev", counting_several)
    return counts


# --- both ends well


@on_loop
async def test_a_request_of_the_largest_size_goes_there_and_back(folder, spawn):
    spawn("server")
    asker = await Asker(folder).connect()
    payload = os.urandom(1024) * (MAX_PAYLOAD // 1024)
    for request_id in (1, 2):
        answer = await asker.ask(request_id, payload)
        assert answer.payload == payload
    asker.client.close()


@on_loop
async def test_a_payload_over_the_limit_is_refused_and_the_link_goes_on(folder):
    answerer = await Answerer(folder).start()
    asker = await Asker(folder).connect()
    with pytest.raises(TooLarge, match=str(MAX_PAYLOAD + 1)):
        asker.client.request(1, bytes(MAX_PAYLOAD + 1))
    assert (await asker.ask(1, bytes(5000))).payload == bytes(5000)
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_without_credit_or_server_a_request_is_refused(folder):
    asker = Asker(folder)
    asker.client.poke()
    assert asker.client.free == 0
    with pytest.raises(NotConnected, match=str(folder)):
        asker.client.request(1, b"")
    answerer = await Answerer(folder, credits=2, hold=True).start()
    await asker.connect()
    asker.client.request(1, b"")
    asker.client.request(2, b"")
    assert asker.client.free == 0
    with pytest.raises(NoCredit):
        asker.client.request(3, b"")
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_a_cancelled_request_ends_with_one_failure_and_frees_its_credit(folder, spawn):
    spawn("server")
    asker = await Asker(folder).connect()
    before = asker.client.free
    asker.client.request(1, b"hold")
    asker.client.cancel(1)
    assert (await until(lambda: asker.answer(1))).payload == b"cancelled"
    assert asker.client.free == before
    asker.client.cancel(1)
    asker.client.close()


@on_loop
async def test_what_was_answered_before_the_farewell_is_received_after_it(folder):
    answerer = await Answerer(folder, hold=True).start()
    asker = await Asker(folder).connect()
    asker.client.request(1, b"")
    asker.client.request(2, b"")
    await until(lambda: len(answerer.told(events.RequestReceived)) == 2)
    answerer.server.drain()
    answerer.server.reply(1, bytes(3_000_000))
    await answerer.server.close()
    await until(lambda: asker.told(events.Disconnected))
    assert asker.events[-3:] == [
        events.DrainReceived(),
        events.ReplyReceived(1, bytes(3_000_000)),
        events.Disconnected("the server closes", [2]),
    ]
    assert {path.name for path in folder.iterdir()} == {"worker.lock", "client.lock"}
    asker.client.close()


@on_loop
async def test_a_draining_server_gives_no_credits_to_a_client_that_joins(folder):
    answerer = await Answerer(folder).start()
    answerer.server.drain()
    first = await Asker(folder).connect()
    assert first.client.free == 0
    first.client.close()
    second = await Asker(folder).connect()
    assert second.client.free == 0
    second.client.close()
    await answerer.server.close()


@on_loop
async def test_frames_of_one_turn_go_out_in_two_writes_the_first_and_the_last_at_once(
    folder, monkeypatch
):
    answerer = await Answerer(folder, credits=10).start()
    asker = await Asker(folder).connect()
    answerer.hold = True
    await asyncio.sleep(0)
    writes = frames_written(monkeypatch)
    for request_id in range(1, 9):
        asker.client.request(request_id, b"x")
        assert writes == [1]
    await until(lambda: len(answerer.told(events.RequestReceived)) == 8)
    assert writes == [1, 7]
    asker.client.request(9, b"x")
    assert writes == [1, 7]  # the server has not said a word since: this may wait for the turn
    await until(lambda: len(answerer.told(events.RequestReceived)) == 9)
    assert writes == [1, 7, 1]
    asker.client.request(10, b"x")
    assert writes == [1, 7, 1, 1]  # no credit is left, so nothing can follow
    await until(lambda: len(answerer.told(events.RequestReceived)) == 10)
    writes.clear()
    for request_id in range(1, 11):
        answerer.server.reply(request_id, b"y")
        assert writes == ([1] if request_id < 10 else [1, 9])  # no request is left in hand
    await until(lambda: len(asker.told(events.ReplyReceived)) == 10)
    assert writes == [1, 9]
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_answers_to_requests_that_came_together_go_out_together(folder, monkeypatch):
    answerer = await Answerer(folder, credits=9).start()
    asker = await Asker(folder).connect()
    writes = frames_written(monkeypatch)
    for request_id in range(1, 10):
        asker.client.request(request_id, b"x")
    await until(lambda: len(asker.told(events.ReplyReceived)) == 9)
    # Each is the only one in hand when it is answered, but the others were there to be read.
    assert sorted(writes) == [1, 1, 8, 8]
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_frames_of_all_sizes_pass_a_full_pipe_whole_and_in_order(folder, spawn):
    server = spawn("server")
    asker = await Asker(folder).connect()
    server.stop()
    sizes = [700_000, 700_000, 0, 1, 16_383, 16_384, 16_385, 200, 98_304, 0, 9, 65_536, 300_000, 1]
    payloads = [os.urandom(size) for size in sizes]
    for request_id, payload in enumerate(payloads):
        asker.client.request(request_id, payload)
    server.carry_on()
    await until(lambda: len(asker.told(events.ReplyReceived)) == len(sizes))
    assert asker.told(events.ReplyReceived) == [
        events.ReplyReceived(request_id, payload) for request_id, payload in enumerate(payloads)
    ]
    asker.client.close()


@pytest.mark.parametrize("left", [0, 1, 5000])
@on_loop
async def test_a_frame_that_a_pipe_takes_in_part_or_not_at_all_passes_whole(folder, left):
    answerer = await Answerer(folder, credits=2).start()
    asker = await Asker(folder).connect()
    first, second = bytes(CAPACITY - HEADER_SIZE - left), os.urandom(10_000)
    asker.client.request(1, first)
    asker.client.request(2, second)  # at once, as no credit is left
    assert asker.client._link.wire.buffered > 0
    await until(lambda: len(asker.told(events.ReplyReceived)) == 2)
    assert [event.payload for event in answerer.told(events.RequestReceived)] == [first, second]
    asker.client.close()
    await answerer.server.close()


# --- one holder for each end


@on_loop
async def test_a_second_server_is_refused_with_the_pid_of_the_first(folder, spawn):
    first = spawn("server")
    asker = await Asker(folder).connect()
    with pytest.raises(AlreadyHeld, match=f"process {first.pid} ") as caught:
        await ServerEnd(folder, credits=1, on_event=print).start()
    assert caught.value.pid == first.pid
    assert caught.value.mend
    assert (await asker.ask(1, b"unharmed")).payload == b"unharmed"
    asker.client.close()


@on_loop
async def test_a_second_client_is_told_the_pid_of_the_first_once(folder, spawn):
    answerer = await Answerer(folder).start()
    first = spawn("client")
    await until(lambda: answerer.told(events.ClientJoined))
    second = Asker(folder)
    for _ in range(3):
        second.client.poke()
    [told] = second.events
    assert isinstance(told.error, AlreadyHeld)
    assert told.error.pid == first.pid
    first.kill()
    await second.connect()
    second.client.close()
    await answerer.server.close()


@on_loop
async def test_close_is_tolerated_before_start_and_twice_and_a_new_start_follows(folder):
    answerer = Answerer(folder)
    await answerer.server.close()
    await answerer.start()
    await answerer.server.close()
    await answerer.server.close()
    await answerer.start()
    asker = await Asker(folder).connect()
    for _ in range(2):
        asker.client.close()
        asker.client.poke()
    assert not asker.client.connected
    await answerer.server.close()


@on_loop
async def test_what_is_in_the_way_again_after_a_link_is_reported_again(folder):
    folder.mkdir(mode=0o700)
    asker = Asker(folder)
    for number in (1, 2):
        (folder / endpoint.NAME).write_bytes(b"{")
        for _ in range(2):
            asker.client.poke()
        assert len(asker.told(events.Unreachable)) == number
        answerer = await Answerer(folder).start()
        await asker.connect()
        await answerer.server.close()
        await until(lambda number=number: len(asker.told(events.Disconnected)) == number)
    asker.client.close()


# --- a peer that does not read


@on_loop
async def test_a_stopped_server_takes_bounded_memory_of_its_client_and_loses_nothing(folder, spawn):
    server = spawn("server")
    asker = await Asker(folder).connect()
    server.stop()
    sent = []
    while asker.client.free:
        sent.append(len(sent) + 1)
        asker.client.request(sent[-1], bytes(900_000))
        await asyncio.sleep(0)
    assert len(sent) < 16  # the buffer was full before the credits were spent
    assert BUFFER_LIMIT <= asker.client._link.wire.buffered < BUFFER_LIMIT + 1_000_000
    with pytest.raises(NoCredit, match="wait for the server"):
        asker.client.request(99, b"")
    server.carry_on()
    for request_id in sent:
        assert await until(lambda number=request_id: asker.answer(number))
    assert asker.client.free == 16
    asker.client.close()


@on_loop
async def test_progress_to_a_client_that_does_not_read_is_skipped_but_its_reply_is_not(
    folder, spawn
):
    server = spawn("server")
    asker = await Asker(folder).connect()
    before = server.memory()
    asker.client.request(1, b"flood:1000")
    await asyncio.sleep(0)  # one turn, for the request to go out; then our own loop stands still
    stand_still_until(lambda: server.saw("RequestReceived"))
    assert await until(lambda: asker.answer(1))
    assert server.memory() - before < 32_000_000  # of 64 MB
    assert 10 < len(asker.told(events.ProgressReceived)) < 200
    asker.client.close()


# --- a peer that breaks the protocol


@on_loop
async def test_garbage_in_the_pipe_is_told_in_hex_and_the_pair_is_made_anew(folder):
    answerer = await Answerer(folder).start()
    epoch = answerer.epoch
    writer = os.open(folder / pair.REQUESTS, os.O_WRONLY)
    os.write(writer, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
    [fault] = await until(lambda: answerer.told(events.ProtocolFault))
    os.close(writer)
    assert b"GET ".hex() in fault.error.what
    assert answerer.told(events.ClientLeft) == []
    assert answerer.epoch > epoch
    asker = await Asker(folder).connect()
    assert (await asker.ask(1, b"well")).payload == b"well"
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_a_client_whose_frame_was_bad_learns_why_and_does_not_come_back_at_once(folder):
    answerer = await Answerer(folder).start()
    asker = await Asker(folder).connect()
    asker.client.request(1, b"")
    os.write(asker.client._link.wire._ends.writer, bytes(40))
    [lost] = await until(lambda: asker.told(events.Disconnected))
    assert "does not begin with the magic" in lost.reason
    for _ in range(20):
        asker.client.poke()
        await asyncio.sleep(0.002)
    assert not asker.client.connected
    await asker.connect()
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_a_bad_frame_from_the_server_ends_the_link_with_what_was_in_flight(folder):
    answerer = await Answerer(folder, hold=True).start()
    asker = await Asker(folder).connect()
    asker.client.request(7, b"")
    wrong = encode(Frame(Type.HELLO, answerer.epoch))
    os.write(answerer.server._link.wire._ends.writer, wrong)
    [lost] = await until(lambda: asker.told(events.Disconnected))
    assert lost.in_flight == [7]
    assert "a server may not send HELLO" in asker.told(events.ProtocolFault)[0].error.what
    [left] = await until(lambda: answerer.told(events.ClientLeft))
    assert "a server may not send HELLO" in left.reason
    await asker.connect()
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_frames_of_another_epoch_are_dropped(folder):
    answerer = await Answerer(folder).start()
    asker = await Asker(folder).connect()
    stale = encode(Frame(Type.REQUEST, answerer.epoch - 1, 1, b"stale"))
    os.write(asker.client._link.wire._ends.writer, stale)
    assert (await asker.ask(1, b"fresh")).payload == b"fresh"
    assert [event.payload for event in answerer.told(events.RequestReceived)] == [b"fresh"]
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_a_server_that_speaks_another_version_is_told_and_left_alone(folder, monkeypatch):
    answerer = Answerer(folder)
    monkeypatch.setattr(server_end, "VERSIONS", (99,))
    await answerer.start()
    epoch = answerer.epoch
    asker = Asker(folder)
    for _ in range(3):
        asker.client.poke()
    [told] = asker.events
    assert "[99]" in told.error.what
    monkeypatch.setattr(server_session, "VERSIONS", (99,))
    monkeypatch.setattr(client_end, "choose_version", lambda offered: 1)
    asker.client.poke()
    refused = await until(lambda: asker.events[1:])
    assert "wants version 1" in str(refused[0])
    assert asker.told(events.Disconnected) == []
    assert answerer.epoch > epoch
    asker.client.close()
    await answerer.server.close()

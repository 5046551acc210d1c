"""Either end is killed or stopped in mid-frame, and the next one finds a clean pair."""

import asyncio
import fcntl
import os

import msgspec
import pytest
from fifo_end import Answerer, Asker, on_loop, stand_still_until, unread, until

from fifo import client_end, endpoint, events
from fifo.epoch_lock import Lock

# --- death of the server


@pytest.mark.parametrize("size", [200_000, 5_000_000])
@on_loop
async def test_a_server_killed_in_mid_reply_fails_what_is_in_flight_and_the_next_one_answers(
    folder, spawn, size
):
    server = spawn("server")
    asker = await Asker(folder).connect()
    epoch = asker.epoch
    wanted = 1 + 1_500_000 // size
    for request_id in range(1, wanted + 1):
        asker.client.request(request_id, b"big:%d" % size)
    await asyncio.sleep(0)  # one turn, for the requests to go out
    # Read nothing, until the pipe is full and the server stands in the middle of a reply.
    reader = asker.client._link.wire._ends.reader
    room = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
    stand_still_until(lambda: unread(reader) > 0.9 * room)
    server.kill()

    [lost] = await until(lambda: asker.told(events.Disconnected))
    assert "into a frame" in lost.reason
    answered = [one.request_id for one in asker.told(events.ReplyReceived)]
    assert len(answered) < wanted
    assert answered + lost.in_flight == list(range(1, wanted + 1))
    assert asker.client.free == 0

    spawn("server")
    await asker.connect()
    assert asker.epoch > epoch
    assert (await asker.ask(99, b"again")).payload == b"again"
    asker.client.close()


@on_loop
async def test_a_server_that_dies_before_its_welcome_is_noticed(folder, spawn):
    server = spawn("server")
    await until(lambda: endpoint.read(folder))
    server.stop()
    asker = Asker(folder)
    asker.client.poke()
    server.kill()
    await until(lambda: asker.client._link is None)
    spawn("server")
    await asker.connect()
    asker.client.close()


@on_loop
async def test_the_endpoint_of_a_dead_server_is_not_believed(folder, spawn):
    server = spawn("server")
    published = await until(lambda: endpoint.read(folder))
    server.popen.kill()
    await until(lambda: endpoint.started(server.pid) is None)  # a zombie counts as dead
    assert not published.alive()
    server.kill()
    asker = Asker(folder)
    asker.client.poke()
    pid = os.getpid()  # as if another process had got the same pid, or the machine had restarted
    endpoint.publish(folder, msgspec.structs.replace(published, pid=pid))
    asker.client.poke()
    assert asker.client._link is None
    assert asker.events == []
    living = msgspec.structs.replace(published, pid=pid, started=endpoint.started(pid))
    assert living.alive()
    assert not msgspec.structs.replace(living, boot_id="of yesterday").alive()
    asker.client.close()


# --- death of the client


@pytest.mark.parametrize("size", [200_000, 5_000_000])
@on_loop
async def test_a_client_killed_in_mid_request_makes_room_for_the_next(folder, spawn, size):
    server = spawn("server")
    client = spawn("client")
    await until(lambda: client.saw("Connected"))
    server.stop()
    wanted = 1 + 1_500_000 // size
    client.tell(" ".join([str(size)] * wanted))
    await until(lambda: client.saw("Sent") == wanted)
    client.kill()
    server.carry_on()
    await until(lambda: server.saw("ClientLeft"))
    assert server.saw("into a frame") == 1
    asker = await Asker(folder).connect()
    assert (await asker.ask(1, b"next")).payload == b"next"
    assert server.saw("ProtocolFault") == 0
    asker.client.close()


@pytest.mark.parametrize("size", [200_000, 5_000_000])
@on_loop
async def test_half_a_frame_of_a_killed_client_never_meets_the_frames_of_a_quick_successor(
    folder, spawn, size
):
    server = spawn("server")
    client = spawn("client")
    await until(lambda: client.saw("Connected"))
    server.stop()
    wanted = 1 + 1_500_000 // size
    client.tell(" ".join([str(size)] * wanted))
    await until(lambda: client.saw("Sent") == wanted)
    client.kill()
    # The server has seen nothing yet: who wrote now would continue the torn frame.
    asker = Asker(folder)
    for _ in range(3):
        asker.client.poke()
        assert asker.client._link is None
    server.carry_on()
    await asker.connect()
    assert (await asker.ask(1, b"whole")).payload == b"whole"
    assert server.saw("ClientJoined") == 2
    assert server.saw("ProtocolFault") == 0
    asker.client.close()


@on_loop
async def test_a_client_that_died_before_it_opened_its_pair_does_not_block_the_next(folder):
    answerer = await Answerer(folder).start()
    claim = Lock(folder / client_end.LOCK_NAME, "the client's end")
    claim.record(answerer.epoch)
    claim.release()
    asker = await Asker(folder).connect()
    assert (await asker.ask(1, b"in")).payload == b"in"
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_an_answer_to_a_client_that_left_is_dropped(folder):
    answerer = await Answerer(folder, hold=True).start()
    first = await Asker(folder).connect()
    first.client.request(1, b"old")
    [old] = await until(lambda: answerer.told(events.RequestReceived))
    first.client.close()
    await until(lambda: answerer.told(events.ClientLeft))
    answerer.server.reply(old.request_id, b"to nobody")
    second = await Asker(folder).connect()
    second.client.request(1, b"new")
    [new] = await until(lambda: answerer.told(events.RequestReceived)[1:])
    answerer.server.reply(old.request_id, b"old answer")
    answerer.server.reply(new.request_id, b"new answer")
    assert (await until(lambda: second.answer(1))).payload == b"new answer"
    assert len(second.told(events.ReplyReceived)) == 1
    second.client.close()
    await answerer.server.close()

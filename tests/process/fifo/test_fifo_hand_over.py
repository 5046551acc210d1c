"""A client becomes another program by exec: the link goes on, and no frame is lost or torn."""

from fifo_end import on_loop, until

LARGE = 5_000_000


@on_loop
async def test_what_has_not_gone_out_yet_is_sent_by_the_next_program(folder, spawn):
    server, client = spawn("server"), spawn("client")
    await until(lambda: client.saw("Connected"))
    server.stop()
    client.tell(str(LARGE))
    await until(lambda: client.saw("Sent"))
    client.tell("become")
    await until(lambda: client.saw("Became {1: False}"))
    assert client.saw("Unsent True")
    server.carry_on()
    await until(lambda: client.saw(f"ReplyReceived {{'request_id': 1, 'payload': {LARGE}}}"))
    assert server.saw("ClientJoined") == 1
    assert server.saw("ClientLeft") == server.saw("ProtocolFault") == 0


@on_loop
async def test_half_a_reply_is_put_together_by_the_next_program(folder, spawn):
    server, client = spawn("server"), spawn("client")
    await until(lambda: client.saw("Connected"))
    client.tell(f"{LARGE} 5 become torn")
    await until(lambda: client.saw("Became"))
    assert client.saw("Unread True")
    await until(lambda: client.saw(f"ReplyReceived {{'request_id': 1, 'payload': {LARGE}}}"))
    client.tell("7")
    await until(lambda: client.saw("'payload': 7}"))
    assert server.saw("ClientJoined") == 1
    assert server.saw("ClientLeft") == server.saw("ProtocolFault") == 0


@on_loop
async def test_the_death_of_the_server_meanwhile_is_noticed_by_the_next_program(folder, spawn):
    server, client = spawn("server"), spawn("client")
    await until(lambda: client.saw("Connected"))
    server.stop()
    client.tell("3")
    await until(lambda: client.saw("Sent"))
    client.tell("become")
    await until(lambda: client.saw("Became"))
    server.kill()
    await until(lambda: client.saw("Disconnected"))
    assert client.saw("'in_flight': [1]")
    spawn("server")
    await until(lambda: client.saw("Connected") == 2)

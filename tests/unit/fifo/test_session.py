"""Two sessions joined in memory: every move, legal and illegal, and any interleaving of them."""

from collections import Counter
from itertools import count, product

import msgspec
import pytest
from frames import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from fifo import events
from fifo.client_session import ClientSession, choose_version
from fifo.exceptions import LocalFault, NoCredit, NotConnected, RemoteFault, TooLarge
from fifo.frame import MAX_PAYLOAD, Frame, Type
from fifo.server_session import ServerSession
from fifo.session import MOVES, VERSIONS, Hello, SessionState, Side

EPOCH = 1_700_000_000_000


class Joined:
    """A server and a client, and the bytes between them that were not delivered yet."""

    def __init__(self, credits=2, server_max=MAX_PAYLOAD, client_max=MAX_PAYLOAD, numbers=None):
        self.to_client, self.to_server = bytearray(), bytearray()
        self.server = ServerSession(
            EPOCH,
            lambda head, payload, last: self.to_client.extend(head + payload),
            max_payload=server_max,
            pid=11,
            credits=credits,
            numbers=numbers or count(1),
        )
        self.client = ClientSession(
            EPOCH,
            lambda head, payload, last: self.to_server.extend(head + payload),
            max_payload=client_max,
        )

    def at_server(self, size=None):
        return self._deliver(self.to_server, self.server, size)

    def at_client(self, size=None):
        return self._deliver(self.to_client, self.client, size)

    @staticmethod
    def _deliver(pipe, session, size):
        data = bytes(pipe[:size])
        del pipe[:size]
        return list(session.receive(data))

    @classmethod
    def opened(cls, **options):
        joined = cls(**options)
        joined.client.hello(22, 1)
        assert joined.at_server() == [events.ClientJoined(22)]
        [connected] = joined.at_client()
        assert isinstance(connected, events.Connected)
        return joined

    def asked(self, request_id, payload=b"question"):
        self.client.request(request_id, payload)
        [received] = self.at_server()
        return received.request_id


def frame(kind, request_id=0, payload=b"", epoch=EPOCH):
    return encode(Frame(kind, epoch, request_id, payload))


def test_hello_and_welcome_open_the_session_with_the_credits_of_the_server():
    joined = Joined(credits=3)
    assert joined.client.free == 0
    joined.client.hello(22, 1)
    assert joined.at_server() == [events.ClientJoined(22)]
    assert joined.at_client() == [events.Connected(EPOCH, 11, 3)]
    assert joined.client.free == 3


def test_a_request_its_progress_and_its_reply_pass_and_the_credit_comes_back():
    joined = Joined.opened(credits=1)
    joined.client.request(70, b"question")
    assert joined.client.free == 0
    assert joined.at_server() == [events.RequestReceived(1, b"question")]
    joined.server.progress(1, b"working")
    joined.server.reply(1, b"answer")
    assert joined.at_client() == [
        events.ProgressReceived(70, b"working"),
        events.ReplyReceived(70, b"answer"),
    ]
    assert joined.client.free == 1
    assert joined.client.in_flight == []


def test_a_request_over_the_credits_is_refused_before_anything_is_written():
    joined = Joined.opened(credits=1)
    joined.client.request(1, b"")
    joined.at_server()
    with pytest.raises(NoCredit):
        joined.client.request(2, b"")
    assert joined.to_server == b""
    assert joined.client.in_flight == [1]


def test_a_client_that_overspends_is_at_fault():
    joined = Joined.opened(credits=1)
    with pytest.raises(RemoteFault, match="credits"):
        list(joined.server.receive(frame(Type.REQUEST, 1) + frame(Type.REQUEST, 2)))


def test_an_id_in_flight_cannot_be_used_again_by_either_end():
    joined = Joined.opened(credits=2)
    joined.asked(1)
    with pytest.raises(LocalFault):
        joined.client.request(1, b"")
    with pytest.raises(RemoteFault):
        list(joined.server.receive(frame(Type.REQUEST, 1)))


def test_a_payload_too_large_for_either_end_is_refused_and_the_session_goes_on():
    joined = Joined.opened(server_max=5000, client_max=6000)
    with pytest.raises(TooLarge, match="5001"):
        joined.client.request(1, b"x" * 5001)
    assert joined.client.in_flight == []
    number = joined.asked(1, b"x" * 5000)
    with pytest.raises(TooLarge):
        joined.server.reply(number, b"x" * 5001)
    joined.server.fail(number, b"the answer is too large")
    assert joined.at_client() == [events.FailureReceived(1, b"the answer is too large")]


def test_a_cancelled_request_still_ends_with_exactly_one_answer():
    joined = Joined.opened(credits=1)
    number = joined.asked(5)
    joined.client.cancel(5)
    joined.client.cancel(5)
    assert joined.at_server() == [events.CancelReceived(number)]
    assert joined.client.free == 0
    joined.server.fail(number, b"cancelled")
    assert joined.at_client() == [events.FailureReceived(5, b"cancelled")]
    assert joined.client.free == 1


def test_a_cancel_that_crosses_the_reply_is_dropped():
    joined = Joined.opened()
    number = joined.asked(5)
    joined.server.reply(number, b"answer")
    joined.client.cancel(5)
    assert joined.to_server == frame(Type.CANCEL, 5)
    assert joined.at_server() == []
    joined.at_client()
    joined.client.cancel(5)
    assert joined.to_server == b""


def test_answers_to_unknown_requests_are_dropped_at_both_ends():
    joined = Joined.opened()
    joined.server.reply(99, b"")
    joined.server.progress(99, b"")
    assert joined.to_client == b""
    assert list(joined.client.receive(frame(Type.REPLY, 99) + frame(Type.PROGRESS, 99))) == []
    assert joined.client.free == 2


@pytest.mark.parametrize("send", ["progress", "reply", "fail"])
def test_an_answer_after_the_client_is_gone_is_dropped(send):
    joined = Joined.opened()
    number = joined.asked(1)
    joined.server.hang_up()
    getattr(joined.server, send)(number, b"")
    assert joined.to_client == b""


def test_an_answer_to_a_dead_clients_request_never_reaches_the_next_client():
    numbers = count(1)
    first = Joined.opened(numbers=numbers)
    old = first.asked(1)
    first.server.hang_up()
    second = Joined.opened(numbers=numbers)
    new = second.asked(1)
    second.server.reply(old, b"old answer")
    assert second.at_client() == []
    second.server.reply(new, b"new answer")
    assert second.at_client() == [events.ReplyReceived(1, b"new answer")]


def test_frames_of_another_epoch_are_dropped():
    joined = Joined.opened()
    stale = frame(Type.REQUEST, 1, epoch=EPOCH - 1)
    assert list(joined.server.receive(stale + frame(Type.REQUEST, 2, b"x"))) == [
        events.RequestReceived(1, b"x")
    ]


def test_a_request_that_crosses_the_drain_is_answered_and_none_is_sent_after():
    joined = Joined.opened(credits=3)
    joined.server.drain()
    joined.server.drain()
    joined.client.request(1, b"crossing")
    assert joined.at_client() == [events.DrainReceived()]
    assert joined.client.free == 0
    with pytest.raises(NoCredit):
        joined.client.request(2, b"")
    [received] = joined.at_server()
    joined.server.reply(received.request_id, b"answer")
    assert joined.at_client() == [events.ReplyReceived(1, b"answer")]


def test_bye_tells_its_reason_and_what_crosses_it_is_dropped():
    joined = Joined.opened()
    joined.server.bye("the server closes")
    joined.client.request(1, b"")
    assert joined.at_server() == []
    assert joined.at_client() == [events.PeerLeft("the server closes", fault=False)]
    assert joined.client.in_flight == [1]
    with pytest.raises(NotConnected):
        joined.client.request(2, b"")


def test_a_long_reason_is_cut_so_that_bye_always_fits():
    joined = Joined.opened(server_max=4096, client_max=4096)
    joined.server.bye("\x00" * 100_000, fault=True)
    [left] = joined.at_client()
    assert left.reason == "\x00" * 500
    assert left.fault


def test_unknown_fields_of_a_hello_are_ignored():
    hello = {"pid": 5, "version": 1, "max_payload": 9999, "nonce": "n", "colour": "blue"}
    joined = Joined()
    received = joined.server.receive(frame(Type.HELLO, payload=msgspec.json.encode(hello)))
    assert list(received) == [events.ClientJoined(5)]


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b'{"pid": "five"}', b"[1]"])
def test_a_hello_that_cannot_be_read_is_the_clients_fault(payload):
    with pytest.raises(RemoteFault, match="HELLO cannot be read"):
        list(Joined().server.receive(frame(Type.HELLO, payload=payload)))


def test_a_version_that_the_server_does_not_speak_is_refused():
    hello = Hello(pid=5, version=99, max_payload=9999, nonce="n")
    with pytest.raises(RemoteFault, match="wants version 99"):
        list(Joined().server.receive(frame(Type.HELLO, payload=msgspec.json.encode(hello))))


def test_the_best_common_version_is_chosen_and_none_in_common_is_an_error():
    assert choose_version([0, *VERSIONS, 99]) == VERSIONS[-1]
    with pytest.raises(NotConnected, match="99"):
        choose_version([99])


def test_a_welcome_to_another_hello_is_a_fault():
    one, other = Joined(), Joined()
    one.client.hello(1, 1)
    other.client.hello(2, 1)
    one.at_server()
    with pytest.raises(RemoteFault, match="another client"):
        list(other.client.receive(bytes(one.to_client)))


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("kind", Type)
def test_a_frame_that_means_nothing_to_a_side_is_taken_for_no_other(side, kind):
    session = Joined().server if side is Side.SERVER else Joined().client
    meant = {sent for _, sender, sent in MOVES if sender is not side} - {Type.BYE}
    if kind not in meant:
        with pytest.raises(RemoteFault, match=f"{kind.name} means nothing"):
            session._take(Frame(kind, EPOCH))


@pytest.mark.parametrize("state", SessionState)
@pytest.mark.parametrize("kind", Type)
def test_every_move_that_is_not_in_the_table_raises_and_changes_nothing(state, kind):
    for side, sender in product(Side, Side):
        joined = Joined()
        session = joined.server if side is Side.SERVER else joined.client
        session._enter(state)
        if (state, sender, kind) in MOVES or (state is SessionState.CLOSED and sender is not side):
            continue
        if sender is side:
            with pytest.raises(LocalFault, match=kind.name):
                session._send(kind)
        else:
            with pytest.raises(RemoteFault, match=kind.name):
                list(session.receive(frame(kind)))
        assert session._state is state
        assert joined.to_client == joined.to_server == b""


MOVE = st.one_of(
    st.tuples(st.just("request"), st.binary(max_size=50)),
    st.tuples(st.sampled_from(["progress", "reply", "fail", "cancel"]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["to_server", "to_client"]), st.integers(1, 120)),
    st.tuples(st.just("drain"), st.none()),
)


@settings(max_examples=300)
@given(st.integers(1, 4), st.lists(MOVE, max_size=120))
def test_in_any_interleaving_every_request_ends_once_with_its_own_answer(credits, moves):
    joined = Joined.opened(credits=credits)
    server, client = joined.server, joined.client
    asked, held, ended = {}, {}, Counter()

    def take_server(happened):
        for event in happened:
            match event:
                case events.RequestReceived(request_id=number, payload=payload):
                    held[number] = payload

    def take_client(happened):
        for event in happened:
            match event:
                case events.ReplyReceived() | events.FailureReceived():
                    assert event.payload == asked[event.request_id]
                    ended[event.request_id] += 1

    for move, value in moves:
        match move:
            case "request" if client.free:
                asked[len(asked)] = value
                client.request(len(asked) - 1, value)
            case "cancel" if client.in_flight:
                client.cancel(client.in_flight[value % len(client.in_flight)])
            case "progress" if held:
                server.progress(list(held)[value % len(held)], b"...")
            case "reply" | "fail" if held:
                number = list(held)[value % len(held)]
                getattr(server, move)(number, held.pop(number))
            case "drain":
                server.drain()
            case "to_server":
                take_server(joined.at_server(value))
            case "to_client":
                take_client(joined.at_client(value))
        assert 0 <= client.free <= credits
        assert len(client.in_flight) <= credits

    take_server(joined.at_server())
    for number, payload in held.items():
        server.reply(number, payload)
    take_client(joined.at_client())
    assert client.in_flight == []
    assert ended == Counter(asked.keys())

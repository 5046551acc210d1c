"""The codec: bytes in pieces of any size, and nothing but whole, unharmed frames out."""

import subprocess
import sys
import time
import tracemalloc
import zlib
from itertools import pairwise
from zlib import crc32

import pytest
from frames import encode
from hypothesis import given
from hypothesis import strategies as st

from fifo import frame as codec
from fifo.exceptions import RemoteFault
from fifo.frame import HEADER_SIZE, MAX_PAYLOAD, Decoder, Frame, Type

U64 = st.integers(0, 2**64 - 1)
FRAMES = st.builds(Frame, st.sampled_from(Type), U64, U64, st.binary(max_size=300))


def decode(pieces, max_payload=MAX_PAYLOAD):
    decoder = Decoder(max_payload)
    found = []
    for piece in pieces:
        decoder.feed(piece)
        found.extend(decoder.frames())
    return found


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 5000), max_size=20))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(frames, places):
    data = b"".join(map(encode, frames))
    assert decode(cut(data, places)) == frames


@given(st.lists(FRAMES, max_size=4))
def test_byte_by_byte_gives_the_same_as_all_at_once(frames):
    data = b"".join(map(encode, frames))
    assert decode(bytes([byte]) for byte in data) == decode([data]) == frames


@given(st.binary(max_size=5000), st.integers(0, 2**32 - 1))
def test_the_fast_checksum_is_the_same_number_as_the_one_of_zlib(data, before):
    assert codec.crc32 is not zlib.crc32  # else the extra `fast` is not installed
    assert codec.crc32(data, before) == zlib.crc32(data, before)


def test_frames_of_an_end_without_the_fast_checksum_are_the_same():
    program = """
import sys
sys.modules["isal.isal_zlib"] = None  # as where it is not installed
import zlib
from fifo import frame
assert frame.crc32 is zlib.crc32
decoder = frame.Decoder()
decoder.feed(sys.stdin.buffer.read())
for each in decoder.frames():
    head = frame.header(each.type, each.epoch, each.request_id, each.payload)
    sys.stdout.buffer.write(head + each.payload)
"""
    data = b"".join(encode(Frame(Type.REPLY, 7, size, b"x" * size)) for size in (0, 200, 70_000))
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, check=True, timeout=60
    )
    assert done.stdout == data


@given(FRAMES, st.integers(0, 10_000), st.integers(1, 255))
def test_a_frame_with_one_wrong_byte_is_never_taken(frame, place, change):
    data = bytearray(encode(frame))
    data[place % len(data)] ^= change
    try:
        found = decode([bytes(data)])
    except RemoteFault:
        return
    assert found == []  # the length grew: the decoder waits for the rest


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_raises_a_protocol_error_or_waits_for_more(pieces):
    try:
        assert decode(pieces) == []
    except RemoteFault as error:
        assert "bad frame" in error.what
        assert error.mend


def test_what_is_fed_while_frames_are_taken_comes_after_them_and_nothing_twice():
    frames = [Frame(Type.REPLY, 7, number, b"x" * number) for number in range(1, 6)]
    data = b"".join(map(encode, frames))
    decoder = Decoder()
    decoder.feed(data[:150])
    taking = decoder.frames()
    found = [next(taking)]
    decoder.feed(data[150:])  # as when the owner of a link pokes it out of an event
    found.extend(decoder.frames())
    found.extend(taking)
    assert found == frames
    assert decoder.pending == 0


def test_every_cut_of_a_frame_gives_nothing_until_its_last_byte():
    frame = Frame(Type.REPLY, 7, 9, b"payload")
    data = encode(frame)
    for length in range(len(data)):
        decoder = Decoder()
        decoder.feed(data[:length])
        assert list(decoder.frames()) == []
        assert decoder.pending == length
        decoder.feed(data[length:])
        assert list(decoder.frames()) == [frame]
        assert decoder.pending == 0


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, b"HTTP", "magic"),
        (4, b"\x02", "version 2"),
        (5, b"\x63", "no type 99"),
        (5, b"\x08", "no type 8;"),  # once a PING, which no end sends any more
        (5, b"\x09", "no type 9;"),  # and its PONG
        (24, b"\xff\xff\xff\xff", "4294967295 bytes is over"),
        (28, b"\x00\x00\x00\x00", "crc32"),
    ],
)
def test_each_field_that_is_wrong_is_named_with_the_first_bytes_in_hex(place, value, said):
    data = bytearray(encode(Frame(Type.REQUEST, 7, 9, b"payload")))
    data[place : place + len(value)] = value
    with pytest.raises(RemoteFault, match=said) as caught:
        decode([bytes(data)])
    assert data[:4].hex() in caught.value.what
    assert b"payload".hex() not in caught.value.what.replace(" ", "")


def test_unknown_flags_are_ignored():
    frame = Frame(Type.DRAIN, 7)
    sealed = bytearray(encode(frame))[:28]
    sealed[7] = 0x80
    assert decode([bytes(sealed) + crc32(sealed).to_bytes(4, "big")]) == [frame]


def test_good_frames_before_a_bad_one_are_given_and_the_decoder_stays_poisoned():
    good = Frame(Type.REPLY, 7, 1, b"good")
    decoder = Decoder()
    decoder.feed(encode(good) + b"\0" * HEADER_SIZE + encode(good))
    frames = decoder.frames()
    assert next(frames) == good
    with pytest.raises(RemoteFault):
        next(frames)
    decoder.feed(encode(good))
    with pytest.raises(RemoteFault):
        list(decoder.frames())


def test_a_payload_over_the_limit_is_refused_by_its_header_alone():
    header = encode(Frame(Type.REQUEST, 7, 1, b"x" * 5000))[:HEADER_SIZE]
    with pytest.raises(RemoteFault, match="5000 bytes is over 4096"):
        decode([header], max_payload=4096)


def test_the_largest_payload_in_small_pieces_takes_linear_time_and_bounded_memory():
    payload = b"x" * MAX_PAYLOAD
    data = memoryview(encode(Frame(Type.REPLY, 7, 1, payload)))
    pieces = [bytes(data[start : start + 4096]) for start in range(0, len(data), 4096)]
    began = time.process_time()
    [frame] = decode(pieces)
    # Moving what is there with every piece would copy 32 GB; this takes some 30 ms.
    assert time.process_time() - began < 2
    assert frame.payload == payload
    del frame

    tracemalloc.start()
    try:
        decode(pieces)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * MAX_PAYLOAD
    finally:
        tracemalloc.stop()


def test_what_has_been_taken_is_held_no_longer():
    payload = b"x" * MAX_PAYLOAD
    data = encode(Frame(Type.REPLY, 7, 1, payload))
    decoder = Decoder()
    tracemalloc.start()
    try:
        for start in range(0, len(data), 1 << 20):
            decoder.feed(data[start : start + (1 << 20)])
            assert len([len(frame.payload) for frame in decoder.frames()]) <= 1
        assert decoder.pending == 0
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()

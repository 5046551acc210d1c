"""A wire on its own: what becomes of a frame when there is no pipe any more."""

import os

from fifo_end import on_loop, unread

from fifo.pipe import Ends
from fifo.wire import Wire


@on_loop
async def test_a_closed_wire_writes_nothing_into_what_has_its_descriptor_now():
    ends = Ends(*os.pipe())
    wire = Wire(ends, on_data=print, on_lost=print)
    wire.close()
    others = Ends(*os.pipe())
    assert others == ends
    wire.send(b"head", b"payload")
    wire.send(b"head", b"payload", last=True)
    assert unread(others.reader) == 0
    others.close()

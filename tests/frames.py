"""Whole frames as they go into a pipe."""

from fifo.frame import Frame, header


def encode(frame: Frame) -> bytes:
    """Return the header and the payload."""
    return header(frame.type, frame.epoch, frame.request_id, frame.payload) + frame.payload

"""What the gate lets through, frame by frame; nothing is decoded here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.server.host import frames
from tenantry.server.host.frames import Flood, FrameGate

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PING, SETTINGS, PRIORITY, WINDOW_UPDATE, UNKNOWN = 0x6, 0x4, 0x2, 0x8, 0xFA
LIMIT = 16 * 1024


def frame(kind: int, length: int = 0, flags: int = 0, stream: int = 1) -> bytes:
    return length.to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + b"x" * length


def gate() -> FrameGate:
    made = FrameGate(header_bytes=LIMIT)
    made.feed(PREFACE, 0.0)
    return made


def let_through(of: bytes, most: int, *, every_s: float = 0.0) -> int:
    made = gate()
    for count in range(most):
        try:
            made.feed(of, count * every_s)
        except Flood:
            return count
    return most


@pytest.mark.parametrize("kind", [PING, SETTINGS, PRIORITY, WINDOW_UPDATE, UNKNOWN, frames.DATA])
def test_frames_without_a_use_are_let_through_to_a_number(kind):
    assert let_through(frame(kind, 8), 2 * frames.CONTROLS) == frames.CONTROLS


def test_resets_are_let_through_to_a_smaller_number_however_many_requests_go_with_them():
    request = frame(frames.HEADERS, 20, flags=0x5)
    assert let_through(request + frame(frames.RST_STREAM, 4), 2 * frames.RESETS) == frames.RESETS


def test_a_client_that_keeps_to_the_pace_is_never_stopped():
    assert let_through(frame(PING, 8), 5000, every_s=1 / frames.CONTROLS_PER_S) == 5000
    assert let_through(frame(frames.RST_STREAM, 4), 1000, every_s=1 / frames.RESETS_PER_S) == 1000


def test_requests_with_their_windows_and_data_of_some_size_are_never_stopped():
    request = frame(frames.HEADERS, 200, flags=0x4) + frame(frames.DATA, 0, flags=frames.END_STREAM)
    assert let_through(request + frame(WINDOW_UPDATE, 4) * 2, 5000) == 5000
    assert let_through(frame(frames.DATA, frames.SMALL_DATA_BYTES), 5000) == 5000


def test_a_header_block_ends_at_its_limit_in_however_many_frames():
    made = gate()
    made.feed(frame(frames.HEADERS, LIMIT), 0.0)
    made.feed(frame(frames.HEADERS, LIMIT), 0.0)  # the next request's own
    with pytest.raises(Flood, match="header block"):
        made.feed(frame(frames.CONTINUATION, 1), 0.0)


def test_continuations_without_a_byte_are_let_through_to_a_number():
    made = gate()
    made.feed(frame(frames.HEADERS, 1), 0.0)
    with pytest.raises(Flood, match="without a use"):
        made.feed(frame(frames.CONTINUATION, 0) * (frames.CONTROLS + 1), 0.0)


def test_resets_that_were_provoked_count():
    made = gate()
    for _ in range(frames.RESETS):
        made.count_reset(0.0)
    with pytest.raises(Flood):
        made.feed(frame(frames.RST_STREAM, 4), 0.0)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(0, 30))
def test_it_makes_no_difference_in_what_pieces_the_bytes_come(cuts, more):
    data = PREFACE + (frame(frames.DATA, 3) + frame(PING, 8)) * 500 + frame(PING, 8) * more
    made = FrameGate(header_bytes=LIMIT)
    for cut in cuts:
        piece, data = data[:cut], data[cut:]
        made.feed(piece, 0.0)
    if more:
        with pytest.raises(Flood):
            made.feed(data, 0.0)
    else:
        made.feed(data, 0.0)

"""HTTP/2 frames counted before any work is done for them: what costs a peer nothing must not cost us much.

Only the nine octets before each frame are looked at (RFC 9113 section 4.1). Section 10.5 names most of what is
bounded here: streams that are reset as soon as they begin, header blocks without end, and floods of settings, pings,
priorities, windows and empty data.
"""

PREFACE_BYTES = 24
HEAD_BYTES = 9
DATA, HEADERS, RST_STREAM, CONTINUATION = 0x0, 0x1, 0x3, 0x9
END_STREAM = 0x1
# A client that changes its mind now and then stays far below; each reset may leave a call running behind it.
RESETS, RESETS_PER_S = 100, 10.0
# Each costs some 20 us; a client that reads big answers needs a few a request.
CONTROLS, CONTROLS_PER_S, CONTROLS_PER_REQUEST = 1000, 100.0, 2.0
SMALL_DATA_BYTES = 64


class Flood(Exception):
    """The peer sends more of something than any use has for it (RFC 9113 section 7, ENHANCE_YOUR_CALM)."""


class Allowance:
    """A number that is used up by ones and comes back with time, up to where it began; times in seconds."""

    def __init__(self, most: float, per_s: float) -> None:
        self._most = most
        self._per_s = per_s
        self._left = most
        self._at = 0.0

    def take(self, now: float, what: str) -> None:
        """Use one; raises `Flood` where none is left."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            raise Flood(what)
        self._left -= 1

    def give(self, amount: float) -> None:
        """Put some back."""
        self._left = min(self._most, self._left + amount)


class FrameGate:
    """Judges the frames of one connection as their bytes come, in whatever pieces."""

    def __init__(self, *, header_bytes: int) -> None:
        self._header_bytes = header_bytes
        self._skip = PREFACE_BYTES
        self._head = bytearray()
        self._block = 0
        self._resets = Allowance(RESETS, RESETS_PER_S)
        self._controls = Allowance(CONTROLS, CONTROLS_PER_S)

    def feed(self, data: bytes, now: float) -> None:
        """Look at the next bytes; raises `Flood` as soon as a bound is passed, and then the connection is to end."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            missing = HEAD_BYTES - len(self._head)
            self._head += data[at : at + missing]
            at += missing
            if len(self._head) == HEAD_BYTES:
                self._skip = int.from_bytes(self._head[:3])
                self._judge(self._head[3], self._head[4], self._skip, now)
                self._head.clear()

    def count_reset(self, now: float) -> None:
        """Count a stream that we had to reset: provoking that is as cheap as resetting."""
        self._resets.take(now, "streams reset")

    def _judge(self, kind: int, flags: int, length: int, now: float) -> None:
        if kind == HEADERS:
            self._block = 0
            self._controls.give(CONTROLS_PER_REQUEST)
        elif kind == RST_STREAM:
            self._resets.take(now, "streams reset")
        elif kind != DATA or (length < SMALL_DATA_BYTES and not flags & END_STREAM):
            self._controls.take(now, "frames without a use")
        if kind in (HEADERS, CONTINUATION):
            self._block += length
            if self._block > self._header_bytes:
                raise Flood("a header block too long")

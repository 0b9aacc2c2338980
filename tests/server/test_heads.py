"""A head is known again only where h11 would make the same of it."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.server.asgi import Fields
from tenantry.server.host import heads
from tenantry.server.host.heads import Head

FIELDS = (
    b"Host: h\r\nAuthorization: Bearer abc\r\n",
    b"Content-Length: 4\r\n",
    b"Content-Type: application/json\r\nX-Content-Length: 9\r\n",
)
PACKET = b"POST /mcp?a=b HTTP/1.1\r\n" + b"".join(FIELDS) + b"\r\nbody"


def read(packet: bytes) -> tuple[h11.Request, bytes] | None:
    """What h11 makes of a packet that is one request and nothing else; None where it is anything but that."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(packet)
    try:
        request = connection.next_event()
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError:
        return None
    whole = isinstance(request, h11.Request) and isinstance(event, h11.EndOfMessage)
    return (request, body) if whole and not connection.trailing_data[0] else None  # type: ignore[return-value]


def known(packet: bytes = PACKET) -> Head | None:
    found = read(packet)
    return (
        None
        if found is None
        else Head.of(packet, found[1], list(found[0].headers), {"method": found[0].method.decode()})
    )


def but_for_the_length(request: h11.Request) -> tuple[bytes, bytes, bytes, Fields]:
    fields = [field for field in request.headers if field[0] != b"content-length"]
    return request.method, request.target, request.http_version, fields


@pytest.mark.parametrize(
    ("packet", "body"),
    [
        (PACKET, b"body"),
        (PACKET[:-4] + b"four", b"four"),
        (PACKET.replace(b": 4", b": 11")[:-4] + b"longer body", b"longer body"),
        (PACKET.replace(b": 4", b": 0")[:-4], b""),
        (PACKET.replace(b": 4", b": 0004"), b"body"),
        (PACKET[:-1], None),
        (PACKET + b"x", None),
        (PACKET + PACKET, None),
        (PACKET.replace(b"abc", b"abd"), None),
        (PACKET.replace(b"abc", b"abcd"), None),
        (PACKET.replace(b"json", b"jsoN"), None),
        (PACKET.replace(b"/mcp", b"/mcq"), None),
        (PACKET.replace(b": 4", b":  4"), None),
        (PACKET.replace(b": 4", b": +4"), None),
        (PACKET.replace(b": 4", b": 4 "), None),
        (PACKET.replace(b": 4", b": "), None),
        (PACKET.replace(b": 4", b": 4, 4"), None),
        (PACKET.replace(b": 4", b": 4\r\nTransfer-Encoding: chunked"), None),
        (PACKET.replace(b": 4", b": 0000000004"), None),
        (b"", None),
    ],
)
def test_only_the_digits_of_the_length_may_differ(packet, body):
    head = known()
    assert head is not None
    assert head.body(packet) == body


@pytest.mark.parametrize(
    "packet",
    [
        b"GET /mcp HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        PACKET.replace(b"\r\n", b"\n"),
        PACKET.replace(b"Content-Length: 4", b"Content-Length:\t4"),
        PACKET.replace(b"Content-Length: 4", b"Content-Length: 4, 4"),
        PACKET.replace(b"Content-Length: 4", b"Content-Length: 4\r\nContent-Length: 4"),
        PACKET.replace(b"Content-Length: 4", b"X: y\nContent-Length: 4\r\nContent-Length: 4"),
        PACKET.replace(b"Content-Length: 4", b"Content-Length: 0000000004"),
        PACKET.replace(b"abc", b"abc\r\n folded"),
    ],
)
def test_what_is_framed_otherwise_is_read_every_time(packet):
    head = known(packet)
    assert head is None or packet.count(b"folded")
    if head is not None:
        assert head.body(packet) == b"body"


PUT = [b"", b"4", b"\r\n", b"\n", b" ", b":", b"x", *FIELDS]
MUTATIONS = st.lists(st.tuples(st.integers(0, len(PACKET)), st.integers(0, 3), st.sampled_from(PUT)), max_size=3)


@given(MUTATIONS, MUTATIONS)
def test_whatever_comes_is_known_only_as_h11_reads_it(first, second):
    remembered, packet = mutated(first), mutated(second)
    head = known(remembered)
    body = None if head is None else head.body(packet)
    if body is not None:
        before, after = read(remembered), read(packet)
        assert before is not None
        assert after is not None
        assert after[1] == body
        assert but_for_the_length(after[0]) == but_for_the_length(before[0])


def mutated(mutations: list[tuple[int, int, bytes]]) -> bytes:
    packet = PACKET
    for place, cut, put in mutations:
        packet = packet[:place] + put + packet[place + cut :]
    return packet


@given(
    st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    st.lists(st.tuples(st.sampled_from([b"content-type", b"X-Case", b"date", b"www-authenticate"]), st.just(b"v, w"))),
    st.integers(0, 10**6),
)
def test_the_head_of_an_answer_is_written_as_h11_writes_it(status, fields, length):
    all_fields = (*fields, (b"content-length", b"%d" % length))
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(PACKET)
    connection.next_event()
    head = heads.of_answer(status, all_fields)
    assert head.length == length
    assert head.written == connection.send(h11.Response(status_code=status, headers=list(all_fields)))


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"\0"])
def test_a_field_that_would_break_the_head_is_refused(value):
    with pytest.raises(h11.LocalProtocolError):
        heads.of_answer(200, ((b"x", value),))

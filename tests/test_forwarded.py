import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.forwarded import Contradiction, Proxies, Sender, network

PROXIES = Proxies((network("10.0.0.0/8"), network("192.0.2.7"), network("2001:db8:a::/48")))


def sender(peer: str, scheme: str = "http", **fields: str) -> Sender:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return PROXIES.sender(peer, scheme, named.get)


@given(forwarded=st.text(), hops=st.text(), proto=st.text())
def test_a_stranger_is_taken_for_nobody_else_whatever_it_writes(forwarded, hops, proto):
    said = {"forwarded": forwarded, "x_forwarded_for": hops, "x_forwarded_proto": proto}
    assert sender("198.51.100.1", **said) == Sender(address="198.51.100.1", scheme="http")


def test_without_proxies_loopback_is_a_stranger_too():
    nobody = Proxies()
    assert nobody.sender("127.0.0.1", "http", {"x-forwarded-for": "192.0.2.1"}.get).address == "127.0.0.1"


@pytest.mark.parametrize(
    ("hops", "wanted"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("203.0.113.66, 203.0.113.5", "203.0.113.5"),  # what the client wrote itself stands before it
        ("203.0.113.5, 10.1.1.1, 192.0.2.7", "203.0.113.5"),
        ("10.1.1.9, 10.1.1.1", "10.1.1.9"),  # a client among the proxies
        ("203.0.113.5:4711", "203.0.113.5"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("203.0.113.5, nonsense", "10.0.0.1"),
        ("203.0.113.5, unknown, 10.1.1.1", "10.1.1.1"),
        ("", "10.0.0.1"),
        (",", "10.0.0.1"),
    ],
)
def test_the_last_address_that_is_no_proxys_is_the_client(hops, wanted):
    assert sender("10.0.0.1", x_forwarded_for=hops).address == wanted


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("for=203.0.113.5", "203.0.113.5"),
        ('For="[2001:db8::1]:4711";by=10.0.0.1', "2001:db8::1"),
        ("for=203.0.113.66, for=203.0.113.5;proto=https, for=10.1.1.1", "203.0.113.5"),
        ("for=_hidden, for=10.1.1.1", "10.1.1.1"),
        ("for=unknown", "10.0.0.1"),
        ("by=10.0.0.9", "10.0.0.1"),
    ],
)
def test_forwarded_names_the_client_alike(field, wanted):
    assert sender("10.0.0.1", forwarded=field).address == wanted


def test_two_fields_that_name_different_clients_are_a_contradiction_and_two_that_agree_are_not():
    with pytest.raises(Contradiction):
        sender("10.0.0.1", forwarded="for=203.0.113.66", x_forwarded_for="203.0.113.5")
    assert sender("10.0.0.1", forwarded="for=203.0.113.5", x_forwarded_for="203.0.113.5").address == "203.0.113.5"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"x_forwarded_proto": "https"}, "https"),
        ({"x_forwarded_proto": "http, HTTPS"}, "https"),
        ({"x_forwarded_proto": "javascript"}, "http"),
        ({"forwarded": "for=203.0.113.5;proto=https"}, "https"),
        ({"forwarded": 'proto=http, proto="https"'}, "https"),
        ({}, "http"),
    ],
)
def test_the_nearest_proxy_says_by_what_scheme_it_was_reached(fields, wanted):
    assert sender("10.0.0.1", **fields).scheme == wanted


def test_an_ipv4_proxy_is_known_over_an_ipv6_socket_too():
    assert sender("::ffff:10.0.0.1", x_forwarded_for="203.0.113.5").address == "203.0.113.5"
    assert sender("::ffff:198.51.100.1", x_forwarded_for="203.0.113.5").address == "198.51.100.1"
    assert PROXIES.trusts("2001:db8:a::1%eth0")
    assert not PROXIES.trusts("")


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "proxy.example.com", ""])
def test_everybody_and_nonsense_are_no_network(text):
    with pytest.raises(ValueError, match=r".+"):
        network(text)

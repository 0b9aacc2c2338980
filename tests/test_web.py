import pytest

from tenantry import web
from tenantry.web import Headers, HttpError, Request, Sites


def request(**headers: str) -> Request:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request(method="POST", path="/mcp", query="", headers=Headers(fields), scheme="http", peer="127.0.0.1")


@pytest.mark.parametrize(
    ("header", "wanted", "admitted"),
    [
        (None, "text/event-stream", True),
        ("*/*", "text/event-stream", True),
        ("application/json, text/event-stream", "text/event-stream", True),
        ("application/json", "text/event-stream", False),
        ("text/*;q=0.5", "text/event-stream", True),
        ("text/event-stream;q=0, */*", "text/event-stream", False),
        ("text/event-stream;q=0.000", "text/event-stream", False),
        ("*/*;q=0, text/event-stream", "text/event-stream", True),
        ("TEXT/Event-Stream", "text/event-stream", True),
        ("", "text/event-stream", False),
        ("text/event-streams", "text/event-stream", False),
    ],
)
def test_accept_is_judged_by_its_most_specific_item(header, wanted, admitted):
    assert web.accepts(header, wanted) is admitted


@pytest.mark.parametrize(
    "value", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_in_utf8_is_json(value):
    web.require_content_type(request(content_type=value), "application/json")


@pytest.mark.parametrize("value", ["text/plain", "", "application/json; charset=utf-16", "application/jsonp"])
def test_another_content_type_is_415(value):
    with pytest.raises(HttpError) as caught:
        web.require_content_type(request(content_type=value), "application/json")
    assert caught.value.status == 415


def test_a_form_is_decoded_and_empty_parameters_are_absent():
    assert web.parse_form("a=1&b=&c=%E2%82%AC+x") == {"a": "1", "c": "€ x"}


@pytest.mark.parametrize("form", ["a=1&a=1", "a=&a=1", "a=%ff", "&".join(f"a{number}=1" for number in range(65))])
def test_a_form_that_two_readers_could_read_differently_is_refused(form):
    with pytest.raises(HttpError) as caught:
        web.parse_form(form)
    assert caught.value.status == 400


def test_the_first_of_two_cookies_counts():
    assert web.parse_cookies("a=1; b=2; a=3; junk") == {"a": "1", "b": "2"}


SITES = Sites.of("https://mcp.example.com", "http://localhost:3000")


@pytest.mark.parametrize("host", ["mcp.example.com", "MCP.example.com", "mcp.example.com:443", "localhost:3000"])
def test_our_own_hosts_pass(host):
    SITES.check(request(host=host))


@pytest.mark.parametrize(
    "host", ["evil.tld", "localhost", "localhost:3001", "localhost:3000.evil.tld", "mcp.example.com:80", ""]
)
def test_a_foreign_host_is_403(host):
    with pytest.raises(HttpError) as caught:
        SITES.check(request(host=host))
    assert caught.value.status == 403


def test_a_request_without_host_is_403():
    with pytest.raises(HttpError):
        SITES.check(request())


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.tld",
        "http://mcp.example.com",
        "https://localhost:3000",
        "https://mcp.example.com:8443",
        "https://evil-mcp.example.com",
        "https://mcp.example.com.evil.tld",
        "",
    ],
)
def test_a_foreign_origin_is_403(origin):
    with pytest.raises(HttpError) as caught:
        SITES.check(request(host="mcp.example.com", origin=origin))
    assert caught.value.status == 403


def test_our_own_origin_passes():
    SITES.check(request(host="mcp.example.com", origin="https://mcp.example.com"))


def test_a_challenge_can_not_be_broken_out_of():
    value = web.bearer_challenge(scope='a" b\\c\r\nSet-Cookie: x')

    assert value == 'Bearer scope="a\\" b\\\\c??Set-Cookie: x"'


@pytest.mark.parametrize("name", ["authorization", "host", "mcp-name", "mcp-param-region"])
def test_a_doubled_single_valued_header_is_found(name):
    assert Headers([(name, "a"), (name, "a")]).first_double() == name


def test_a_header_that_may_be_listed_is_joined():
    headers = Headers([("accept", "a"), ("accept", "b")])

    assert headers.first_double() is None
    assert headers.get("accept") == "a, b"
    assert headers.all("accept") == ["a", "b"]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:aaaa::1", "2001:db8:0:1::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_a_network_is_what_one_subscriber_holds(peer, expected):
    assert web.network(peer) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_neighbours_in_ipv4_can_be_taken_together(peer: str, expected: str):
    assert web.network(peer, ipv4_bits=24) == expected

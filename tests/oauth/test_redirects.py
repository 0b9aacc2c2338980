"""Which redirect URIs may be registered, and when two are the same."""

import pytest

from tenantry.oauth import redirects


@pytest.mark.parametrize(
    "uri",
    [
        "https://client.example/callback",
        "https://client.example:8443/callback?fixed=1",
        "https://127.0.0.1/callback",
        "http://localhost/callback",
        "http://localhost:1234",
        "http://127.0.0.1:65535/callback",
        "http://[::1]:1/callback",
    ],
)
def test_https_and_loopback_can_be_registered(uri: str):
    assert redirects.problem_with(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "callback",
        "/callback",
        "//client.example/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "com.example.app:/callback",
        "cursor://callback",
        "http://client.example/callback",
        "http://localhost.evil.example/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://127.1/callback",
        "http://0x7f.1/callback",
        "http://0.0.0.0/callback",
        "http://LOCALHOST/callback",
        "http://localhost:0/callback",
        "http://localhost:65536/callback",
        "http://localhost@evil.example/callback",
        "http://user@localhost/callback",
        "https://user:password@client.example/callback",
        "https://client.example/callback#fragment",
        "https://*.example/callback",
        "https:///callback",
        "https://client.example:port/callback",
        "https://client.example\\@evil.example/callback",
        "https://client.example/call back",
        "https://client.example/callback\n",
        "https://clïent.example/callback",
        "https://client.example/" + "x" * 2048,
    ],
)
def test_everything_else_can_not(uri: str):
    assert redirects.problem_with(uri) is not None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_on_loopback_the_port_does_not_count(host: str):
    assert redirects.equal(f"http://{host}:1234/callback", f"http://{host}/callback")
    assert redirects.equal(f"http://{host}/callback", f"http://{host}:80/callback")
    assert redirects.equal(f"http://{host}:1/callback?x=1", f"http://{host}:2/callback?x=1")


@pytest.mark.parametrize(
    ("requested", "registered"),
    [
        ("http://localhost/callback", "http://127.0.0.1/callback"),
        ("http://127.0.0.1/callback", "http://[::1]/callback"),
        ("http://localhost/callback/", "http://localhost/callback"),
        ("http://localhost/Callback", "http://localhost/callback"),
        ("http://localhost/callback?x=1", "http://localhost/callback"),
        ("http://localhost/a/../callback", "http://localhost/callback"),
        ("http://localhost/%63allback", "http://localhost/callback"),
        ("https://localhost:1/callback", "https://localhost/callback"),
        ("http://localhost:99999/callback", "http://localhost/callback"),
        ("http://localhost:1@evil.example/callback", "http://localhost/callback"),
        ("https://client.example:8443/callback", "https://client.example/callback"),
        ("https://client.example/callback#x", "https://client.example/callback"),
        ("https://CLIENT.example/callback", "https://client.example/callback"),
    ],
)
def test_all_else_counts_to_the_letter(requested: str, registered: str):
    assert not redirects.equal(requested, registered)
    assert redirects.equal(registered, registered)


def test_forms_may_lead_to_the_origin_of_the_redirect_uri():
    assert redirects.form_source("https://client.example/callback") == "https://client.example"
    assert redirects.form_source("http://localhost:1234/callback") == "http://localhost:1234"
    assert redirects.form_source("http://[::1]:1234/callback") == "http:"


PRIVATE = "com.example.app:/callback"


def test_a_private_scheme_is_taken_where_the_operator_names_it_and_exactly():
    assert redirects.problem_with(PRIVATE)
    assert redirects.problem_with(PRIVATE, private_schemes=["com.example.other"])
    assert redirects.problem_with(PRIVATE, private_schemes=["com.example.app"]) is None
    assert redirects.problem_with("cursor://any.where/cb", private_schemes=["cursor"]) is None
    for uri in ("cursor:/a#b", "cursor:/a b", "Cursor:/a", "cursors:/a", "javascript:cursor:/a"):
        assert redirects.problem_with(uri, private_schemes=["cursor"]), uri
    assert redirects.equal(PRIVATE, PRIVATE)
    assert not redirects.equal("com.example.app:/callback/", PRIVATE)
    assert not redirects.equal("cursor://a:1/cb", "cursor://a:2/cb")


def test_a_private_scheme_leads_to_this_machine_and_is_shown_as_what_it_is():
    assert redirects.is_local(PRIVATE)
    assert redirects.is_local("http://localhost/cb")
    assert not redirects.is_local("https://app.example/cb")
    assert redirects.host("cursor://app.example/cb") == "cursor:"
    assert redirects.form_source("cursor://app.example/cb") == "cursor:"
    assert redirects.form_source(PRIVATE) == "com.example.app:"

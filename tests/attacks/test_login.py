"""Attacks on the pages for people: framing, forged forms, planted cookies, guessing, and what pages repeat."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import argon2
import pytest

from tests.attacks.forge import parts_of
from tests.attacks.people import Browser, Client, answer_of, forms_of, hidden_value, sign_in
from tests.attacks.speaker import speaker, text_of
from tests.attacks.table import attack
from tests.attacks.target import CONFIG, Target
from tests.attacks.test_bearer import shown
from tests.attacks.wire import Reply, eventually
from tests.running import free_port

WEB = "https://app.example/cb"


def policy_of(page: Reply) -> dict[str, str]:
    """The directives of the one Content-Security-Policy."""
    (field,) = page.all("content-security-policy")
    return {name: values for name, _, values in (part.strip().partition(" ") for part in field.split(";"))}


def pages_of(server: Target) -> dict[str, Reply]:
    """One of every page."""
    client = Client.new(server)
    login = client.browser.get(client.authorization())
    consent = client.consent_page("alice")
    return {
        "login": login,
        "wrong password": client.browser.log_in(Client.new(server).browser.get(client.authorization()), "x"),
        "consent": consent,
        "error": client.browser.get("/authorize?client_id=x"),
        "account": client.browser.get("/account"),
    }


@attack("LOGIN-CONSENT-01")
def test_no_page_can_be_framed(server):
    for name, page in pages_of(server).items():
        assert policy_of(page)["frame-ancestors"] == "'none'", name
        assert page.all("x-frame-options") == ["DENY"], name


def codes(server: Target) -> int:
    ((count,),) = server.stored("SELECT count(*) FROM authorization_code")
    return int(count)


@attack("LOGIN-CONSENT-02")
def test_no_form_is_taken_that_is_not_this_browsers_own(server):
    victim, attacker = Client.new(server), Client.new(server)
    page = victim.consent_page("alice")
    foreign = attacker.consent_page("carol")
    before = codes(server)
    ticks = {name: value for form in forms_of(page).values() for name, value in form.ticks}
    own = hidden_value(page, "sealed")
    for sealed in (hidden_value(foreign, "sealed"), "", own[:-2] + "AA", own[::-1], "x" * 400):
        reply = victim.browser.post("/consent", {"sealed": sealed, "decision": "allow", **ticks})
        assert reply.status == 403, sealed[:20]
    assert victim.browser.post("/consent", {"decision": "allow"}).status == 403
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{server.port}"},  # a site of this machine, and not this one
        {"Origin": None, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert victim.browser.decide(page, **{k.replace("-", "_"): v for k, v in headers.items()}).status == 403, (
            headers
        )
    assert victim.browser.ask("GET", f"/consent?sealed={own}&decision=allow").status == 405
    stranger = Browser(server)  # without the login's cookie
    assert stranger.decide(page).status == 403
    assert codes(server) == before
    assert "code" in answer_of(victim.browser.decide(page))


@attack("LOGIN-CONSENT-03")
def test_nobody_is_logged_in_by_a_form_that_another_browser_was_given(server):
    attacker, victim = Client.new(server), Client.new(server)
    page = attacker.browser.get(attacker.authorization())
    victim.browser.get(victim.authorization())  # has a cookie of its own
    logins = len(server.records("login"))
    for browser in (victim.browser, Browser(server)):
        assert browser.log_in(page, "carol").status == 403
        assert not any("login" in name for name in browser.cookies)
    assert len(server.records("login")) == logins
    assert attacker.browser.log_in(page, "carol").status == 303


@attack("LOGIN-CONSENT-04")
def test_a_planted_login_cookie_is_worth_nothing_after_the_login(server):
    attacker, victim = Client.new(server), Client.new(server)
    attacker.consent_page("carol")
    (name,) = [name for name in attacker.browser.cookies if name.endswith("tenantry_login")]
    planted = attacker.browser.cookies[name]
    victim.browser.cookies[name] = planted
    page = victim.browser.get(victim.authorization(prompt="login"))
    assert victim.browser.log_in(page, "alice").status == 303
    assert victim.browser.cookies[name] != planted
    # The planted one is dead: not the attacker's any more, and never the victim's.
    again = attacker.browser.get(attacker.authorization())
    assert "/login" in forms_of(again)
    for value in ("a" * 43, "random"):
        browser = Browser(server)
        browser.cookies[name] = value
        client = Client(server, victim.client_id)
        client.browser = browser
        assert "/login" in forms_of(browser.get(client.authorization()))
        assert browser.log_in(browser.get(client.authorization()), "alice").status == 303
        assert browser.cookies[name] != value


def attributes_of(reply: Reply) -> list[tuple[str, dict[str, str]]]:
    """Name and attributes of each cookie that is set."""
    found = []
    for line in reply.all("set-cookie"):
        pair, *attributes = [part.strip() for part in line.split(";")]
        named = {key.lower(): value for key, _, value in (part.partition("=") for part in attributes)}
        found.append((pair.partition("=")[0], named))
    return found


@attack("LOGIN-CONSENT-05")
def test_cookies_are_for_this_host_and_for_no_script(start, mode):
    for url in ("", "https://mcp.example.test"):
        server = start(mode, *(["--public-url", url, "--port", str(free_port())] if url else []))
        client = Client.new(server) if not url else secure_client(server, "mcp.example.test")
        page = client.browser.get(client.authorization(resource=None))
        headers = {"Origin": url or server.issuer}
        answer = client.browser.log_in(page, "alice", **headers)
        assert answer.status == 303, answer
        cookies = [*attributes_of(page), *attributes_of(answer)]
        assert len(cookies) >= 2
        for name, attributes in cookies:
            assert "httponly" in attributes, name
            assert attributes["samesite"] in ("Lax", "Strict"), name
            assert attributes["path"] == "/"
            assert "domain" not in attributes
            assert ("secure" in attributes) is bool(url), name
            assert name.startswith("__Host-") is bool(url), name
        server.keep_secret(*client.browser.cookies.values())


def secure_client(server: Target, host: str) -> Client:
    """A client of a server that is reached by https, through a proxy that the test plays."""
    reply = server.ask(
        "POST",
        "/register",
        headers={"Host": host, "Content-Type": "application/json"},
        body=b'{"redirect_uris": ["http://127.0.0.1/callback"]}',
    )
    assert reply.status == 201, reply
    client = Client(server, reply.json["client_id"])
    client.browser.host = host
    return client


@attack("LOGIN-CONSENT-07")
def test_the_decision_is_on_what_was_shown_once_and_soon(server):
    client, other = Client.new(server), Client.new(server, redirect_uris=["https://evil.example/cb"])
    page = client.consent_page("bob", scope="tools:call")
    form = forms_of(page)["/consent"]
    swapped = {
        "client_id": other.client_id,
        "redirect_uri": "https://evil.example/cb",
        "scope": "admin tools:call",
        "state": "other",
        "code_challenge": "A" * 43,
        "tick:admin": "on",
        "user": "alice",
        "tenant": "globex",
    }
    values = {**form.hidden, **dict(form.ticks), **swapped, "decision": "allow"}
    answer = client.browser.post("/consent", values)
    assert (answer.header("location") or "").startswith(client.redirect_uri)
    given = answer_of(answer)
    assert given["state"] == "state-of-the-client"
    server.keep_secret(given["code"])
    tokens = client.tokens(client.redeem(given["code"]))
    assert tokens.scope == "tools:call"
    assert parts_of(tokens.access)[1]["sub"] == "bob"
    before = codes(server)
    assert client.browser.post("/consent", values).status == 403  # the same page a second time
    login = Browser(server).get(client.authorization())
    for sealed in (hidden_value(login, "sealed"), *(f.hidden.get("sealed", "") for f in forms_of(page).values())):
        if sealed != form.hidden["sealed"]:  # sealed by us, and for something else
            assert client.browser.post("/consent", {**values, "sealed": sealed}).status == 403
    page = client.consent_page("bob", scope="tools:call")
    server.shift(10 * 60 + 5)
    assert client.browser.decide(page).status == 403
    server.shift(0)
    assert codes(server) == before
    assert client.browser.get("/consent").status == 405
    assert client.browser.post("/consent", {"decision": "allow", "sealed": ""}).status == 403


@attack("LOGIN-CONSENT-09")
def test_nobody_grants_what_they_do_not_have(server):
    client = Client.new(server)
    page = client.consent_page("bob", scope="tools:call admin")
    assert "admin" not in "".join(name for form in forms_of(page).values() for name, _ in form.ticks)
    form = forms_of(page)["/consent"]
    forged = [*form.hidden.items(), *form.ticks, ("tick:admin", "on"), ("scope", "admin"), ("decision", "allow")]
    answer = client.browser.post("/consent", forged)
    code = answer_of(answer)["code"]
    server.keep_secret(code)
    tokens = client.tokens(client.redeem(code, scope="tools:call admin"))
    assert tokens.scope == parts_of(tokens.access)[1]["scope"] == "tools:call"
    assert (
        "result" not in speaker(server, tokens.access).call("purge").text
        or "Denied" in speaker(server, tokens.access).call("purge").text
    )
    assert server.records("tool_denied", tool="purge", subject="bob", client=client.client_id)
    refused = client.browser.get(client.authorization(scope="admin"))
    assert answer_of(refused)["error"] == "invalid_scope"
    nobody = Client.new(server)
    page = nobody.browser.get(nobody.authorization())
    nobody.browser.log_in(page, "nemo")
    assert answer_of(nobody.browser.get(nobody.authorization(scope=None)))["error"] == "invalid_scope"


def guess(server: Target, user: str, password: str, source: str) -> int:
    """One attempt by a browser that nobody knows."""
    client = Client(server, GUESSERS[server.port])
    client.browser.source = source
    return client.browser.log_in(client.browser.get(client.authorization()), user, password).status


GUESSERS: dict[int, str] = {}


@attack("LOGIN-CONSENT-10")
def test_guessing_ends_soon_and_locks_nobody_out(start, mode, longer):
    server = start(mode)
    victim = sign_in(server, "alice")
    GUESSERS[server.port] = victim.client.client_id
    one_place = [guess(server, "alice", f"wrong-{n}", "127.0.1.1") for n in range(longer(8, 1_000))]
    assert one_place.count(403) == 5
    assert set(one_place[5:]) == {429}
    assert guess(server, "alice", "canary-password-of-alice", "127.0.1.2") == 429  # right, and of the same network
    places = [guess(server, "alice", f"wrong-{n}-{k}", f"127.0.{n}.1") for n in range(2, 8) for k in range(5)]
    assert places.count(403) <= 15  # twenty for a name in all, five of which are spent
    assert 429 in places
    sprayed = [guess(server, f"user{n}", "Summer2026!", "127.9.9.9") for n in range(longer(60, 1_000))]
    assert sprayed.count(403) == 50
    with ThreadPoolExecutor(16) as pool:
        at_once = list(pool.map(lambda n: guess(server, "bob", f"wrong-{n}", "127.0.20.1"), range(24)))
    assert at_once.count(403) <= 5
    # Whoever is guessed at keeps what they have, and gets in by the browser that they have used before.
    assert shown(server, f"Bearer {victim.access}").status == 200
    assert victim.client.refresh(victim.refresh).status == 200
    page = victim.client.browser.get(victim.client.authorization(prompt="login"))
    assert victim.client.browser.log_in(page, "alice").status == 303
    assert sign_in(server, "carol").access
    failed = server.records("login_failed")
    assert len(failed) >= 50
    refused = [guess(server, "alice", f"wrong-{n}", "127.0.1.1") for n in range(120)]
    assert set(refused) == {429}
    alike = server.records("login_throttled", subject="alice", peer="127.0.1.1")
    assert 0 < len(alike) <= 105  # a flood leaves so many and no more: the rest is summed up
    server.shift(61)
    assert guess(server, "alice", "canary-password-of-alice", "127.0.1.1") == 303


def peak_kib(server: Target) -> int:
    """The most memory that the process ever had."""
    status = Path(f"/proc/{server.running.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1])


@attack("LOGIN-CONSENT-12")
def test_passwords_to_be_verified_starve_nobody(start, mode):
    dear = argon2.PasswordHasher(time_cost=1, memory_cost=16 * 1024, parallelism=1)
    long = "p" * 1500
    hashed = dear.hash(long)
    server = start(mode, edit=lambda text: re.sub(r'password_hash = "[^"]+"', f'password_hash = "{hashed}"', text))
    client = Client.new(server)
    page = client.browser.get(client.authorization())
    # Right, but longer than any password may be: it is not even hashed.
    assert client.browser.log_in(page, "alice", long).status == 403
    assert client.browser.log_in(page, "alice", "p" * 1024 * 1024).status in (403, 413)
    browsers = [Browser(server, source=f"127.0.{n}.1") for n in range(1, 101)]
    pages = [browser.get(client.authorization()) for browser in browsers]
    before = peak_kib(server)
    tried = list(zip(browsers, pages, strict=True))
    with ThreadPoolExecutor(101) as pool:
        waiting = pool.map(lambda pair: pair[0].log_in(pair[1], f"user-{pair[0].source}", "wrong"), tried)
        listed = [server.ask("GET", "/jwks").status for _ in range(20)]
        replies = list(waiting)
    assert listed == [200] * 20
    statuses = [reply.status for reply in replies]
    assert set(statuses) == {403, 503}, statuses
    assert all(reply.header("retry-after") for reply in replies if reply.status == 503)
    assert peak_kib(server) - before < 4 * 16 * 1024 + 64 * 1024


class Elements(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.addresses.update(value or "" for name, value in attrs if name in ("href", "src", "action"))


SCRIPTS = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "{{7*7}}${7*7}")


@attack("LOGIN-CONSENT-13")
@pytest.mark.parametrize("script", SCRIPTS)
def test_nothing_that_a_page_repeats_is_more_than_text(server, script):
    client = Client.new(server, client_name=script[:128])
    web = Client.new(server, client_name=script[:128], redirect_uris=[WEB])
    login = client.browser.get(client.authorization(state=script, scope="tools:call"))
    wrong = client.browser.log_in(login, script, "wrong")
    assert wrong.status == 403
    pages = [login, wrong, client.consent_page("alice", state=script)]
    pages.append(client.browser.get("/account"))
    pages.append(web.browser.get(web.authorization(state=script, scope=script, response_type=script)))
    pages.append(web.browser.get(web.authorization(redirect_uri=script)))
    pages.append(web.browser.get(f"/authorize?error_description={script}".replace(" ", "%20")))
    for page in pages:
        if page.status == 303:
            continue
        policy = policy_of(page)
        assert policy["default-src"] == "'none'"
        assert "script-src" not in policy
        assert "unsafe-inline" not in str(policy)
        elements = Elements()
        elements.feed(page.text)
        assert not elements.names & {"script", "img", "iframe", "object", "base", "svg"}
        assert not [name for name in elements.attributes if name.startswith("on")]
        assert not [address for address in elements.addresses if address.startswith("javascript:")]
    assert page_has(pages[2], script)


def page_has(page: Reply, text: str) -> bool:
    """Whether a page shows the text as text."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return any(form in page.text for form in (escaped.replace('"', "&#34;").replace("'", "&#39;"), escaped))


@attack("LOGIN-CONSENT-15")
def test_who_signs_in_is_of_their_own_tenant_whatever_the_request_says(start, mode):
    server = start(mode)
    client = Client.new(server)
    tokens = client.tokens(client.redeem(client.code("carol", tenant="acme", login_hint="alice", domain="acme")))
    assert parts_of(tokens.access)[1]["tenant"] == "globex"
    assert text_of(speaker(server, tokens.access).call("own_secret")) == "canary-document-of-globex"
    mover = Client.new(server)
    page = mover.consent_page("erin")
    config = server.running.data.parent / CONFIG.name
    config.write_text(config.read_text().replace('[users.erin]\ntenant = "acme"', '[users.erin]\ntenant = "globex"'))
    os.kill(server.running.process.pid, signal.SIGHUP)
    # Whoever moved to another tenant is logged out: neither the page nor the cookie counts any more.
    assert eventually(lambda: "/login" in forms_of(mover.browser.get(mover.authorization())))
    assert mover.browser.decide(page).status == 403

"""The pages for people: nobody gets past them, nobody else's page can send them, and guessing is slow."""

import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tenantry import web
from tenantry.server import passwords
from tests.oauth.flow import (
    PASSWORD,
    PEER,
    REDIRECT,
    Browser,
    World,
    authorization_url,
    config,
    error_of,
    forms_of,
    query_of,
)

REMOTE = "https://client.example/callback"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


def text_of(answer: web.Response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", answer.body.decode(), flags=re.DOTALL))


# --- the authorization request ---


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "unknown"},
        {"client_id": None},
        {"redirect_uri": "http://localhost:51000/callback/"},
        {"redirect_uri": "http://127.0.0.1:51000/callback"},
        {"redirect_uri": "https://evil.example/callback"},
    ],
)
async def test_a_bad_client_or_redirect_uri_is_a_page_and_never_a_redirect(world: World, change: dict[str, str | None]):
    client_id = await world.register()
    answer = await world.send("GET", authorization_url(client_id, **change))
    assert answer.status == 400
    assert "location" not in answer.headers
    assert b"evil.example" not in answer.body
    assert "is not registered here" in text_of(answer)


async def test_a_state_that_does_not_fit_into_a_url_is_a_page(world: World):
    client_id = await world.register()
    assert query_of(await world.send("GET", authorization_url(client_id, state="x" * 4096, prompt="none")))
    assert (await world.send("GET", authorization_url(client_id, state="x" * 4097))).status == 400
    assert (await world.send("GET", authorization_url(client_id, state="x" * 9000))).status == 414


async def test_the_port_of_a_loopback_redirect_uri_is_free(world: World):
    client_id = await world.register(redirect_uris=["http://localhost/callback"])
    answer = await Browser(world).consent(authorization_url(client_id, redirect_uri="http://localhost:6789/callback"))
    assert answer.headers["location"].startswith("http://localhost:6789/callback?code=")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"resource": "http://localhost:3000/mcp/"}, "invalid_target"),
        ({"prompt": "none"}, "login_required"),
        ({"prompt": "none login"}, "invalid_request"),
    ],
)
async def test_other_errors_go_back_to_a_program_on_this_machine(
    world: World, change: dict[str, str | None], error: str
):
    answer = await world.send("GET", authorization_url(await world.register(), **change))
    query = query_of(answer)
    assert (query["error"], query["state"], query["iss"]) == (error, "state of the client", world.config.issuer)
    assert answer.headers["location"].startswith(REDIRECT + "?")


async def test_an_error_that_a_link_provokes_takes_nobody_to_another_site(world: World):
    client_id = await world.register(redirect_uris=[REMOTE])
    answer = await world.send("GET", authorization_url(client_id, redirect_uri=REMOTE, response_type="token"))
    assert answer.status == 400
    assert "location" not in answer.headers
    assert f'href="{REMOTE}?error=unsupported_response_type&amp;' in answer.body.decode()


async def test_a_repeated_parameter_is_a_page(world: World):
    url = authorization_url(await world.register()) + "&code_challenge=again"
    answer = await world.send("GET", url)
    assert (answer.status, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")


async def test_who_may_have_none_of_the_scopes_is_sent_back(world: World):
    client_id = await world.register()
    browser = Browser(world)
    answer = await browser.consent_page(authorization_url(client_id, scope="admin"))
    assert query_of(answer)["error"] == "invalid_scope"
    assert query_of(answer)["error_description"] == "this person can't grant admin"
    answer = await Browser(world).consent_page(authorization_url(client_id), user="nobody")
    assert query_of(answer)["error_description"] == "this person can't grant anything here"
    strange = await browser.get(authorization_url(client_id, scope='a"b c\\d \u2028 ' + "x" * 65))
    assert query_of(strange)["error_description"] == "this person can't grant anything here"


# --- pages ---


async def test_the_consent_page_says_who_wants_what_and_where_it_goes(world: World):
    client_id = await world.register(client_name='<b>"Mallory"</b>', redirect_uris=[REMOTE])
    page = await Browser(world).consent_page(authorization_url(client_id, redirect_uri=REMOTE, scope="docs:read"))
    text = text_of(page)
    for words in ("&lt;b&gt;&#34;Mallory&#34;&lt;/b&gt;", "client.example", "alice", "Acme Ltd", "Read documents"):
        assert words in text
    assert "<b>" not in page.body.decode()
    assert "Export reports" not in text


@pytest.mark.parametrize("user", ["alice", "bob"])
async def test_pages_can_be_neither_framed_nor_kept_nor_scripted(world: World, user: str):
    client_id = await world.register()
    browser = Browser(world)
    login_page = await browser.get(authorization_url(client_id))
    consent_page = await browser.consent_page(authorization_url(client_id), user=user)
    error_page = await browser.get("/authorize")
    for page in (login_page, consent_page, error_page):
        policy = page.headers["content-security-policy"]
        nonce = re.search(r"style-src 'nonce-([^']+)'", policy)
        assert nonce is not None
        assert f'<style nonce="{nonce[1]}">' in page.body.decode()
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'; base-uri 'none'" in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert not {name for name in page.headers if name.startswith("access-control")}
        assert b"<script" not in page.body
    for page in (login_page, consent_page):
        assert "form-action 'self' http://localhost:51000;" in page.headers["content-security-policy"]
    assert "form-action 'none';" in error_page.headers["content-security-policy"]


async def test_inputs_are_labelled_and_ready_for_password_managers(world: World):
    page = (await world.send("GET", authorization_url(await world.register()))).body.decode()
    for name, hint in (("username", "username"), ("password", "current-password")):
        assert f'<label for="{name}">' in page
        assert re.search(rf'<input id="{name}" [^>]*autocomplete="{hint}"', page)
    assert page.count("autofocus") == 1


# --- logging in ---


async def test_a_wrong_password_and_an_unknown_user_read_the_same(world: World):
    url = authorization_url(await world.register())
    wrong = await Browser(world).log_in(url, password="wrong")
    unknown = await Browser(world).log_in(url, user="mallory", password="wrong")
    assert wrong.status == unknown.status == 403
    assert text_of(wrong) == text_of(unknown)
    assert "tenantry_login" not in "".join(wrong.cookies + unknown.cookies)
    failed = [row for row in world.audit.rows if row["kind"] == "login_failed"]
    assert [row.get("subject") for row in failed] == ["alice", None]


async def test_a_password_of_more_than_a_kibibyte_is_wrong(world: World):
    answer = await Browser(world).log_in(authorization_url(await world.register()), password="x" * 1025)
    assert answer.status == 403


async def test_the_right_password_leads_back_by_303_with_a_new_login_session(world: World):
    browser = Browser(world)
    browser.cookies["tenantry_login"] = "planted-by-somebody-else"
    url = authorization_url(await world.register())
    answer = await browser.log_in(url)
    assert answer.status == 303
    assert answer.headers["location"].startswith("/authorize?")
    first = browser.cookies["tenantry_login"]
    assert first != "planted-by-somebody-else"
    await browser.log_in(authorization_url(await world.register(), prompt="login"))
    assert browser.cookies["tenantry_login"] != first
    browser.cookies["tenantry_login"] = first
    assert b'name="password"' in (await browser.get(url)).body, "the old login session lives on"


async def test_cookies_are_bound_to_host_and_https(tmp_path: Path):
    for secure, prefix in ((False, ""), (True, "__Host-")):
        issuer = "https://mcp.example.com" if secure else "http://localhost:3000"
        world = World(tmp_path / f"{secure}.db", config(public_url=issuer))
        url = authorization_url(await world.register(), resource=f"{issuer}/mcp")
        browser = Browser(world)
        cookies = [*(await browser.get(url)).cookies, *(await browser.log_in(url)).cookies]
        assert [cookie.partition("=")[0] for cookie in cookies] == [
            f"{prefix}tenantry_{name}" for name in ("browser", "login", "known")
        ]
        for cookie in cookies:
            assert "; Path=/; HttpOnly; SameSite=Lax" in cookie
            assert cookie.endswith("; Secure") is secure
            assert "domain" not in cookie.lower()
        world.store.close()


async def test_prompt_login_asks_once_more_and_not_for_ever(world: World):
    client_id = await world.register()
    browser = Browser(world)
    await browser.log_in(authorization_url(client_id))
    url = authorization_url(client_id, prompt="login consent")
    assert b'name="password"' in (await browser.get(url)).body
    answer = await browser.log_in(url)
    assert b'name="decision"' in (await browser.get(answer.headers["location"])).body


async def test_who_was_taken_out_of_the_configuration_is_logged_out(world: World):
    url = authorization_url(await world.register())
    browser = Browser(world)
    await browser.log_in(url)
    people = {name: user for name, user in world.config.users.items() if name != "alice"}
    world.config = world.config.model_copy(update={"users": people})
    assert b'name="password"' in (await browser.get(url)).body


async def test_a_login_session_ends(world: World):
    url = authorization_url(await world.register())
    browser = Browser(world)
    await browser.log_in(url)
    world.now += world.config.lifetimes.login_session_s
    assert b'name="password"' in (await browser.get(url)).body


async def test_another_account_can_be_chosen(world: World):
    url = authorization_url(await world.register())
    browser = Browser(world)
    page = await browser.consent_page(url)
    old = browser.cookies["tenantry_login"]
    switch = forms_of(page)[1]
    answer = await browser.post(switch.action, switch.fields)
    assert answer.status == 303
    assert world.audit.rows[-1]["kind"] == "logout"
    assert world.audit.rows[-1]["subject"] == "alice"
    browser.cookies["tenantry_login"] = old
    page = await browser.get(answer.headers["location"])
    assert b'name="password"' in page.body, "the login session lives on"


# --- guessing ---


ELSEWHERE = "198.51.100.9"


async def guesses(world: World, url: str, count: int, *, user: str = "alice", peer: str = PEER) -> list[int]:
    """The statuses of so many wrong passwords, each from a browser without a past."""
    return [(await Browser(world, peer=peer).log_in(url, user=user, password="wrong")).status for _ in range(count)]


@pytest.mark.parametrize(
    ("peer", "neighbour"),
    [(PEER, "192.0.2.200"), (f"::ffff:{PEER}", PEER), ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9")],
)
async def test_failures_slow_one_name_down_and_nobody_else_at_that_network(world: World, peer: str, neighbour: str):
    url = authorization_url(await world.register())
    assert await guesses(world, url, world.config.limits.failed_logins, peer=peer) == [403] * 5
    refused = await Browser(world, peer=neighbour).log_in(url)
    assert (refused.status, refused.headers["retry-after"]) == (429, "61")
    assert (await Browser(world, peer=peer).log_in(url, user="bob")).status == 303
    assert (await Browser(world, peer=ELSEWHERE).log_in(url)).status == 303
    world.now += world.config.limits.failed_logins_window_s
    assert (await Browser(world, peer=peer).log_in(url)).status == 303


async def test_one_name_is_slowed_down_over_all_networks(world: World):
    url = authorization_url(await world.register())
    for number in range(4):
        assert await guesses(world, url, 5, peer=f"198.51.{number}.1") == [403] * 5
    assert await guesses(world, url, 1, peer="198.51.99.1") == [429]
    assert await guesses(world, url, 1, user="bob", peer="198.51.99.1") == [403]


async def test_a_browser_that_the_person_logged_in_with_before_is_not_locked_out(world: World):
    url = authorization_url(await world.register())
    browser = Browser(world)
    await browser.log_in(url)
    again = authorization_url(await world.register(), prompt="login")
    assert await guesses(world, url, 6) == [403] * 5 + [429]
    assert (await browser.log_in(again, password="wrong")).status == 403
    assert (await browser.log_in(again)).status == 303
    # It may fail no more often than others.
    statuses = [(await browser.log_in(again, password="wrong")).status for _ in range(6)]
    assert statuses == [403] * 5 + [429]


async def test_who_floods_a_network_does_not_lock_out_the_browsers_known_there(tmp_path: Path):
    world = World(tmp_path / "state.db", config(limits={"failed_logins": 1}))
    url = authorization_url(await world.register())
    browser = Browser(world)
    await browser.log_in(url)
    for number in range(10):
        await guesses(world, url, 1, user=f"user{number}")
    assert await guesses(world, url, 1, user="bob") == [429]
    assert (await browser.log_in(authorization_url(await world.register(), prompt="login"))).status == 303
    world.store.close()


@pytest.mark.parametrize("forged", ["x" * 43, "name" + "x" * 43, "name", "x" * 500])
async def test_a_forged_or_foreign_known_browser_is_a_stranger(world: World, forged: str):
    url = authorization_url(await world.register())
    bobs = Browser(world)
    await bobs.log_in(url, user="bob")
    await guesses(world, url, 5)
    for cookie in (forged, bobs.cookies["tenantry_known"]):
        stranger = Browser(world)
        stranger.cookies["tenantry_known"] = cookie
        assert (await stranger.log_in(url)).status == 429


async def test_refusals_are_on_record_alike_by_network_and_name_nobody_unknown(world: World):
    url = authorization_url(await world.register())
    await guesses(world, url, 7)
    await guesses(world, url, 6, user="hunter2-typed-in-the-wrong-field", peer=ELSEWHERE)
    throttled = [row for row in world.audit.rows if row["kind"] == "login_throttled"]
    assert [(row.get("subject"), row["peer"]) for row in throttled] == [("alice", PEER)] * 2 + [(None, ELSEWHERE)]
    reason = {"reason": "login_throttled"}
    alices = {**reason, "peer": "192.0.2.0/24", "subject": "alice"}
    assert world.audit.alike == [alices, alices, {**reason, "peer": "198.51.100.0/24"}]


async def test_failures_at_once_count_like_failures_in_a_row(world: World):
    url = authorization_url(await world.register())
    statuses: list[int] = []

    async def guess() -> None:
        statuses.append((await Browser(world).log_in(url, password="wrong")).status)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(guess)
    assert sorted(statuses) == [403] * world.config.limits.failed_logins + [429] * 15


async def test_one_address_that_tries_many_names_is_slowed_down(tmp_path: Path):
    world = World(tmp_path / "state.db", config(limits={"failed_logins": 1}))
    url = authorization_url(await world.register())
    statuses = [
        (await Browser(world).log_in(url, user=f"user{number}", password="wrong")).status for number in range(11)
    ]
    assert statuses == [403] * 10 + [429]
    world.store.close()


async def test_where_too_many_passwords_wait_the_next_is_told_when_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(passwords, "AT_ONCE", 1)
    monkeypatch.setattr(passwords, "WAITING_MAX", 1)
    world.restart()
    url = authorization_url(await world.register())
    verified, under_way = threading.Event(), threading.Semaphore(0)

    def slowly(*_: object) -> bool:
        under_way.release()
        return verified.wait(10)

    monkeypatch.setattr(passwords, "_matches", slowly)
    async with trio.open_nursery() as nursery:
        for user in ("alice", "bob"):
            browser = Browser(world)
            await browser.get(url)
            nursery.start_soon(partial(browser.log_in, url, user=user))
        await trio.to_thread.run_sync(under_way.acquire)
        await trio.testing.wait_all_tasks_blocked()
        refused = await Browser(world).log_in(url, user="nobody")
        verified.set()
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert "Too many people are logging in. Wait a moment" in text_of(refused)
    assert world.audit.kinds().count("login") == 2


async def test_good_logins_are_not_counted(world: World):
    url = authorization_url(await world.register())
    statuses = {(await Browser(world).log_in(url)).status for _ in range(world.config.limits.failed_logins * 11)}
    assert statuses == {303}


# --- forged forms ---


async def test_forms_of_other_sites_are_refused(world: World):
    browser = Browser(world)
    page = await browser.consent_page(authorization_url(await world.register()))
    form = forms_of(page)[0]
    sent = {**form.fields, "decision": "allow"}
    neighbour = "http://127.0.0.1:3000"  # a name of this server, but not the one that this page has
    for headers in (
        *({"origin": origin} for origin in ("https://evil.example", "null", neighbour)),
        *({"sec-fetch-site": site} for site in ("cross-site", "same-site")),
    ):
        assert (await browser.post("/consent", sent, headers=headers)).status == 403
    assert (await browser.post("/consent", sent)).status == 303


async def test_a_login_form_is_bound_to_the_browser_that_opened_it(world: World):
    url = authorization_url(await world.register())
    attacker, victim = Browser(world), Browser(world)
    (form,) = forms_of(await attacker.get(url))
    await victim.get(url)
    answer = await victim.post("/login", {**form.fields, "username": "alice", "password": PASSWORD})
    assert answer.status == 403
    without_cookie = await Browser(world).post("/login", {**form.fields, "username": "alice", "password": PASSWORD})
    assert without_cookie.status == 403
    assert "login" not in world.audit.kinds()


@pytest.mark.parametrize("path", ["/login", "/consent", "/logout"])
@pytest.mark.parametrize("sealed", ["", "nonsense", "gAAAAA" + "A" * 100, "ä"])
async def test_a_form_without_our_seal_is_refused(world: World, path: str, sealed: str):
    browser = Browser(world)
    await browser.consent_page(authorization_url(await world.register()))
    form = {"sealed": sealed, "username": "alice", "password": PASSWORD, "decision": "allow"}
    assert (await browser.post(path, form)).status == 403


async def test_a_seal_for_one_form_does_not_fit_another(world: World):
    url = authorization_url(await world.register())
    browser = Browser(world)
    (login_form,) = forms_of(await browser.get(url))
    await browser.log_in(url)
    consent_form, switch_form = forms_of(await browser.get(url))
    for form, path in ((login_form, "/consent"), (switch_form, "/consent"), (consent_form, "/logout")):
        assert (await browser.post(path, {**form.fields, "decision": "allow"})).status == 403


async def test_a_page_that_is_too_old_is_refused(world: World):
    browser = Browser(world)
    form = forms_of(await browser.consent_page(authorization_url(await world.register())))[0]
    world.now += 601
    assert (await browser.post("/consent", {**form.fields, "decision": "allow"})).status == 403


# --- consent ---


async def test_a_refusal_goes_back_with_state_and_issuer_and_is_recorded(world: World):
    answer = await Browser(world).consent(authorization_url(await world.register()), decision="deny")
    query = query_of(answer)
    assert (query["error"], query["state"], query["iss"]) == (
        "access_denied",
        "state of the client",
        world.config.issuer,
    )
    assert world.audit.kinds()[-1] == "consent_denied"


async def test_a_tick_taken_away_narrows_what_is_granted(world: World):
    client_id = await world.register()
    browser = Browser(world)
    form = forms_of(await browser.consent_page(authorization_url(client_id)))[0]
    assert {name for name in form.fields if name.startswith("tick:")} == {"tick:docs:export", "tick:docs:read"}
    del form.fields["tick:docs:export"]
    code = query_of(await browser.post("/consent", {**form.fields, "decision": "allow"}))["code"]
    assert world.audit.rows[-1]["scope"] == "docs:read"
    assert b'"scope": "docs:read"' in (await world.redeem(client_id, code)).body


async def test_a_tick_that_was_not_on_the_page_grants_nothing(world: World):
    client_id = await world.register()
    browser = Browser(world)
    form = forms_of(await browser.consent_page(authorization_url(client_id, scope="docs:read")))[0]
    more = {"tick:docs:export": "on", "tick:admin": "on"}
    code = query_of(await browser.post("/consent", {**form.fields, **more, "decision": "allow"}))["code"]
    assert b'"scope": "docs:read"' in (await world.redeem(client_id, code)).body


async def test_to_allow_without_a_tick_is_to_deny(world: World):
    browser = Browser(world)
    form = forms_of(await browser.consent_page(authorization_url(await world.register())))[0]
    answer = await browser.post("/consent", {"sealed": form.fields["sealed"], "decision": "allow"})
    assert query_of(answer)["error"] == "access_denied"
    assert world.audit.kinds()[-1] == "consent_denied"


async def test_a_program_on_this_machine_is_asked_for_each_time(world: World):
    client_id = await world.register()
    browser = Browser(world)
    await browser.consent(authorization_url(client_id))
    assert b'name="decision"' in (await browser.get(authorization_url(client_id))).body
    assert query_of(await browser.get(authorization_url(client_id, prompt="none")))["error"] == "consent_required"


def remote_url(client_id: str, **changes: str | None) -> str:
    return authorization_url(client_id, redirect_uri=REMOTE, **changes)


async def allowed_before(world: World, *, scope: str | None = None, drop: str = "") -> tuple[str, Browser]:
    """A client elsewhere that alice has allowed something, and her browser."""
    client_id = await world.register(redirect_uris=[REMOTE, REMOTE + "/other"])
    browser = Browser(world)
    form = forms_of(await browser.consent_page(remote_url(client_id, scope=scope)))[0]
    form.fields.pop(drop, None)
    answer = await browser.post("/consent", {**form.fields, "decision": "allow"})
    assert "code" in query_of(answer)
    return client_id, browser


async def test_who_was_allowed_before_is_not_asked_for_again(world: World):
    client_id, browser = await allowed_before(world)
    for changes in ({}, {"prompt": "none"}, {"scope": "docs:read"}):
        answer = await browser.get(remote_url(client_id, **changes))
        assert answer.headers["location"].startswith(REMOTE + "?code=")
        query = query_of(answer)
        assert (query["state"], query["iss"]) == ("state of the client", world.config.issuer)
        granted = world.audit.rows[-1]
        assert (granted["kind"], granted["reason"], granted["subject"]) == ("consent_granted", "remembered", "alice")
        tokens = await world.redeem(client_id, query["code"], redirect_uri=REMOTE)
        assert tokens.status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "consent"},
        {"prompt": "select_account"},
        {"scope": "docs:read docs:export"},
        {"redirect_uri": REMOTE + "/other"},
    ],
)
async def test_a_remembered_consent_is_for_this_redirect_uri_and_these_scopes(world: World, changes: dict[str, str]):
    client_id, browser = await allowed_before(world, scope="docs:read docs:export", drop="tick:docs:export")
    url = authorization_url(client_id, **{"redirect_uri": REMOTE, "scope": "docs:read", **changes})
    assert b'name="decision"' in (await browser.get(url)).body
    assert "code" in query_of(await browser.get(remote_url(client_id, scope="docs:read")))


async def test_a_remembered_consent_is_for_this_person_and_this_client(world: World):
    client_id, browser = await allowed_before(world, scope="docs:read")
    other = await world.register(redirect_uris=[REMOTE])
    assert b'name="decision"' in (await browser.get(remote_url(other, scope="docs:read"))).body
    bob = await Browser(world).consent_page(remote_url(client_id, scope="docs:read"), user="bob")
    assert b'name="decision"' in bob.body


async def test_a_denial_and_time_end_what_is_remembered(world: World):
    client_id, browser = await allowed_before(world)
    form = forms_of(await browser.get(remote_url(client_id, prompt="consent")))[0]
    assert query_of(await browser.post("/consent", {**form.fields, "decision": "deny"}))["error"] == "access_denied"
    assert b'name="decision"' in (await browser.get(remote_url(client_id))).body

    client_id, browser = await allowed_before(world)
    world.now += world.config.lifetimes.refresh_absolute_s + 1
    page = await browser.consent_page(remote_url(client_id))
    assert b'name="decision"' in page.body


async def test_a_tick_taken_away_later_is_remembered_too(world: World):
    client_id, browser = await allowed_before(world)
    form = forms_of(await browser.get(remote_url(client_id, prompt="consent")))[0]
    del form.fields["tick:docs:export"]
    await browser.post("/consent", {**form.fields, "decision": "allow"})
    assert b'name="decision"' in (await browser.get(remote_url(client_id))).body
    assert "code" in query_of(await browser.get(remote_url(client_id, scope="docs:read")))


async def test_the_consent_page_names_the_address_of_a_client_that_has_one(world: World):
    url = "https://claude.example/client.json"
    document = {"client_name": "C", "redirect_uris": [REDIRECT, REMOTE], "grant_types": ["authorization_code"]}
    await world.store.clients.add(url, document, now=world.now)
    local = text_of(await Browser(world).consent_page(authorization_url(url)))
    assert "claude.example" in local
    assert "Take care." in local
    remote = text_of(await Browser(world).consent_page(remote_url(url)))
    assert "Its address claude.example Answer goes to client.example" in remote
    assert "Take care." not in remote
    plain = text_of(await Browser(world).consent_page(authorization_url(await world.register())))
    assert "Its address" not in plain


async def test_a_consent_form_counts_once(world: World):
    browser = Browser(world)
    form = forms_of(await browser.consent_page(authorization_url(await world.register())))[0]
    statuses: list[int] = []

    async def allow() -> None:
        statuses.append((await browser.post("/consent", {**form.fields, "decision": "allow"})).status)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(allow)
    assert sorted(statuses) == [303] + [403] * 7
    assert world.audit.kinds().count("consent_granted") == 1


async def test_a_consent_form_of_another_login_session_is_refused(world: World):
    url = authorization_url(await world.register())
    attacker, victim = Browser(world), Browser(world)
    form = forms_of(await attacker.consent_page(url, user="bob"))[0]
    await victim.consent_page(url)
    assert (await victim.post("/consent", {**form.fields, "decision": "allow"})).status == 403
    assert (await Browser(world).post("/consent", {**form.fields, "decision": "allow"})).status == 403


async def test_what_else_is_in_the_consent_form_does_not_count(world: World):
    client_id, other = await world.register(), await world.register()
    browser = Browser(world)
    form = forms_of(await browser.consent_page(authorization_url(client_id, scope="docs:read")))[0]
    extra = {"scope": "docs:export", "client_id": other, "redirect_uri": REMOTE, "subject": "bob"}
    answer = await browser.post("/consent", {**form.fields, **extra, "decision": "allow"})
    assert answer.headers["location"].startswith(REDIRECT)
    tokens = await world.redeem(client_id, query_of(answer)["code"])
    assert b'"scope": "docs:read"' in tokens.body
    assert error_of(await world.redeem(other, query_of(answer)["code"])) == (400, "invalid_grant")


async def test_a_consent_needs_a_decision(world: World):
    browser = Browser(world)
    form = forms_of(await browser.consent_page(authorization_url(await world.register())))[0]
    assert (await browser.post("/consent", form.fields)).status == 400
    assert "consent_granted" not in world.audit.kinds()


async def test_a_scope_lost_while_the_page_was_open_is_not_granted(world: World):
    client_id = await world.register()
    browser = Browser(world)
    form = forms_of(await browser.consent_page(authorization_url(client_id)))[0]
    alice = world.config.users["alice"].model_copy(update={"scopes": ("docs:read",)})
    world.config = world.config.model_copy(update={"users": {**world.config.users, "alice": alice}})
    code = query_of(await browser.post("/consent", {**form.fields, "decision": "allow"}))["code"]
    assert world.audit.rows[-1]["scope"] == "docs:read"
    assert b'"scope": "docs:read"' in (await world.redeem(client_id, code)).body


@pytest.mark.parametrize("path", ["/login", "/consent", "/logout"])
async def test_forms_can_not_be_sent_by_a_link(world: World, path: str):
    assert (await world.send("GET", path)).status == 405

"""The account page: it shows what is the person's own, and ends it at once."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry import web
from tests.oauth.flow import PASSWORD, REDIRECT, Browser, Form, World, authorization_url, error_of, forms_of
from tests.server.test_login import REMOTE, remote_url, text_of


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


async def logged_in(world: World, user: str = "alice", *, peer: str = "192.0.2.1") -> Browser:
    browser = Browser(world, peer=peer)
    answer = await browser.log_in("/account", user=user)
    assert (answer.status, answer.headers["location"]) == (303, "/account")
    return browser


async def press(browser: Browser, button: str, *, after: str = "") -> web.Response:
    """Press the first button of that name that stands behind some text on the account page."""
    page = (await browser.get("/account")).body.decode()
    part = page[page.index(after) :]
    match = re.search(r'name="sealed" value="([^"]+)">\s*<button[^>]*>' + button + "</button>", part)
    assert match is not None, part
    return await browser.post("/account", {"sealed": match[1]})


async def test_who_is_not_logged_in_is_asked_to_and_comes_back(world: World):
    page = await Browser(world).get("/account")
    assert b'name="password"' in page.body
    assert "form-action 'self';" in page.headers["content-security-policy"]
    refused = await Browser(world).log_in("/account", password="wrong")
    assert refused.status == 403
    text = text_of(await (await logged_in(world)).get("/account"))
    assert "You are alice Tenant Acme Ltd" in text
    assert "None. When you allow" in text


async def test_it_lists_what_was_granted_by_application(world: World):
    client_id = await world.register(client_name="<i>Notebook</i>", redirect_uris=[REMOTE, REDIRECT])
    await world.tokens(client_id, scope="docs:read")
    world.now += 3600
    await world.tokens(client_id, scope="docs:export")
    await world.tokens(await world.register(client_name="Bob's own"), user="bob")
    text = text_of(await (await logged_in(world)).get("/account"))
    assert "&lt;i&gt;Notebook&lt;/i&gt; Answers go to client.example, localhost:51000" in text
    assert "It may Export reports Read documents Since 15 January 2027, 08:00 UTC" in text
    assert "Last used 15 January 2027, 09:00 UTC" in text
    assert text.count("Remove access") == 1
    assert "Bob" not in text


@pytest.mark.parametrize("grants", [["authorization_code"], ["authorization_code", "refresh_token"]])
async def test_a_grant_that_can_not_be_used_any_more_is_not_listed(world: World, grants: list[str]):
    await world.tokens(await world.register(grant_types=grants))
    browser = await logged_in(world)
    assert "Remove access" in text_of(await browser.get("/account"))
    lifetimes = world.config.lifetimes
    world.now += lifetimes.refresh_idle_s if "refresh_token" in grants else lifetimes.access_token_s
    assert "Remove access" not in text_of(await (await logged_in(world)).get("/account"))


async def test_removing_access_ends_tokens_codes_and_memory_at_once(world: World):
    client_id = await world.register(client_name="Notebook")
    other = await world.tokens(await world.register(client_name="Other"))
    tokens = await world.tokens(client_id)
    code = await world.code(client_id)
    browser = await logged_in(world)
    assert world.principal(tokens["access_token"])
    assert (await press(browser, "Remove access", after="Notebook")).headers["location"] == "/account"
    with pytest.raises(web.HttpError) as refused:
        world.principal(tokens["access_token"])
    assert refused.value.status == 401
    assert error_of(await world.refresh(client_id, tokens["refresh_token"])) == (400, "invalid_grant")
    assert error_of(await world.redeem(client_id, code)) == (400, "invalid_grant")
    assert world.principal(other["access_token"])
    withdrawn = world.audit.rows[-1]
    assert withdrawn["kind"] == "consent_withdrawn"
    assert (withdrawn["tenant"], withdrawn["subject"], withdrawn["client"]) == ("acme", "alice", client_id)


async def test_a_remembered_consent_is_listed_and_forgotten(world: World):
    client_id = await world.register(redirect_uris=[REMOTE])
    browser = await logged_in(world)
    url = remote_url(client_id, scope="docs:read")
    page = await browser.get(url)
    await browser.post("/consent", {**forms_of(page)[0].fields, "decision": "allow"})
    assert "Read documents Since 15 January 2027, 08:00 UTC Last used not lately" in text_of(
        await browser.get("/account")
    )
    await press(browser, "Remove access")
    assert b'name="decision"' in (await browser.get(url)).body


async def test_login_sessions_are_listed_and_ended(world: World):
    here = await logged_in(world)
    world.now += 60
    there = await logged_in(world, peer="198.51.100.7")
    await logged_in(world, "bob", peer="203.0.113.5")
    text = text_of(await here.get("/account"))
    assert re.findall(r"(This|Another) browser From (\S+) Since 15 January 2027, (\S+)", text) == [
        ("This", "192.0.2.1", "08:00"),
        ("Another", "198.51.100.7", "08:01"),
    ]
    await press(here, "Log out there")
    assert b'name="password"' in (await there.get("/account")).body
    assert world.audit.kinds()[-1] == "login_session_ended"
    answer = await press(here, "Log out")
    assert "tenantry_login=; Max-Age=0" in answer.cookies[0]
    assert b'name="password"' in (await here.get("/account")).body
    assert world.audit.kinds()[-1] == "logout"


async def account_forms(browser: Browser) -> list[Form]:
    return forms_of(await browser.get("/account"))


async def test_nobody_else_can_send_the_forms(world: World):
    await world.tokens(await world.register())
    alice, bob, stranger = await logged_in(world), await logged_in(world, "bob"), Browser(world)
    forms = await account_forms(alice)
    for form in forms:
        for browser in (bob, stranger):
            assert (await browser.post("/account", form.fields)).status == 403
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert (await alice.post("/account", form.fields, headers=headers)).status == 403
    for sealed in ("", "nonsense"):
        assert (await alice.post("/account", {"sealed": sealed})).status == 403
    consent = forms_of(await alice.get(authorization_url(await world.register())))[0]
    assert (await alice.post("/account", consent.fields)).status == 403
    assert len(await account_forms(alice)) == len(forms) == 3
    world.now += 30 * 60 + 1
    assert (await alice.post("/account", form.fields)).status == 403


async def test_an_old_form_does_not_end_what_the_next_login_began(world: World):
    browser = await logged_in(world)
    (form,) = await account_forms(browser)
    (login,) = forms_of(await browser.get(authorization_url(await world.register(), prompt="login")))
    await browser.post("/login", {**login.fields, "username": "alice", "password": PASSWORD})
    assert (await browser.post("/account", form.fields)).status == 403
    assert len(await account_forms(browser)) == 1

"""The pages that a person sees: login and consent (RFC 6749 section 10, RFC 9700 section 4, MCP security)."""

import html
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from conformance.authority import REDIRECT_URI, Authority, new_verifier
from conformance.clauses import clause
from conformance.client import NotApplicable
from conformance.login import Browser, Form, Page

LOADED = re.compile(r"""(?:src|href|data|poster|action)\s*=\s*["']?([^"'\s>]+)|url\(([^)]+)\)|@import""", re.IGNORECASE)


def login_page(authority: Authority, browser: Browser | None = None, **over: Any) -> Page:
    """The page that asks a stranger who they are."""
    page = (browser or Browser()).ask(authority.authorization_url(authority.client, new_verifier(), over))
    while page.target is not None and not page.target.startswith(REDIRECT_URI):
        page = (browser or Browser()).ask(page.target)
    return page


def login_form(page: Page) -> Form:
    """The form of it that has a password."""
    forms = [form for form in page.forms if form.password_field]
    if not forms:
        raise NotApplicable("people sign in to this server otherwise than by a form")
    return forms[0]


def pages_of(authority: Authority) -> list[Page]:
    """Each kind of page: login, consent and error."""
    wrong = authority.authorization_url(authority.client, new_verifier(), {"client_id": "nobody"})
    return [login_page(authority), authority.consent_page(), Browser().ask(wrong)]


def visible(page: Page) -> str:
    """The text of a page, as a person reads it."""
    text = re.sub(r"<(script|style|head)\b.*?</\1>", " ", page.text, flags=re.DOTALL | re.IGNORECASE)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def policy_of(page: Page) -> dict[str, list[str]]:
    """The Content Security Policy of a page."""
    field = page.headers.get("content-security-policy", "")
    directives = [part.split() for part in field.split(";") if part.strip()]
    return {words[0].lower(): words[1:] for words in directives}


# Headers


@clause(
    "rfc6749:10.13:no-frames",
    "oauth-2.1:7.10:no-frames",
    "oauth-2.1:7.10:csp",
    "oauth-2.1:7.10:combined",
    "rfc9700:4.16:no-frames",
    "rfc9700:4.16:csp",
    "rfc9700:4.16:combined",
    "mcp-security:consent:no-frames",
)
def test_no_page_can_be_framed(authority: Authority) -> None:
    for page in pages_of(authority):
        assert policy_of(page)["frame-ancestors"] in (["'none'"], ["'self'"]), page.url
        assert page.headers.get("x-frame-options", "").upper() in {"DENY", "SAMEORIGIN"}, page.url


@clause("rfc9700:4.2.4:referrer")
def test_no_page_lets_its_address_leave_the_server(authority: Authority) -> None:
    for page in pages_of(authority):
        assert page.headers.get("referrer-policy") in {"no-referrer", "same-origin"}, page.url


@clause("rfc9700:4.2.4:no-third-party", "rfc7591:5:urls-safe")
def test_no_page_loads_anything_of_others(authority: Authority) -> None:
    urls = {f"{name}_uri": f"https://evil.example/{name}" for name in ("client", "logo", "tos", "policy")}
    client = authority.registered(client_name="with pictures", **urls)
    for page in [*pages_of(authority), authority.consent_page(client=client)]:
        assert page.status < 500
        assert "evil.example" not in page.text
        found = [part for match in LOADED.finditer(page.text) for part in match.groups() if part]
        hosts = {urlsplit(urljoin(page.url, html.unescape(each))).netloc for each in found}
        assert hosts <= {urlsplit(page.url).netloc}, hosts


@clause("mcp-security:consent:cookie-host-prefix")
def test_every_cookie_has_the_host_prefix(authority: Authority) -> None:
    names = [each.name for each in authority.browser.cookies]
    assert names
    assert all(name.startswith("__Host-") for name in names)


def cookie_fields(authority: Authority) -> list[str]:
    """Every `Set-Cookie` on the way from the first page to consent."""
    user, password = authority.account
    browser = Browser()
    page = login_page(authority, browser)
    done = browser.submit(page, login_form(page), login_form(page).filled(user=user, password=password))
    assert done.target is not None, done.text
    fields: list[str] = [*page.headers.get_all("set-cookie", []), *done.headers.get_all("set-cookie", [])]
    assert fields
    return [field.lower() for field in fields]


@clause("mcp-security:consent:cookie-attributes")
def test_every_cookie_is_secure(authority: Authority) -> None:
    assert all("; secure" in field for field in cookie_fields(authority))


@clause("mcp-security:consent:cookie-http-only")
def test_every_cookie_is_out_of_reach_of_scripts_and_other_sites(authority: Authority) -> None:
    fields = cookie_fields(authority)
    assert all("; httponly" in field for field in fields), fields
    assert all("; samesite=lax" in field or "; samesite=strict" in field for field in fields), fields


# Login


@clause(
    "oauth-2.1:3.1:no-credentials-forwarded",
    "oauth-2.1:7.5.4:no-307",
    "oauth-2.1:7.5.4:303",
    "rfc9700:2.1:no-credentials-forwarded",
    "rfc9700:4.12:no-307",
    "rfc9700:4.12:303",
)
def test_a_form_with_a_password_is_answered_by_303_and_not_sent_on(authority: Authority) -> None:
    user, password = authority.account
    browser = Browser()
    page = login_page(authority, browser)
    form = login_form(page)
    assert urlsplit(urljoin(page.url, form.action)).netloc == urlsplit(page.url).netloc
    done = browser.submit(page, form, form.filled(user=user, password=password))
    assert done.status == 303, done
    assert password not in (done.target or "").split("?")[-1].split("=")


@clause("rfc6749:10.2:owner-informed", "oauth-2.1:7.3:owner-informed", "rfc6749:3.1:authenticated-first")
@clause("oauth-2.1:3.1:authenticated-first")
def test_a_wrong_password_leads_nowhere(authority: Authority) -> None:
    browser = Browser()
    page = login_page(authority, browser)
    form = login_form(page)
    done = browser.submit(page, form, form.filled(user=f"nobody-{secrets.token_hex(4)}", password="wrong"))
    assert done.status in {200, 400, 401, 403, 429}, done
    assert done.target is None
    again = browser.ask(authority.authorization_url(authority.client, new_verifier()))
    assert login_form(again)


# Consent


@clause(
    "rfc6749:10.2:owner-informed",
    "rfc6749:10.12:no-silent",
    "oauth-2.1:7.3:owner-informed",
    "mcp-authorization:consent:redirect-host",
    "mcp-security:consent:client-named",
    "mcp-security:consent:scopes-shown",
    "mcp-security:consent:redirect-uri-shown",
    "mcp-security:impersonation:countermeasures",
    "rfc7591:2.2:as-is",
)
def test_the_consent_page_names_client_scopes_and_the_host_that_is_gone_to(authority: Authority) -> None:
    name = "A client <b>&amp; \u4e2d\u6587"
    client = authority.registered(client_name=name, redirect_uris=["https://client.example/callback"])
    text = visible(authority.consent_page(client=client))
    assert name in text
    assert "client.example" in text
    granted = authority.grant().answer.json["scope"].split()
    assert all(scope in text for scope in granted)


@clause(
    "mcp-authorization:consent:localhost-warning",
    "mcp-authorization:consent:redirect-host",
    "mcp-security:impersonation:countermeasures",
    "rfc6749:3.1.2.1:warned",
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_program_on_this_machine_is_warned_of(authority: Authority, host: str) -> None:
    one_name = f"warned of {host}"
    local = authority.registered(client_name=one_name, redirect_uris=[f"http://{host}/callback"])
    site = authority.registered(client_name=one_name, redirect_uris=["https://client.example/callback"])
    here = visible(authority.consent_page({"redirect_uri": f"http://{host}:5/callback"}, client=local))
    there = visible(authority.consent_page(client=site))
    assert f"{host}:5" in here
    # What is said beside the host is something else than for a site.
    assert here.replace(f"{host}:5", "") != there.replace("client.example", "")


@clause("rfc7591:5:self-asserted")
def test_what_a_client_says_of_itself_is_not_shown_as_if_it_were_the_servers(authority: Authority) -> None:
    client = authority.registered(client_name="The Bank of England", redirect_uris=["https://evil.example/callback"])
    text = visible(authority.consent_page(client=client))
    assert "The Bank of England" in text
    assert "evil.example" in text


@clause(
    "rfc6749:4.1.2.1:access-denied",
    "oauth-2.1:4.1.2.1:access-denied",
    "rfc9207:2:iss-in-error",
    "rfc6749:4.1.2.1:state",
)
def test_a_person_can_say_no(authority: Authority) -> None:
    page = authority.consent_page()
    form = page.forms[0]
    answers = []
    for button in range(len(form.buttons)):
        page = authority.consent_page()
        form = page.forms[0]
        answers.append(authority.browser.submit(page, form, form.filled(button=button)).target or "")
    denied = [parse_qs(urlsplit(each).query) for each in answers if "error=" in each]
    assert len(denied) == 1, answers
    assert denied[0]["error"] == ["access_denied"]
    assert denied[0]["state"] == ["the state"]
    assert denied[0]["iss"] == [authority.issuer]
    assert "code" not in denied[0]


@clause("rfc6749:10.12:csrf-authorization", "mcp-security:consent:csrf", "rfc6749:10.12:no-silent")
@pytest.mark.parametrize("kind", ["without-the-seal", "changed-seal", "another-browser", "another-origin"])
def test_a_consent_that_no_page_asked_for_is_not_taken(authority: Authority, kind: str) -> None:
    page = authority.consent_page()
    form = page.forms[0]
    fields = form.filled()
    browser, headers = authority.browser, None
    if kind == "without-the-seal":
        fields = [*form.filled()[len(form.fields) :], *form.boxes]
    elif kind == "changed-seal":
        fields = [(name, value[:-4] + "AAAA") if len(value) > 20 else (name, value) for name, value in fields]
    elif kind == "another-browser":
        browser = Browser()
    else:
        headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    refused = browser.submit(page, form, fields, headers)
    assert 400 <= refused.status < 500, refused
    assert refused.target is None
    page = authority.consent_page()
    assert "code=" in (authority.browser.submit(page, page.forms[0], page.forms[0].filled()).target or "")


@clause("rfc6749:10.12:csrf-authorization", "mcp-security:consent:csrf")
def test_one_page_is_answered_once(authority: Authority) -> None:
    page = authority.consent_page()
    form = page.forms[0]
    assert "code=" in (authority.browser.submit(page, form, form.filled()).target or "")
    again = authority.browser.submit(page, form, form.filled())
    assert "code=" not in (again.target or "")


@clause(
    "rfc6749:10.2:no-automatic",
    "oauth-2.1:7.3:no-automatic",
    "oauth-2.1:7.3.1:no-automatic-native",
    "mcp-security:consent:per-client",
    "mcp-security:consent:cookie-bound",
)
def test_a_program_on_this_machine_gets_nothing_without_being_asked_for_again(authority: Authority) -> None:
    authority.grant()
    for client in (authority.client, authority.other_client):
        url = authority.authorization_url(client, new_verifier())
        page = authority.browser.ask(url)
        assert page.target is None, page.target
        assert page.forms
        silent = authority.browser.ask(f"{url}&prompt=none")
        assert "code=" not in (silent.target or "")


@clause("mcp-security:consent:per-client", "mcp-security:consent:cookie-bound")
def test_consent_to_one_client_is_none_to_another(authority: Authority) -> None:
    first, second = (
        authority.registered(client_name=f"per client {n}", redirect_uris=[f"https://client.example/{n}"]) for n in "ab"
    )
    assert authority.code(client=first).code
    page = authority.browser.ask(authority.authorization_url(second, new_verifier()))
    assert page.target is None
    assert "per client b" in visible(page)


@clause("rfc6749:10.14:sanitized", "oauth-2.1:7.11:sanitized")
@pytest.mark.parametrize("name", ["state", "scope", "client_id", "redirect_uri", "prompt", "resource", "login_hint"])
def test_no_page_shows_markup_that_was_sent(authority: Authority, name: str) -> None:
    sent = "x\"'><script>alert(1)</script>"
    page = authority.browser.ask(authority.authorization_url(authority.client, new_verifier(), {name: sent}))
    assert page.status < 500, page
    assert "<script>alert" not in page.text

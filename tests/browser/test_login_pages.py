"""The login and consent pages in a real chromium, as a person meets them."""

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.running import RunningServer, running_server

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VERIFIER = "v" * 43
STATE = "state of the client & more"
CLIENT_NAME = "Notebook <b>helper</b>"

pytestmark = pytest.mark.browser
if CHROMIUM is None:
    pytest.skip("chromium is not installed: apt install chromium", allow_module_level=True)


class Callback:
    """The client's end: a web server on this machine that writes down what the browser brings."""

    def __init__(self) -> None:
        self.answers: list[dict[str, str]] = []
        callback = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/callback"):
                    query = parse_qs(urlsplit(self.path).query)
                    callback.answers.append({name: values[0] for name, values in query.items()})
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>Back</title><h1>Back at the client</h1>")

            def log_message(self, *_arguments: object) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/callback"


@dataclass
class Visit:
    """One browser window with nothing in it, and what it complained of."""

    page: Page
    server: RunningServer
    callback: Callback
    client_id: str
    pictures: Path
    complaints: list[str] = field(default_factory=list)

    def authorize(self, scope: str = "tools:call admin") -> None:
        """Open the authorization endpoint, as a client has a browser do."""
        digest = hashlib.sha256(VERIFIER.encode()).digest()
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.callback.url,
            "scope": scope,
            "state": STATE,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "resource": self.server.url,
        }
        self.page.goto(f"{self.server.issuer}/authorize?{urlencode(parameters)}")

    def log_in(self, user: str = "alice", password: str = "demo") -> None:
        self.page.get_by_label("User name").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def answer(self) -> dict[str, str]:
        """What came back to the client; it must have come once, and with its state and issuer."""
        expect(self.page.get_by_role("heading", level=1)).to_have_text("Back at the client")
        (answer,) = self.callback.answers
        assert answer.pop("state") == STATE
        assert answer.pop("iss") == self.server.issuer
        return answer

    def redeem(self, code: str) -> httpx2.Response:
        form = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "code": code,
            "code_verifier": VERIFIER,
            "redirect_uri": self.callback.url,
            "resource": self.server.url,
        }
        return httpx2.post(f"{self.server.issuer}/token", data=form, trust_env=False)

    def screenshot(self, name: str) -> None:
        self.pictures.mkdir(exist_ok=True)
        self.page.screenshot(path=self.pictures / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("browser") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def callback() -> Iterator[Callback]:
    listening = Callback()
    thread = Thread(target=listening.server.serve_forever)
    thread.start()
    yield listening
    listening.server.shutdown()
    thread.join()
    listening.server.server_close()


Visiting = Callable[..., AbstractContextManager[Visit]]


@pytest.fixture
def visiting(browser: Browser, server: RunningServer, callback: Callback, request: pytest.FixtureRequest) -> Visiting:
    """Open a window, with the options given."""
    return partial(_visiting, browser, server, callback, request.config.getoption("--screenshots"))


@contextmanager
def _visiting(
    browser: Browser, server: RunningServer, callback: Callback, pictures: Path, /, **options: object
) -> Iterator[Visit]:
    """Open a window with cookies of its own; fails where the browser complained, of the policy for instance."""
    metadata = {"client_name": CLIENT_NAME, "redirect_uris": [callback.url]}
    registered = httpx2.post(f"{server.issuer}/register", json=metadata, trust_env=False)
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(10_000)
    visit = Visit(page, server, callback, registered.json()["client_id"], pictures)

    def note(message: ConsoleMessage) -> None:
        # Chromium reports each violation of the policy as an error. That a page's own status was 403 it reports too.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            visit.complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("requestfailed", lambda request: visit.complaints.append(f"{request.url}: {request.failure}"))
    yield visit
    context.close()
    assert not visit.complaints


@pytest.fixture
def visit(visiting: Visiting) -> Iterator[Visit]:
    with visiting() as opened:
        yield opened


def test_a_wrong_password_shows_the_error_and_keeps_the_user_name(visit):
    visit.authorize()
    visit.log_in(password="wrong")
    expect(visit.page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    expect(visit.page.get_by_label("User name")).to_have_value("alice")
    expect(visit.page.get_by_label("Password")).to_have_value("")
    expect(visit.page.get_by_label("Password")).to_be_focused()
    visit.screenshot("login-refused")
    visit.page.get_by_label("Password").fill("demo")
    visit.press("Log in")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Allow access?")


def test_login_and_consent_lead_back_with_a_code_that_can_be_redeemed(visit):
    visit.authorize()
    expect(visit.page.get_by_label("User name")).to_be_focused()
    visit.screenshot("login")
    visit.log_in()
    visit.screenshot("consent")
    visit.press("Allow")
    answer = visit.answer()
    assert list(answer) == ["code"]
    tokens = visit.redeem(answer["code"]).json()
    assert tokens["scope"].split() == ["tools:call", "admin"]


def test_the_consent_page_says_who_asks_for_what_and_where_the_answer_goes(visit):
    visit.authorize()
    visit.log_in()
    main = visit.page.get_by_role("main")
    for text in (
        CLIENT_NAME,  # as text: it is no markup of ours
        urlsplit(visit.callback.url).netloc,
        "alice",
        "Tenant A",
        "Call the tools of your tenant",
        "Use the tools that change or remove your tenant's documents",
    ):
        expect(main.get_by_text(text)).to_be_visible()
    expect(main.locator("b")).to_have_count(0)


def test_the_consent_page_shows_only_scopes_that_the_person_can_grant(visit):
    visit.authorize()
    visit.log_in("bob")
    expect(visit.page.get_by_text("Call the tools of your tenant")).to_be_visible()
    expect(visit.page.get_by_text("Use the tools that change")).to_have_count(0)


def test_a_person_who_denies_sends_the_client_away(visit):
    visit.authorize()
    visit.log_in()
    visit.press("Deny")
    answer = visit.answer()
    visit.screenshot("denied")
    assert answer.pop("error") == "access_denied"
    assert "code" not in answer


def test_it_works_with_javascript_turned_off(visiting):
    with visiting(java_script_enabled=False) as visit:
        visit.authorize()
        visit.log_in("carol")
        expect(visit.page.get_by_text("Tenant B")).to_be_visible()
        visit.press("Allow")
        assert list(visit.answer()) == ["code"]


def test_it_works_with_the_keyboard_alone(visit):
    visit.authorize()
    keyboard = visit.page.keyboard
    expect(visit.page.locator("input[name=username]")).to_be_focused()
    keyboard.type("alice")
    keyboard.press("Tab")
    keyboard.type("demo")
    keyboard.press("Enter")
    allow = visit.page.get_by_role("button", name="Allow")
    expect(allow).to_be_visible()
    keyboard.press("Tab")
    expect(visit.page.get_by_label("Call the tools of your tenant")).to_be_focused()
    keyboard.press("Tab")
    expect(visit.page.get_by_label("Use the tools that change")).to_be_focused()
    keyboard.press("Space")
    keyboard.press("Enter")
    assert not visit.callback.answers, "Enter in a tick must not grant"
    keyboard.press("Tab")
    expect(allow).to_be_focused()
    outline = allow.evaluate("button => getComputedStyle(button).outlineStyle")
    assert outline == "solid", "whoever has no mouse must see where they are"
    keyboard.press("Enter")
    answer = visit.answer()
    assert list(answer) == ["code"]
    assert visit.redeem(answer["code"]).json()["scope"] == "tools:call"


def test_enter_on_the_consent_page_allows_nothing_by_itself(visit):
    visit.authorize()
    visit.log_in()
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Allow access?")
    focused = visit.page.evaluate("document.activeElement.tagName")
    assert focused == "BODY", "a second Enter after the password must not grant"
    assert not visit.callback.answers


def test_another_account_can_be_chosen_on_the_consent_page(visit):
    visit.authorize()
    visit.log_in("alice")
    visit.press("Use another account")
    visit.log_in("carol")
    expect(visit.page.get_by_text("Tenant B")).to_be_visible()


def test_going_back_asks_anew_and_gives_a_code_of_its_own(visit):
    visit.authorize()
    visit.log_in()
    visit.press("Allow")
    visit.answer()
    visit.page.go_back()  # the page is stored nowhere: what is shown now is a new transaction
    with visit.page.expect_navigation(url=f"{visit.callback.url}*"):
        visit.press("Allow")
    first, second = (answer["code"] for answer in visit.callback.answers)
    assert first != second


def test_a_page_whose_seal_is_spoiled_says_what_to_do(visit):
    visit.authorize()
    visit.page.evaluate("document.querySelector('[name=sealed]').value = 'spoiled'")
    visit.log_in()
    expect(visit.page.get_by_role("alert")).to_contain_text("out of date")
    visit.screenshot("error")
    assert not visit.callback.answers


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("phone", {"viewport": {"width": 320, "height": 640}}),
        ("dark", {"color_scheme": "dark"}),
    ],
)
def test_nothing_sticks_out_of_a_small_or_dark_page(visiting, name, options):
    with visiting(**options) as visit:
        visit.authorize()
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert visit.page.evaluate(wide) == 0
        visit.screenshot(f"login-{name}")
        visit.log_in()
        assert visit.page.evaluate(wide) == 0
        visit.screenshot(f"consent-{name}")
        visit.press("Allow")
        visit.redeem(visit.answer()["code"])
        visit.page.goto(f"{visit.server.issuer}/account")
        assert visit.page.evaluate(wide) == 0
        visit.screenshot(f"account-{name}")


def test_the_account_page_ends_grants_and_login_sessions_by_keyboard(visiting):
    with visiting() as visit, visiting() as elsewhere:
        visit.authorize()
        visit.log_in("bob")
        visit.press("Allow")
        tokens = visit.redeem(visit.answer()["code"]).json()
        elsewhere.page.goto(f"{visit.server.issuer}/account")
        elsewhere.log_in("bob")
        expect(elsewhere.page.get_by_role("heading", level=1)).to_have_text("Your account")
        account = visit.page
        account.goto(f"{visit.server.issuer}/account")
        application = account.get_by_role("region", name=CLIENT_NAME)
        expect(application.get_by_text("Call the tools of your tenant")).to_be_visible()
        expect(account.get_by_role("region", name="This browser")).to_have_count(1)
        visit.screenshot("account")
        account.keyboard.press("Tab")
        expect(application.get_by_role("button", name="Remove access")).to_be_focused()
        account.keyboard.press("Enter")
        expect(application).to_have_count(0)
        call = httpx2.post(
            visit.server.url, headers={"authorization": f"Bearer {tokens['access_token']}"}, trust_env=False
        )
        assert call.status_code == 401
        others = account.get_by_role("region", name="Another browser")
        while count := others.count():
            others.first.get_by_role("button", name="Log out there").press("Enter")
            expect(others).to_have_count(count - 1)
        elsewhere.page.reload()
        expect(elsewhere.page.get_by_role("heading", level=1)).to_have_text("Log in")
        account.get_by_role("button", name="Log out", exact=True).press("Enter")
        expect(account.get_by_role("heading", level=1)).to_have_text("Log in")
        visit.screenshot("account-login")


# What WCAG 2.2 has a number for (1.4.3, 1.4.11): text against what is behind it, and a control's edge likewise.
CONTRASTS = """() => {
    const rgb = text => text.match(/[0-9.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = rgb(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const ratio = (a, b) => {
        const [low, high] = [light(a), light(b)].sort((m, n) => m - n);
        return (high + 0.05) / (low + 0.05);
    };
    const edged = "input:not([type=hidden]):not([type=checkbox]), button";
    const found = [];
    for (const e of document.querySelectorAll("main *")) {
        const style = getComputedStyle(e);
        if ([...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.offsetParent)
            found.push([e.textContent.trim().slice(0, 40), 4.5, ratio(rgb(style.color), behind(e))]);
        if (e.matches(edged) && e.offsetParent && style.borderTopWidth !== "0px")
            found.push([`edge of ${e.name}`, 3, ratio(rgb(style.borderTopColor), behind(e.parentElement))]);
    }
    return found;
}"""
# Every control has a name that a screen reader can say.
NAMELESS = """() => [...document.querySelectorAll("input:not([type=hidden]), button:not([hidden]), a")]
    .filter(e => !(e.labels?.length ? e.labels[0].textContent : e.textContent).trim()).map(e => e.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_labelled_and_can_be_read(visiting, scheme):
    with visiting(color_scheme=scheme) as visit:

        def check():
            contrasts = visit.page.evaluate(CONTRASTS)
            assert len(contrasts) > 3
            assert [each for each in contrasts if each[2] < each[1]] == []
            assert visit.page.evaluate(NAMELESS) == []

        visit.authorize()
        check()
        visit.log_in(password="wrong")
        expect(visit.page.get_by_role("alert")).to_be_visible()
        check()
        visit.log_in()
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("Allow access?")
        check()
        visit.page.goto(f"{visit.server.issuer}/account")
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("Your account")
        check()
        visit.page.goto(f"{visit.server.issuer}/authorize?client_id=unknown")
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("This did not work")
        visit.screenshot(f"error-unknown-client-{scheme}")

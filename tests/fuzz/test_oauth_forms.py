"""Whatever strangers send to the OAuth endpoints is answered, in the right form and never with a 5xx."""

import json
import string
import tempfile
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.oauth import access_token, clients, redirects
from tenantry.oauth.errors import OAuthError
from tests.oauth.flow import FORM, REDIRECT, VERIFIER, World

FIELDS = (
    *("grant_type", "client_id", "code", "code_verifier", "redirect_uri", "resource", "scope", "refresh_token"),
    *("token", "token_type_hint", "response_type", "code_challenge", "code_challenge_method", "state", "prompt"),
    *("sealed", "username", "password", "decision"),
)
NAMES = st.sampled_from(FIELDS)
WORDS = st.sampled_from(
    ["authorization_code", "refresh_token", "CLIENT", "CODE", "REFRESH", VERIFIER, REDIRECT, "S256", "code", "none"]
)
VALUES = (
    WORDS.map(str.encode) | st.binary(max_size=40) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace"))
)
FORMS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
ALLOWED = set(string.printable[:95]) - set('"\\')

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(REDIRECT),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
MEMBERS = st.sampled_from(sorted(clients._Registration.model_fields))


async def send(forms: list[tuple[str, bytes]], path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "state.db")
        client_id = await world.register()
        code = await world.code(client_id)
        known = {b"CLIENT": client_id.encode(), b"CODE": code.encode(), b"REFRESH": b"unknown"}
        body = "&".join(f"{name}={quote_from_bytes(known.get(value, value))}" for name, value in forms)
        if path == "/authorize":
            answer = await world.send("GET", f"{path}?{body}")
        else:
            answer = await world.send("POST", path, body=body.encode(), headers={"content-type": FORM})
        world.store.close()
    assert answer.status in (200, 303, 400, 401, 403)
    if path in ("/token", "/revoke") and answer.status != 200:
        document = json.loads(answer.body)
        assert set(document) == {"error", "error_description"}
        assert set(document["error_description"]) <= ALLOWED


@given(forms=FORMS, path=st.sampled_from(["/token", "/revoke", "/authorize", "/consent", "/login", "/logout"]))
async def test_any_form_is_answered(forms: list[tuple[str, bytes]], path: str):
    await send(forms, path)


def register(body: bytes) -> dict[str, object] | None:
    try:
        return clients.register(body, known_scopes=("docs:read",))
    except OAuthError as error:
        refused = error
    assert refused.status == 400
    assert set(refused.description) <= ALLOWED
    return None


@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_registered_or_refused(body: bytes):
    register(body)


@given(members=st.dictionaries(MEMBERS, JSON, max_size=6), uris=st.lists(st.text(max_size=30), max_size=2))
def test_any_metadata_is_registered_or_refused(members: dict[str, object], uris: list[str]):
    document = {"redirect_uris": [REDIRECT, *uris], **members}
    registered = register(json.dumps(document).encode())
    if registered is not None:
        json.dumps(registered, ensure_ascii=False).encode()
        assert registered["token_endpoint_auth_method"] == "none"
        assert None not in registered.values()


@given(text=st.text(max_size=60) | st.from_regex(r"https?://[a-z0-9.@:\[\]%*\\/#?-]{0,30}", fullmatch=True))
def test_a_redirect_uri_that_is_taken_leads_to_https_or_to_this_machine(text: str):
    if redirects.problem_with(text) is None:
        assert text.startswith("https://") or redirects.is_loopback(text)
        assert "#" not in text
        assert redirects.equal(text, text)
        source = redirects.form_source(text)
        assert not set(source) & set(" ;,'")


@given(token=st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}"))
def test_no_text_is_an_access_token(token: str):
    with pytest.raises(OAuthError):
        access_token.verify(token, keys={}, issuer="i", audience="a", now=0)

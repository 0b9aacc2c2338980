"""Who a client says it is, and whether that holds."""

import base64
from urllib.parse import quote_plus

import pytest

from tenantry.oauth import token
from tenantry.oauth.client_authentication import Presented, authenticated, presented
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError

PUBLIC = Client(client_id="public", name="", redirect_uris=(), refreshes=True)
CONFIDENTIAL = Client(
    client_id="client", name="", redirect_uris=(), refreshes=True, secret_digest=token.digest("the secret")
)


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


def raw(credentials: bytes) -> str:
    return "Basic " + base64.b64encode(credentials).decode()


def test_a_public_client_names_itself():
    assert presented({"client_id": "public"}, []) == Presented(client_id="public", secret=None)


@pytest.mark.parametrize(("client_id", "secret"), [("client", "the secret"), ("a:b c%ü", "p:+& %é"), ("x", "=")])
def test_basic_credentials_are_form_encoded_halves(client_id, secret):
    expected = Presented(client_id=client_id, secret=secret)
    assert presented({}, [basic(client_id, secret)]) == expected
    assert presented({"client_id": client_id}, [basic(client_id, secret).replace("Basic", "bASIC")]) == expected


def test_the_form_may_hold_the_secret():
    form = {"client_id": "client", "client_secret": "the secret"}
    assert presented(form, []) == Presented(client_id="client", secret="the secret")


@pytest.mark.parametrize(
    ("form", "authorization"),
    [
        ({}, []),
        ({"client_secret": "the secret"}, []),
        ({"client_id": "client", "client_secret": "the secret"}, [basic("client", "the secret")]),
        ({"client_id": "another"}, [basic("client", "the secret")]),
        ({}, [basic("client", "the secret")] * 2),
    ],
)
def test_credentials_that_are_missing_or_double_are_an_invalid_request(form, authorization):
    with pytest.raises(OAuthError) as caught:
        presented(form, authorization)
    assert (caught.value.error, caught.value.status) == ("invalid_request", 400)


@pytest.mark.parametrize(
    "field",
    [
        "Basic",
        "Basic !!!",
        "Bearer abc",
        "",
        raw(b"no separator"),
        raw(b":secret"),
        raw(b"client:"),
        raw(b"cl\xffient:secret"),
        raw(b"client:%ff"),
        raw(b"caf\xc3\xa9:secret"),
    ],
)
def test_credentials_that_can_not_be_read_are_an_invalid_client(field):
    with pytest.raises(OAuthError) as caught:
        presented({}, [field])
    assert (caught.value.error, caught.value.status) == ("invalid_client", 401)


def test_who_proves_it_is_that_client():
    assert authenticated(PUBLIC, Presented(client_id="public", secret=None)) is PUBLIC
    assert authenticated(CONFIDENTIAL, Presented(client_id="client", secret="the secret")) is CONFIDENTIAL


@pytest.mark.parametrize(
    ("client", "secret"),
    [
        (None, None),
        (None, "the secret"),
        (PUBLIC, "the secret"),
        (CONFIDENTIAL, None),
        (CONFIDENTIAL, "another secret"),
        (CONFIDENTIAL, token.digest("the secret")),
        (CONFIDENTIAL, "\udcff"),
    ],
)
def test_who_does_not_prove_it_is_refused_in_the_same_words(client, secret):
    with pytest.raises(OAuthError) as caught:
        authenticated(client, Presented(client_id="client", secret=secret))
    assert (caught.value.error, caught.value.status) == ("invalid_client", 401)
    assert caught.value.description == ("the client is not known here or did not prove that it is this client")

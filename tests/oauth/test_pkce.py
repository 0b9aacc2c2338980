"""PKCE, S256."""

import pytest

from tenantry.oauth import pkce

# RFC 7636 appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_example_of_the_rfc_matches():
    assert pkce.challenge_of(VERIFIER) == CHALLENGE
    assert pkce.matches(VERIFIER, CHALLENGE)


@pytest.mark.parametrize(
    "verifier", ["", CHALLENGE, VERIFIER[:-1], VERIFIER + "x", VERIFIER[:-1] + "!", VERIFIER + "\n", "é" * 43]
)
def test_no_other_verifier_matches(verifier: str):
    assert not pkce.matches(verifier, CHALLENGE)


@pytest.mark.parametrize("length", [42, 129])
def test_a_verifier_of_the_wrong_length_never_matches(length: int):
    verifier = "a" * length
    assert not pkce.matches(verifier, pkce.challenge_of(verifier))


def test_a_challenge_is_43_characters_of_base64url():
    assert pkce.is_challenge(CHALLENGE)
    for text in ("", CHALLENGE[:-1], CHALLENGE + "A", CHALLENGE + "=", CHALLENGE[:-1] + "+", CHALLENGE[:-1] + "B"):
        assert not pkce.is_challenge(text)

"""What a form carries out and brings back."""

import pytest
from cryptography.fernet import Fernet

from tenantry.oauth import sealing

KEY = Fernet.generate_key()


def unseal(purpose: str, sealed: str, *, key: bytes = KEY, now: float = 1000) -> dict[str, object]:
    return sealing.unseal(purpose, sealed, key=key, now=now, lifetime_s=60)


def test_values_come_back_and_can_not_be_read_on_the_way():
    sealed = sealing.seal("login", {"query": "värde", "n": None}, key=KEY, now=1000)
    assert "query" not in sealed
    assert unseal("login", sealed, now=1060) == {"query": "värde", "n": None}


SEALED = sealing.seal("login", {}, key=KEY, now=1000)


@pytest.mark.parametrize(
    ("purpose", "sealed", "key", "now"),
    [
        ("consent", SEALED, KEY, 1000),
        ("login", SEALED, Fernet.generate_key(), 1000),
        ("login", SEALED, KEY, 1061),
        ("login", SEALED[:-1], KEY, 1000),
        ("login", SEALED[:20] + ("A" if SEALED[20] != "A" else "B") + SEALED[21:], KEY, 1000),
        ("login", "\udcff", KEY, 1000),
    ],
)
def test_a_seal_is_for_one_purpose_and_one_key_and_a_while(purpose: str, sealed: str, key: bytes, now: float):
    assert unseal("login", SEALED) == {}
    with pytest.raises(sealing.BrokenSeal):
        unseal(purpose, sealed, key=key, now=now)

"""Passwords: right, wrong, nobody's, too long, and how many at once."""

import argon2
import pytest
import trio

from tenantry.server import passwords
from tenantry.server.passwords import Busy, Passwords, hash_password

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("right")


async def test_only_the_right_password_is_right():
    verify = Passwords().verify
    assert await verify("right", CHEAP)
    assert not await verify("wrong", CHEAP)
    assert not await verify("", CHEAP)
    assert not await verify("right", "$argon2id$broken")
    assert not await verify("right", None)


async def test_a_hash_of_ours_verifies():
    hashed = hash_password("päss")
    assert hashed.startswith("$argon2id$")
    assert await Passwords().verify("päss", hashed)


async def test_nobody_costs_as_much_as_somebody(monkeypatch: pytest.MonkeyPatch):
    verified: list[str] = []
    verify = argon2.PasswordHasher.verify

    def watched(self: argon2.PasswordHasher, hashed: str, password: str) -> bool:
        verified.append(hashed)
        return verify(self, hashed, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
    assert not await Passwords().verify("right", None, decoy=CHEAP)
    assert not await Passwords().verify("right", None)
    assert verified == [CHEAP, passwords.NOBODY]


async def test_the_length_of_a_password_is_bounded():
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x" * 1025)
    assert not await Passwords().verify("x" * 1025, hashed)
    with pytest.raises(ValueError, match="1024"):
        hash_password("ä" * 513)


async def test_too_many_waiting_are_turned_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passwords, "WAITING_MAX", 3)
    monkeypatch.setattr(passwords, "AT_ONCE", 2)
    verifier = Passwords()
    outcomes: list[str] = []

    async def verify() -> None:
        try:
            outcomes.append(str(await verifier.verify("right", None)))
        except Busy:
            outcomes.append("busy")

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(verify)
    assert sorted(outcomes) == ["False"] * 5 + ["busy"] * 3


async def test_a_password_that_is_too_long_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    def hashed(*_arguments: object) -> bool:
        raise AssertionError("it must be refused before it is hashed")

    monkeypatch.setattr(passwords, "_matches", hashed)
    monkeypatch.setattr(passwords, "WAITING_MAX", 0)
    assert not await Passwords().verify("x" * 1025, CHEAP)
    assert not await Passwords().verify("x" * 1_000_000, None)


def test_what_is_verified_for_nobody_costs_what_a_new_hash_costs():
    def cost(hashed: str) -> argon2.Parameters:
        return argon2.extract_parameters(hashed)

    assert cost(passwords.NOBODY) == cost(hash_password("any"))

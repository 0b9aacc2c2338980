"""The keys that access tokens are signed with, one after the other: which one signs, which ones verify, and when.

Where a key stands follows from the times that are kept of it, so that every process knows at the same moment, and
nobody has to be awake for it. A key is published before it signs, so that whoever caches the key set has it by then;
when the next one signs it goes on verifying until the last access token that it signed has expired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from tenantry.oauth.access_token import LEEWAY_S, MAX_LIFETIME_S
from tenantry.oauth.jwk import SigningKey

# No shorter than any access token lives.
OVERLAP_S = MAX_LIFETIME_S + LEEWAY_S
FOREVER = float("inf")


class State(Enum):
    """Where a key stands."""

    PENDING = "pending"
    """Published; it does not sign yet, and what claims to be signed by it is refused."""
    ACTIVE = "active"
    """It signs."""
    RETIRING = "retiring"
    """It verifies what it signed."""
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key and its times, in seconds since the epoch."""

    kid: str
    private_key: EllipticCurvePrivateKey
    signs_from: float
    retired_at: float | None = None
    """When an operator took it away before its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A key, where it stands, and until when."""

    key: Key
    state: State
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The key set as it is until a moment, in seconds since the epoch."""

    signing: SigningKey
    verification: Mapping[str, EllipticCurvePublicKey]
    """Every key by which an access token may be signed, by `kid`."""
    published: Mapping[str, EllipticCurvePublicKey]
    """The same, and those whose time is still to come."""
    until: float


def standings(keys: Sequence[Key], now: float) -> list[Standing]:
    """Say of each key where it stands; `keys` are in the order in which they sign."""
    found: list[Standing] = []
    successor = FOREVER  # when the next key that was not taken away signs
    for key in reversed(keys):
        state, until = _standing(key, successor, now)
        found.append(Standing(key=key, state=state, until=until))
        if key.retired_at is None:
            successor = key.signs_from
    return found[::-1]


def _standing(key: Key, successor: float, now: float) -> tuple[State, float]:
    if key.retired_at is not None or now >= successor + OVERLAP_S:
        return State.RETIRED, FOREVER
    if now < key.signs_from:
        return State.PENDING, key.signs_from
    return (State.ACTIVE, successor) if now < successor else (State.RETIRING, successor + OVERLAP_S)


def snapshot(keys: Sequence[Key], now: float) -> Snapshot:
    """Gather what signs and verifies now; raises LookupError where no key signs."""
    found = standings(keys, now)
    active = [each.key for each in found if each.state is State.ACTIVE]
    if not active:
        raise LookupError("there is no key to sign with")

    def public(*states: State) -> dict[str, EllipticCurvePublicKey]:
        return {each.key.kid: each.key.private_key.public_key() for each in found if each.state in states}

    return Snapshot(
        signing=SigningKey(kid=active[-1].kid, private_key=active[-1].private_key),
        verification=public(State.ACTIVE, State.RETIRING),
        published=public(State.PENDING, State.ACTIVE, State.RETIRING),
        until=min(each.until for each in found),
    )

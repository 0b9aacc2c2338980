"""The authorization server's secrets: made at the first start, kept in the store, the same after a restart."""

import os
from collections.abc import Callable, Sequence

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from tenantry.oauth import jwk, key_set
from tenantry.oauth.key_set import Key, Snapshot
from tenantry.server.feed import Feed
from tenantry.server.store import Store
from tenantry.server.store.announcements import Announcement, Kind
from tenantry.server.store.signing_keys import StoredKey, read


def new_key(*, signs_from: float) -> StoredKey:
    """Draw a new key."""
    return _stored(ec.generate_private_key(ec.SECP256R1()), signs_from)


def stored_keys(store: Store) -> list[Key]:
    """All keys, in the order in which they sign. Blocking, for less than a millisecond."""
    return [
        Key(
            kid=each.kid,
            private_key=_private(each.private),
            signs_from=each.signs_from,
            retired_at=each.retired_at,
        )
        for each in store.announcements.ask(read)
    ]


class SigningKeys:
    """What access tokens, successors of refresh tokens and forms are signed with.

    Blocking where it is made: for start-up. `clock` gives seconds since the epoch.
    """

    def __init__(self, store: Store, *, feed: Feed, clock: Callable[[], float]) -> None:
        self._store = store
        self._feed = feed
        self._clock = clock
        now = int(clock())
        store.signing_keys.begin(lambda old: new_key(signs_from=now) if old is None else _stored(_private(old), now))
        self._keys = stored_keys(store)
        self._snapshot = key_set.snapshot(self._keys, clock())
        self.refresh_secret = store.secrets.get("refresh-successor", make=lambda: os.urandom(32), now=now)
        self.seal_key = store.secrets.get("form-seal", make=Fernet.generate_key, now=now)
        feed.subscribe(self._hear, Kind.KEYS_CHANGED)

    def _hear(self, _: Sequence[Announcement]) -> None:
        self._keys = stored_keys(self._store)
        self._snapshot = key_set.snapshot(self._keys, self._clock())

    @property
    def now(self) -> Snapshot:
        """The key set as it is now, as far as the feed was heard; the same object until it changes."""
        if self._clock() >= self._snapshot.until:
            self._snapshot = key_set.snapshot(self._keys, self._clock())
        return self._snapshot

    def document(self) -> dict[str, object]:
        """The public keys as a JWK Set."""
        self._feed.look()
        return jwk.key_set(self.now.published)


def _stored(private_key: ec.EllipticCurvePrivateKey, signs_from: float) -> StoredKey:
    encoded = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return StoredKey(kid=jwk.thumbprint(private_key.public_key()), private=encoded, signs_from=signs_from)


def _private(encoded: bytes) -> ec.EllipticCurvePrivateKey:
    private_key = load_der_private_key(encoded, None)
    if not isinstance(private_key, ec.EllipticCurvePrivateKey):
        raise TypeError("a stored signing key is no EC key")
    return private_key

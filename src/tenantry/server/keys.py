"""The authorization server's secrets: made at the first start, kept in the store, the same after a restart."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from tenantry.oauth import jwk
from tenantry.server.store import Store


def _new_signing_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """What access tokens, successors of refresh tokens and forms are signed with."""

    signing: jwk.SigningKey
    verification: Mapping[str, ec.EllipticCurvePublicKey]
    """Every key by which an access token may be signed, by `kid`; more than one during a rotation."""
    refresh_secret: bytes
    seal_key: bytes

    @classmethod
    def load(cls, store: Store, *, now: int) -> "SigningKeys":
        """Take the secrets out of the store, making those that are not there yet; `now` in seconds.

        Blocking: for start-up.
        """
        private = load_der_private_key(store.secrets.get("access-token-es256", make=_new_signing_key, now=now), None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise TypeError("the stored signing key is no EC key")
        kid = jwk.thumbprint(private.public_key())
        return cls(
            signing=jwk.SigningKey(kid=kid, private_key=private),
            verification={kid: private.public_key()},
            refresh_secret=store.secrets.get("refresh-successor", make=lambda: os.urandom(32), now=now),
            seal_key=store.secrets.get("form-seal", make=Fernet.generate_key, now=now),
        )

    def key_set(self) -> dict[str, object]:
        """The public keys as a JWK Set."""
        return jwk.key_set(self.verification)

"""Passwords: argon2id in threads, a bounded number at once, the same cost for everybody."""

import os

import argon2
import trio

# One verify takes some 64 MiB and 100 ms of a core. Half of the cores stay free for everybody else's calls.
AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
WAITING_MAX = 64
MAX_BYTES = 1024

# Stands in where there is nobody at all. Its password was random and is not known.
NOBODY = "$argon2id$v=19$m=65536,t=3,p=1$l70j9kOlG9a//kyWv7ea+w$LZGsZJw+PXksgikNESpZTe4UMrmAYptGgEVrDp+Trn4"

# The library's own cost (RFC 9106 section 4, second choice) in one lane: lanes are threads, which AT_ONCE bounds.
_HASHER = argon2.PasswordHasher(parallelism=1)


class Busy(Exception):
    """Too many passwords are waiting to be verified."""


class Passwords:
    """Verifies passwords against argon2id hashes."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(AT_ONCE)

    async def verify(self, password: str, password_hash: str | None, *, decoy: str = NOBODY) -> bool:
        """Tell whether the password is right; `None` stands for a user who is not there.

        `decoy` is verified then, so that the time tells nothing: a hash with the parameters of the real ones. Raises
        `Busy` where too many wait already.
        """
        if len(password.encode("utf-8", "replace")) > MAX_BYTES:
            return False
        if self._limiter.statistics().tasks_waiting >= WAITING_MAX:
            raise Busy
        matches = await trio.to_thread.run_sync(_matches, password, password_hash or decoy, limiter=self._limiter)
        return matches and password_hash is not None


def _matches(password: str, password_hash: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def hash_password(password: str) -> str:
    """The argon2id hash to put into the configuration. Blocking; raises ValueError for one over 1 KiB."""
    if len(password.encode("utf-8")) > MAX_BYTES:
        raise ValueError(f"a password has at most {MAX_BYTES} bytes")
    return _HASHER.hash(password)

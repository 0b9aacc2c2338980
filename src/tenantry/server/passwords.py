"""Passwords: argon2id in threads, a bounded number at once, the same cost for everybody."""

import argon2
import trio

# One verify takes some 64 MiB and 100 ms of a core.
AT_ONCE = 2
WAITING_MAX = 64
MAX_BYTES = 1024

# Stands in where nobody is configured. Its password was random and is not known.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$VfeRrMXlWm5Xu54OMlobKw$jXTRSLn6ggamoAGm5kwYSJfMVNKB3mJzQAbcLesgWUc"


class Busy(Exception):
    """Too many passwords are waiting to be verified."""


class Passwords:
    """Verifies passwords against argon2id hashes.

    `decoy` is verified where the user is unknown, so that the time tells nothing: a hash with the parameters of
    the real ones, best one of them.
    """

    def __init__(self, decoy: str | None = None) -> None:
        self._decoy = decoy or _NOBODY
        self._hasher = argon2.PasswordHasher()
        self._limiter = trio.CapacityLimiter(AT_ONCE)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Tell whether the password is right; `None` stands for a user who is not there and costs as much.

        Raises `Busy` where too many wait already.
        """
        if self._limiter.statistics().tasks_waiting >= WAITING_MAX:
            raise Busy
        if len(password.encode("utf-8", "replace")) > MAX_BYTES:
            return False
        return await trio.to_thread.run_sync(self._check, password, password_hash, limiter=self._limiter)

    def _check(self, password: str, password_hash: str | None) -> bool:
        try:
            self._hasher.verify(password_hash or self._decoy, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return password_hash is not None


def hash_password(password: str) -> str:
    """The argon2id hash to put into the configuration. Blocking; raises ValueError for one over 1 KiB."""
    if len(password.encode("utf-8")) > MAX_BYTES:
        raise ValueError(f"a password has at most {MAX_BYTES} bytes")
    return argon2.PasswordHasher().hash(password)

"""The key that a log's checkpoints are signed with: a file beside the log, which also says who may write to it."""

import errno
import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path

from tenantry.audit.checkpoint import BadKey, SignerKey, VerifierKey

_LONGEST = 4096


class AuditLogInUse(Exception):
    """Another process writes to this log."""


def name_of(log: Path) -> str:
    """Give the name of the log in `audit-NAME.db`."""
    return log.stem.removeprefix("audit-")


def key_file(log: Path) -> Path:
    """Give where the key of a log is."""
    return log.with_suffix(".key")


class HeldKey:
    """A log's key, and the lock on it: who holds it is the one writer of the log."""

    def __init__(self, log: Path, *, host: str | None, wait: bool = False) -> None:
        """Take the key of the log at `log`, making it where there is none; its name is the log's origin for ever.

        A new one is named after `host`, or after the host that another log in the directory has its name from.
        Raises `AuditLogInUse` where another process has it, unless `wait`; OSError and `BadKey` where it can't be
        read or made.
        """
        path = key_file(log)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            text = os.pread(self._descriptor, _LONGEST, 0).decode(errors="replace")
            if not text.endswith("\n") and not log.exists():
                # Not there, or torn by a power cut: the key is durable before the log has a file.
                origin = f"{host or _host_in(path.parent)}/tenantry/audit/{name_of(log)}"
                self.key = SignerKey.of(origin, secrets.token_bytes(32))
                self._keep(path.parent)
            else:
                self.key = SignerKey.parse(text)
        except BlockingIOError:
            self.release()
            raise AuditLogInUse(f"{log}: another process writes to it") from None
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let another process write."""
        os.close(self._descriptor)

    def _keep(self, directory: Path) -> None:
        text = f"{self.key.secret_text()}\n".encode()
        os.ftruncate(self._descriptor, 0)
        if os.pwrite(self._descriptor, text, 0) != len(text):
            raise OSError(errno.ENOSPC, "the key could not be written whole")
        os.fsync(self._descriptor)
        flush_directory(directory)


def _host_in(directory: Path) -> str:
    for path in sorted(directory.glob("audit-*.key")):
        with suppress(BadKey, OSError):
            return SignerKey.parse(path.read_text()).name.partition("/")[0]
    return "localhost"


def read_verifier(log: Path) -> VerifierKey:
    """Give the public half of a log's key; raises OSError and `BadKey`."""
    try:
        return SignerKey.parse(key_file(log).read_text()).verifier
    except UnicodeDecodeError:
        raise BadKey("it is no private key") from None


def flush_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""`tenantry hash-password`."""

import getpass
import sys

from tenantry.server import passwords


def hash_password() -> int:
    """Ask for a password, or read it from a pipe, and print the hash that the configuration keeps of it."""
    try:
        print(ask_for_hash())
    except ValueError as error:
        print(f"tenantry: {error}", file=sys.stderr)
        return 2
    return 0


def ask_for_hash() -> str:
    """Ask for a password, or read it from a pipe, and give its hash; raises ValueError for one that can't be used."""
    if sys.stdin.isatty():
        password = getpass.getpass()
        if password != getpass.getpass("Again: "):
            raise ValueError("these were two different passwords")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise ValueError("no password was given")
    return passwords.hash_password(password)

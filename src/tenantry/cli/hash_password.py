"""`tenantry hash-password`."""

import getpass
import sys

from tenantry.server import passwords


def hash_password() -> int:
    """Ask for a password, or read it from a pipe, and print the hash that the configuration keeps of it."""
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not password:
        print("tenantry: no password was given", file=sys.stderr)
        return 2
    try:
        print(passwords.hash_password(password))
    except ValueError as error:
        print(f"tenantry: {error}", file=sys.stderr)
        return 2
    return 0

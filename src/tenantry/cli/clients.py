"""`tenantry clients`: the OAuth clients of a server."""

import hashlib
import secrets

from cyclopts import App

clients = App(name="clients", help="Look after the OAuth clients of a server.")


@clients.command
def invite() -> int:
    """Make an initial access token for registration, and the line of the configuration that admits it.

    The token is shown this once and kept nowhere: the configuration holds its digest alone.
    """
    token = secrets.token_urlsafe(32)
    digest = hashlib.sha256(token.encode()).hexdigest()
    print(f"token, for whoever may register a client:  {token}")
    print("configuration, under [clients], and then a restart:")
    print('registration = "initial_access_token"')
    print(f'initial_access_tokens = ["{digest}"]')
    return 0

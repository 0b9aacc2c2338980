"""Whom the directory holds beside the configured people: what an operator added by command."""

from tenantry.policy import Directory, User
from tenantry.server.store import Store
from tenantry.server.store.clients import services


def peopled(configured: Directory, store: Store) -> Directory:
    """Add to the configured directory. Blocking, for some microseconds: for start-up and for changes."""
    accounts = store.announcements.ask(services)
    return configured.with_users(
        {
            client_id: User(tenant=account.tenant, scopes=frozenset(account.scopes))
            for client_id, account in accounts.items()
        }
    )

"""What the server must remember beside the audit log: SQLite in the data directory.

All SQL but the audit log's stands in this package, a file a subject, so that another database can stand beside it
later. Each change is one transaction whose statement repeats the condition that was decided on: no row changed
means that somebody was faster. Secrets (codes, refresh tokens, cookies, session ids) are kept by digest only.
"""

from collections.abc import Callable
from pathlib import Path

from tenantry.server.store.announcements import Announcements
from tenantry.server.store.clients import Clients
from tenantry.server.store.consents import Consents
from tenantry.server.store.database import Database, migrate, open_database
from tenantry.server.store.endings import Endings
from tenantry.server.store.grants import Grants
from tenantry.server.store.login_sessions import LoginSessions
from tenantry.server.store.mcp_sessions import McpSessions
from tenantry.server.store.migrations import MIGRATIONS
from tenantry.server.store.people import People
from tenantry.server.store.secrets import Secrets
from tenantry.server.store.signing_keys import SigningKeys
from tenantry.server.store.streams import Streams
from tenantry.server.store.tasks import Tasks


class Store:
    """The state database, by subject."""

    def __init__(self, database: Database, announcements: Announcements) -> None:
        self._database = database
        self.announcements = announcements
        self.secrets = Secrets(database)
        self.signing_keys = SigningKeys(database)
        self.mcp_sessions = McpSessions(database)
        self.streams = Streams(database)
        self.tasks = Tasks(database)
        self.clients = Clients(database)
        self.grants = Grants(database)
        self.consents = Consents(database)
        self.endings = Endings(database)
        self.people = People(database)
        self.login_sessions = LoginSessions(database)

    @classmethod
    def open(cls, path: Path, *, before_commit: Callable[[], None] = lambda: None) -> "Store":
        """Open the store, making it where there is none; raises as `open_database` and `migrate` do.

        What `before_commit` raises rolls a transaction back.
        """
        connection = open_database(path)
        migrate(connection, MIGRATIONS)
        return cls(Database(connection, before_commit=before_commit), Announcements(path))

    def close(self) -> None:
        """Close the file; nothing may be under way."""
        self.announcements.close()
        self._database.close()

    async def purge(self, *, now: float, family_s: float, idle_client_s: float) -> None:
        """Drop what can't be used any more.

        `family_s` is the absolute lifetime of a family, `idle_client_s` how long a client is kept that nobody
        uses, both in seconds.
        """
        await self.login_sessions.purge(now=now)
        await self.tasks.purge(now=now)
        await self.grants.purge(now=now, family_s=family_s)
        await self.consents.purge(before=now - family_s)
        await self.clients.purge(now=now, family_s=family_s, idle_s=idle_client_s)

"""How grants end: a family, a consent, a person's, a client's. What hangs on them ends in the same transaction."""

import sqlite3

from tenantry.server.store.announcements import Kind, announce
from tenantry.server.store.database import Database


class Endings:
    """Ends grants with their codes and MCP sessions, and tells every process of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def family(self, family_id: str, *, now: float) -> bool:
        """End one family for good, also one that was never stored; False if it has ended before."""

        def work(connection: sqlite3.Connection) -> bool:
            known = connection.execute("SELECT revoked_at FROM refresh_family WHERE family_id = ?", (family_id,))
            if any(revoked_at is not None for (revoked_at,) in known):
                return False
            _revoke(connection, now, family_id=family_id)
            _delete(connection, "mcp_session", family=family_id)
            announce(connection, Kind.FAMILY_REVOKED, now=now, families=[family_id])
            return True

        return await self._database.transaction(work)

    async def consent(self, tenant: str, subject: str, client_id: str, *, now: float) -> int:
        """End all that one person granted to one client; give how many families that were."""
        whose = {"tenant": tenant, "subject": subject}

        def work(connection: sqlite3.Connection) -> int:
            _delete(connection, "remembered_consent", **whose, client_id=client_id)
            _delete(connection, "unredeemed_code", **whose, client_id=client_id)
            families = _revoke(connection, now, **whose, client_id=client_id)
            _delete(connection, "mcp_session", **whose, client=client_id)
            announce(connection, Kind.CONSENT_WITHDRAWN, now=now, **whose, client=client_id, families=families)
            return len(families)

        return await self._database.transaction(work)

    async def subject(self, tenant: str, subject: str, *, now: float) -> int:
        """End all that a person granted, and their login sessions; give how many families that were."""
        return await self._database.transaction(lambda connection: end_subject(connection, tenant, subject, now=now))

    async def client(self, client_id: str, *, now: float) -> bool:
        """Forget a client and end all that was granted to it; False if there is no such client."""

        def work(connection: sqlite3.Connection) -> bool:
            _delete(connection, "remembered_consent", client_id=client_id)
            _delete(connection, "unredeemed_code", client_id=client_id)
            families = _revoke(connection, now, client_id=client_id)
            _delete(connection, "mcp_session", client=client_id)
            known = _delete(connection, "client", client_id=client_id)
            announce(connection, Kind.PEOPLE_CHANGED, now=now)  # it may have been a service account
            announce(connection, Kind.CLIENT_ENDED, now=now, client=client_id, families=families)
            return known > 0

        return await self._database.transaction(work)

    async def subjects(self) -> set[tuple[str, str]]:
        """Tenant and subject of everybody who has a grant that has not ended."""

        def work(connection: sqlite3.Connection) -> set[tuple[str, str]]:
            rows = connection.execute("SELECT DISTINCT tenant, subject FROM refresh_family WHERE revoked_at IS NULL")
            return set(rows.fetchall())

        return await self._database.read(work)


def end_subject(connection: sqlite3.Connection, tenant: str, subject: str, *, now: float) -> int:
    """What `Endings.subject` does, inside of a transaction that changes more."""
    whose = {"tenant": tenant, "subject": subject}
    for table in ("login_session", "remembered_consent", "unredeemed_code"):
        _delete(connection, table, **whose)
    families = _revoke(connection, now, **whose)
    _delete(connection, "mcp_session", **whose)
    announce(connection, Kind.SUBJECT_ENDED, now=now, **whose, families=families)
    return len(families)


def _revoke(connection: sqlite3.Connection, now: float, **where: str) -> list[str]:
    # Names of columns are written out by the callers above; all values are bound.
    query = f"UPDATE refresh_family SET revoked_at = ? WHERE revoked_at IS NULL{_and(where)} RETURNING family_id"  # noqa: S608
    return [family_id for (family_id,) in connection.execute(query, (now, *where.values())).fetchall()]


def _delete(connection: sqlite3.Connection, table: str, **where: str) -> int:
    source = "authorization_code WHERE redeemed_at IS NULL" if table == "unredeemed_code" else f"{table} WHERE true"
    return connection.execute(f"DELETE FROM {source}{_and(where)}", tuple(where.values())).rowcount  # noqa: S608


def _and(where: dict[str, str]) -> str:
    return "".join(f" AND {column} = ?" for column in where)

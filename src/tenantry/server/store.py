"""What the server must remember beside the audit log: SQLite in the data directory.

All SQL but the audit log's stands here, so that another database can stand beside it later. Each change is one
transaction whose statement repeats the condition that was decided on: no row changed means that somebody was
faster. Secrets (codes, refresh tokens, cookies, session ids) are kept by digest only.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio

from tenantry.jsonrpc import Id
from tenantry.mcp.session import Session, State
from tenantry.oauth.clients import Client, client_of
from tenantry.oauth.token import CodeGrant, RefreshGrant

T = TypeVar("T")

# Each entry takes the database one version further (PRAGMA user_version); entries are never edited, only added.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL, created_at INTEGER NOT NULL) STRICT;
    """,
    """
    CREATE TABLE mcp_session (
        digest BLOB PRIMARY KEY,
        tenant TEXT NOT NULL,
        subject TEXT NOT NULL,
        client TEXT NOT NULL,
        revision TEXT NOT NULL,
        state TEXT NOT NULL,
        last_seen INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX mcp_session_by_owner ON mcp_session (tenant, subject, last_seen);
    CREATE INDEX mcp_session_by_age ON mcp_session (last_seen);
    """,
    """
    CREATE TABLE client (
        client_id TEXT PRIMARY KEY,
        metadata TEXT NOT NULL,
        registered_at REAL NOT NULL,
        used_at REAL
    ) STRICT;
    CREATE TABLE authorization_code (
        digest TEXT PRIMARY KEY,
        consent_id TEXT NOT NULL UNIQUE,
        client_id TEXT NOT NULL,
        redirect_uri TEXT NOT NULL,
        challenge TEXT NOT NULL,
        scope TEXT NOT NULL,
        tenant TEXT NOT NULL,
        subject TEXT NOT NULL,
        family_id TEXT NOT NULL,
        expires_at REAL NOT NULL,
        redeemed_at REAL
    ) STRICT;
    CREATE TABLE refresh_family (
        family_id TEXT PRIMARY KEY,
        client_id TEXT NOT NULL,
        scope TEXT NOT NULL,
        tenant TEXT NOT NULL,
        subject TEXT NOT NULL,
        created_at REAL NOT NULL,
        revoked_at REAL
    ) STRICT;
    CREATE INDEX refresh_family_by_client ON refresh_family (client_id);
    CREATE INDEX refresh_family_revoked ON refresh_family (revoked_at) WHERE revoked_at IS NOT NULL;
    CREATE TABLE refresh_token (
        digest TEXT PRIMARY KEY,
        family_id TEXT NOT NULL REFERENCES refresh_family ON DELETE CASCADE,
        issued_at REAL NOT NULL,
        rotated_at REAL
    ) STRICT;
    CREATE INDEX refresh_token_by_family ON refresh_token (family_id);
    CREATE TABLE login_session (
        digest TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        subject TEXT NOT NULL,
        expires_at REAL NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE mcp_session ADD COLUMN client_side TEXT NOT NULL DEFAULT '{}';
    CREATE TABLE mcp_stream (
        session BLOB NOT NULL REFERENCES mcp_session ON DELETE CASCADE,
        name TEXT NOT NULL,
        request_id TEXT NOT NULL,
        finished INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (session, name)
    ) STRICT;
    CREATE TABLE mcp_event (
        seq INTEGER PRIMARY KEY,
        session BLOB NOT NULL,
        stream TEXT NOT NULL,
        number INTEGER NOT NULL,
        message BLOB NOT NULL,
        UNIQUE (session, stream, number),
        FOREIGN KEY (session, stream) REFERENCES mcp_stream ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX mcp_event_by_session ON mcp_event (session, seq);
    CREATE TABLE task (
        id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        subject TEXT NOT NULL,
        client TEXT NOT NULL,
        expires_at REAL NOT NULL,
        body TEXT NOT NULL,
        ended INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX task_by_age ON task (expires_at);
    """,
)
BUSY_TIMEOUT_S = 10
# A redeemed code is remembered for a day, so that its replay still revokes what it gave.
REPLAY_MEMORY_S = 86_400
# A registration that nobody ever consented to.
UNUSED_CLIENT_S = 7 * 86_400


def open_database(path: Path) -> sqlite3.Connection:
    """Open or make a SQLite file that only its owner can read, in WAL mode with a flush at each commit.

    Raises OSError or sqlite3.Error where that can't be done.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def migrate(connection: sqlite3.Connection, migrations: tuple[str, ...]) -> None:
    """Bring the schema up to date, one transaction a step.

    Raises RuntimeError where the file was written by a newer tenantry.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise RuntimeError(f"the database has version {version}; this tenantry knows {len(migrations)}")
    for number, script in enumerate(migrations[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT")


@dataclass(frozen=True, slots=True)
class StoredStream:
    """One stream of a session: what it answers, None for the standalone one, and whether it is over."""

    request_id: Id | None
    finished: bool


@dataclass(slots=True, kw_only=True)
class StoredTask:
    """One task as it is kept: whose it is, and what `tasks/get` says of it."""

    id: str
    binding: tuple[str, str, str]
    expires_at: float
    """Seconds since the epoch."""
    body: dict[str, Any]
    ended: bool = False


class Store:
    """Every question and every change, each a method; all of them run in one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._one_at_a_time = trio.CapacityLimiter(1)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the store, making it where there is none; raises as `open_database` and `migrate` do."""
        connection = open_database(path)
        migrate(connection, MIGRATIONS)
        return cls(connection)

    def close(self) -> None:
        """Close the file; nothing may be under way."""
        self._connection.close()

    async def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` inside one durable transaction; whatever it raises rolls everything back.

        Not abandoned when cancelled: half of a change is not an outcome.
        """

        def run() -> T:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            return result

        return await trio.to_thread.run_sync(run, limiter=self._one_at_a_time)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a question that changes nothing."""
        return await trio.to_thread.run_sync(lambda: work(self._connection), limiter=self._one_at_a_time)

    def secret(self, name: str, *, make: Callable[[], bytes], now: int) -> bytes:
        """Give back the secret of that name, keeping what `make` gives where there is none yet.

        Blocking: for start-up, before anything is served.
        """
        self._connection.execute("INSERT OR IGNORE INTO secret VALUES (?, ?, ?)", (name, make(), now))
        (value,) = self._connection.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
        return bytes(value)

    # --- MCP sessions

    async def add_mcp_session(self, session: Session, *, per_tenant: int, per_person: int) -> list[bytes]:
        """Keep a new session; end those unheard of for longest beyond the caps, and give their digests."""
        tenant, subject, client = session.binding

        def work(connection: sqlite3.Connection) -> list[bytes]:
            connection.execute(
                "INSERT INTO mcp_session VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(session.digest, tenant, subject, client, session.revision, session.state.value),
                    *(session.last_seen, _client_side(session)),
                ),
            )
            surplus = _surplus(connection, "tenant = ? AND subject = ?", (tenant, subject), per_person)
            surplus += _surplus(connection, "tenant = ?", (tenant,), per_tenant)
            return surplus

        return await self._transaction(work)

    async def find_mcp_session(self, digest: bytes) -> Session | None:
        """Give the session of that digest."""

        def work(connection: sqlite3.Connection) -> Session | None:
            row = connection.execute("SELECT * FROM mcp_session WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                return None
            _, tenant, subject, client, revision, state, last_seen, side = row
            kept = json.loads(side)
            return Session(
                digest=digest,
                binding=(tenant, subject, client),
                revision=revision,
                state=State(state),
                last_seen=last_seen,
                capabilities=kept.get("capabilities", {}),
                log_level=kept.get("log_level"),
                subscriptions=set(kept.get("subscriptions", [])),
            )

        return await self._read(work)

    async def touch_mcp_sessions(self, sessions: Sequence[Session]) -> None:
        """Note the state of sessions and when they were last seen; one that was ended meanwhile stays ended."""
        rows = [(session.state.value, session.last_seen, _client_side(session), session.digest) for session in sessions]
        await self._transaction(
            lambda connection: connection.executemany(
                "UPDATE mcp_session SET state = ?, last_seen = ?, client_side = ? WHERE digest = ?", rows
            )
        )

    async def end_mcp_session(self, digest: bytes) -> None:
        """Forget a session."""
        await self._transaction(
            lambda connection: connection.execute("DELETE FROM mcp_session WHERE digest = ?", (digest,))
        )

    async def expire_mcp_sessions(self, before: int) -> list[bytes]:
        """Forget the sessions last seen before then (seconds since the epoch), and give their digests."""
        return await self._transaction(
            lambda connection: [
                row[0]
                for row in connection.execute(
                    "DELETE FROM mcp_session WHERE last_seen < ? RETURNING digest", (before,)
                ).fetchall()
            ]
        )

    # --- what was sent on their streams

    async def open_stream(self, session: bytes, name: str, request_id: Id | None) -> int:
        """Begin a stream, or go on with it; give the number of its last event, 0 where it has none."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(
                "INSERT INTO mcp_stream (session, name, request_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (session, name, json.dumps(request_id)),
            )
            (last,) = connection.execute(
                "SELECT coalesce(max(number), 0) FROM mcp_event WHERE session = ? AND stream = ?", (session, name)
            ).fetchone()
            return int(last)

        return await self._transaction(work)

    async def add_event(
        self, session: bytes, stream: str, number: int, message: bytes, *, final: bool, keep: int
    ) -> None:
        """Keep one event; the session's oldest beyond `keep` give way. One of a session that has ended is dropped."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO mcp_event (session, stream, number, message) SELECT session, name, ?, ? FROM mcp_stream"
                " WHERE session = ? AND name = ?",
                (number, message, session, stream),
            )
            connection.execute(
                "DELETE FROM mcp_event WHERE seq IN"
                " (SELECT seq FROM mcp_event WHERE session = ? ORDER BY seq DESC LIMIT -1 OFFSET ?)",
                (session, keep),
            )
            if final:
                connection.execute(
                    "UPDATE mcp_stream SET finished = 1 WHERE session = ? AND name = ?", (session, stream)
                )
                connection.execute(
                    "DELETE FROM mcp_stream WHERE session = ? AND finished AND NOT EXISTS"
                    " (SELECT 1 FROM mcp_event WHERE session = mcp_stream.session AND stream = mcp_stream.name)",
                    (session,),
                )

        await self._transaction(work)

    async def finish_stream(self, session: bytes, name: str) -> None:
        """Note that nothing follows on a stream."""
        await self._transaction(
            lambda connection: connection.execute(
                "UPDATE mcp_stream SET finished = 1 WHERE session = ? AND name = ?", (session, name)
            )
        )

    async def find_stream(self, session: bytes, name: str) -> StoredStream | None:
        """Give a stream of a session."""

        def work(connection: sqlite3.Connection) -> StoredStream | None:
            row = connection.execute(
                "SELECT request_id, finished FROM mcp_stream WHERE session = ? AND name = ?", (session, name)
            ).fetchone()
            return None if row is None else StoredStream(json.loads(row[0]), finished=bool(row[1]))

        return await self._read(work)

    async def read_events(self, session: bytes, stream: str, after: int) -> tuple[list[tuple[int, bytes]], bool]:
        """Give the events behind a number, and whether the stream is finished."""

        def work(connection: sqlite3.Connection) -> tuple[list[tuple[int, bytes]], bool]:
            rows = connection.execute(
                "SELECT number, message FROM mcp_event WHERE session = ? AND stream = ? AND number > ? ORDER BY number",
                (session, stream, after),
            ).fetchall()
            ended = connection.execute(
                "SELECT finished FROM mcp_stream WHERE session = ? AND name = ?", (session, stream)
            ).fetchone()
            return rows, ended is None or bool(ended[0])

        return await self._read(work)

    # --- tasks

    async def save_task(self, task: StoredTask) -> None:
        """Keep a task as it stands; one that has ended stays as it ended."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " expires_at = excluded.expires_at, body = excluded.body, ended = excluded.ended WHERE NOT task.ended",
                (task.id, *task.binding, task.expires_at, json.dumps(task.body), task.ended),
            )

        await self._transaction(work)

    async def find_task(self, id_: str, binding: tuple[str, str, str]) -> StoredTask | None:
        """Give a task of that tenant, subject and client; anybody else's is not found."""

        def work(connection: sqlite3.Connection) -> StoredTask | None:
            row = connection.execute(
                "SELECT expires_at, body, ended FROM task WHERE id = ? AND tenant = ? AND subject = ? AND client = ?",
                (id_, *binding),
            ).fetchone()
            if row is None:
                return None
            return StoredTask(id=id_, binding=binding, expires_at=row[0], body=json.loads(row[1]), ended=bool(row[2]))

        return await self._read(work)

    async def unended_tasks(self) -> list[StoredTask]:
        """Give all tasks that have not ended."""

        def work(connection: sqlite3.Connection) -> list[StoredTask]:
            rows = connection.execute(
                "SELECT id, tenant, subject, client, expires_at, body FROM task WHERE NOT ended"
            ).fetchall()
            return [
                StoredTask(id=row[0], binding=(row[1], row[2], row[3]), expires_at=row[4], body=json.loads(row[5]))
                for row in rows
            ]

        return await self._read(work)

    async def expire_tasks(self, now: float) -> None:
        """Forget the tasks whose time is over."""
        await self._transaction(
            lambda connection: connection.execute("DELETE FROM task WHERE expires_at < ? AND ended", (now,))
        )

    async def add_client(self, client_id: str, metadata: dict[str, Any], *, now: float) -> None:
        """Keep a registered client."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO client (client_id, metadata, registered_at) VALUES (?, ?, ?)",
                (client_id, json.dumps(metadata), now),
            )

        await self._transaction(work)

    async def find_client(self, client_id: str) -> Client | None:
        """The client of that id, or None."""

        def work(connection: sqlite3.Connection) -> Client | None:
            query = "SELECT metadata FROM client WHERE client_id = ?"
            row = connection.execute(query, (client_id,)).fetchone()
            return None if row is None else client_of(client_id, json.loads(row[0]))

        return await self._read(work)

    async def add_code(self, digest: str, grant: CodeGrant, *, consent_id: str, now: float) -> bool:
        """Keep an authorization code; False if that consent has given one before."""

        def work(connection: sqlite3.Connection) -> bool:
            inserted = connection.execute(
                "INSERT INTO authorization_code (digest, consent_id, client_id, redirect_uri, challenge, scope, tenant,"
                " subject, family_id, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    *(digest, consent_id, grant.client_id, grant.redirect_uri, grant.challenge),
                    *(" ".join(grant.scopes), grant.tenant, grant.subject, grant.family_id, grant.expires_at),
                ),
            )
            connection.execute("UPDATE client SET used_at = ? WHERE client_id = ?", (now, grant.client_id))
            return inserted.rowcount == 1

        return await self._transaction(work)

    async def find_code(self, digest: str) -> CodeGrant | None:
        """The authorization code of that digest, redeemed ones too, or None."""

        def work(connection: sqlite3.Connection) -> CodeGrant | None:
            row = connection.execute(
                "SELECT client_id, redirect_uri, challenge, scope, tenant, subject, family_id, expires_at, redeemed_at"
                " FROM authorization_code WHERE digest = ?",
                (digest,),
            ).fetchone()
            if row is None:
                return None
            return CodeGrant(
                client_id=row[0],
                redirect_uri=row[1],
                challenge=row[2],
                scopes=tuple(row[3].split()),
                tenant=row[4],
                subject=row[5],
                family_id=row[6],
                expires_at=row[7],
                redeemed=row[8] is not None,
            )

        return await self._read(work)

    async def redeem_code(self, digest: str, *, refresh_digest: str | None, now: float) -> bool:
        """Redeem a code and begin its refresh family; False if somebody was faster, and nothing has changed."""

        def work(connection: sqlite3.Connection) -> bool:
            redeemed = connection.execute(
                "UPDATE authorization_code SET redeemed_at = ? WHERE digest = ? AND redeemed_at IS NULL RETURNING"
                " family_id, client_id, scope, tenant, subject",
                (now, digest),
            ).fetchone()
            if redeemed is None:
                return False
            connection.execute(
                "INSERT INTO refresh_family (family_id, client_id, scope, tenant, subject, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (*redeemed, now),
            )
            if refresh_digest is not None:
                _insert_refresh_token(connection, refresh_digest, redeemed[0], now)
            return True

        return await self._transaction(work)

    async def find_refresh_token(self, digest: str) -> RefreshGrant | None:
        """The refresh token of that digest with its family, rotated and revoked ones too, or None."""

        def work(connection: sqlite3.Connection) -> RefreshGrant | None:
            row = connection.execute(
                "SELECT client_id, scope, tenant, subject, family_id, created_at, revoked_at, issued_at, rotated_at"
                " FROM refresh_token JOIN refresh_family USING (family_id) WHERE digest = ?",
                (digest,),
            ).fetchone()
            if row is None:
                return None
            return RefreshGrant(
                client_id=row[0],
                scopes=tuple(row[1].split()),
                tenant=row[2],
                subject=row[3],
                family_id=row[4],
                family_created_at=row[5],
                family_revoked=row[6] is not None,
                issued_at=row[7],
                rotated_at=row[8],
            )

        return await self._read(work)

    async def rotate_refresh_token(self, digest: str, *, successor_digest: str, now: float) -> bool:
        """Put the successor in the place of a refresh token; False if it is rotated or revoked already."""

        def work(connection: sqlite3.Connection) -> bool:
            rotated = connection.execute(
                "UPDATE refresh_token SET rotated_at = ? WHERE digest = ? AND rotated_at IS NULL AND family_id IN"
                " (SELECT family_id FROM refresh_family WHERE revoked_at IS NULL) RETURNING family_id",
                (now, digest),
            ).fetchone()
            if rotated is None:
                return False
            _insert_refresh_token(connection, successor_digest, rotated[0], now)
            connection.execute(
                "UPDATE client SET used_at = ? WHERE client_id ="
                " (SELECT client_id FROM refresh_family WHERE family_id = ?)",
                (now, rotated[0]),
            )
            return True

        return await self._transaction(work)

    async def revoke_family(self, family_id: str, *, now: float) -> bool:
        """End a refresh family for good; False if there is none that is alive."""

        def work(connection: sqlite3.Connection) -> bool:
            query = "UPDATE refresh_family SET revoked_at = ? WHERE family_id = ? AND revoked_at IS NULL"
            return connection.execute(query, (now, family_id)).rowcount == 1

        return await self._transaction(work)

    def revoked_families(self, *, since: float) -> list[tuple[str, float]]:
        """The families revoked since then, oldest first, each with its time. Blocking: for start-up."""
        query = "SELECT family_id, revoked_at FROM refresh_family WHERE revoked_at >= ? ORDER BY revoked_at"
        return list(self._connection.execute(query, (since,)))

    async def add_login_session(
        self, digest: str, *, tenant: str, subject: str, expires_at: float, instead_of: str | None
    ) -> None:
        """Begin a login session, ending the one that the browser had before."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_session WHERE digest = ?", (instead_of,))
            connection.execute("INSERT INTO login_session VALUES (?, ?, ?, ?)", (digest, tenant, subject, expires_at))

        await self._transaction(work)

    async def find_login_session(self, digest: str, *, now: float) -> tuple[str, str] | None:
        """Tenant and subject of a login session that has not expired, or None."""

        def work(connection: sqlite3.Connection) -> tuple[str, str] | None:
            query = "SELECT tenant, subject FROM login_session WHERE digest = ? AND expires_at > ?"
            row = connection.execute(query, (digest, now)).fetchone()
            return None if row is None else (row[0], row[1])

        return await self._read(work)

    async def end_login_session(self, digest: str) -> None:
        """Forget a login session."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_session WHERE digest = ?", (digest,))

        await self._transaction(work)

    async def purge_oauth(self, *, now: float, family_s: float) -> None:
        """Drop what can't be used any more; `family_s` is the absolute lifetime of a family in seconds.

        A client that somebody consented to is kept for as long as a family may live, because clients keep their
        id and take its loss for a failure of the server.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_session WHERE expires_at <= ?", (now,))
            connection.execute("DELETE FROM authorization_code WHERE expires_at <= ?", (now - REPLAY_MEMORY_S,))
            connection.execute("DELETE FROM refresh_family WHERE created_at <= ?", (now - family_s - REPLAY_MEMORY_S,))
            connection.execute(
                "DELETE FROM client WHERE coalesce(used_at + ?, registered_at + ?) <= ? AND NOT EXISTS"
                " (SELECT 1 FROM refresh_family WHERE refresh_family.client_id = client.client_id)",
                (family_s, UNUSED_CLIENT_S, now),
            )

        await self._transaction(work)


def _insert_refresh_token(connection: sqlite3.Connection, digest: str, family_id: str, now: float) -> None:
    connection.execute(
        "INSERT INTO refresh_token (digest, family_id, issued_at) VALUES (?, ?, ?)", (digest, family_id, now)
    )


def _surplus(connection: sqlite3.Connection, condition: str, values: tuple[str, ...], keep: int) -> list[bytes]:
    # `condition` is one of two constants above; all values are bound.
    return [
        row[0]
        for row in connection.execute(
            f"DELETE FROM mcp_session WHERE digest IN (SELECT digest FROM mcp_session WHERE {condition}"  # noqa: S608
            " ORDER BY last_seen DESC, rowid DESC LIMIT -1 OFFSET ?) RETURNING digest",
            (*values, keep),
        ).fetchall()
    ]


def _client_side(session: Session) -> str:
    return json.dumps(
        {
            "capabilities": session.capabilities,
            "log_level": session.log_level,
            "subscriptions": sorted(session.subscriptions),
        }
    )

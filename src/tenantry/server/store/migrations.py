"""The schema of the state database, as the steps that lead to it."""

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
    """
    CREATE TABLE remembered_consent (
        tenant TEXT NOT NULL,
        subject TEXT NOT NULL,
        client_id TEXT NOT NULL,
        redirect_uri TEXT NOT NULL,
        scope TEXT NOT NULL,
        granted_at REAL NOT NULL,
        PRIMARY KEY (tenant, subject, client_id, redirect_uri)
    ) STRICT;
    """,
    """
    ALTER TABLE client ADD COLUMN unused_until REAL;
    ALTER TABLE client ADD COLUMN network TEXT;
    ALTER TABLE client ADD COLUMN fingerprint TEXT;
    UPDATE client SET unused_until = registered_at + 604800 WHERE used_at IS NULL;
    CREATE UNIQUE INDEX client_shared ON client (fingerprint) WHERE unused_until IS NOT NULL;
    CREATE INDEX client_unused ON client (unused_until) WHERE unused_until IS NOT NULL;
    """,
    """
    CREATE TABLE announcement (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        body TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT;
    INSERT INTO announcement (kind, body, at)
        SELECT 'family_revoked', json_object('families', json_array(family_id)), revoked_at FROM refresh_family
        WHERE revoked_at IS NOT NULL ORDER BY revoked_at;
    DROP INDEX refresh_family_revoked;
    CREATE INDEX refresh_family_by_subject ON refresh_family (tenant, subject);
    ALTER TABLE mcp_session ADD COLUMN family TEXT NOT NULL DEFAULT '';
    CREATE INDEX mcp_session_by_family ON mcp_session (family);
    """,
    """
    ALTER TABLE login_session ADD COLUMN began_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE login_session ADD COLUMN peer TEXT NOT NULL DEFAULT '';
    CREATE INDEX login_session_by_subject ON login_session (tenant, subject);
    """,
    """
    ALTER TABLE mcp_stream ADD COLUMN writer TEXT NOT NULL DEFAULT '';
    """,
    """
    ALTER TABLE client ADD COLUMN secret_digest TEXT;
    ALTER TABLE client ADD COLUMN tenant TEXT;
    ALTER TABLE client ADD COLUMN scope TEXT;
    """,
    """
    ALTER TABLE task ADD COLUMN runner TEXT NOT NULL DEFAULT '';
    CREATE INDEX task_running ON task (tenant, subject) WHERE NOT ended;
    """,
    """
    CREATE TABLE signing_key (
        kid TEXT PRIMARY KEY,
        private BLOB NOT NULL,
        signs_from REAL NOT NULL,
        retired_at REAL
    ) STRICT;
    """,
    """
    CREATE TABLE known_tenant (name TEXT PRIMARY KEY, title TEXT NOT NULL, scope TEXT NOT NULL) STRICT;
    CREATE TABLE configured_person (
        name TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        scope TEXT NOT NULL,
        credential TEXT NOT NULL
    ) STRICT;
    CREATE TABLE added_person (
        name TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        scope TEXT NOT NULL,
        password_hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE disabled_person (name TEXT PRIMARY KEY) STRICT;
    """,
    """
    UPDATE client SET network = '' WHERE unused_until IS NOT NULL AND network IS NULL;
    CREATE INDEX client_unused_by_network ON client (network, unused_until) WHERE unused_until IS NOT NULL;
    CREATE TABLE unused_of_network (network TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT;
    CREATE INDEX unused_of_network_by_count ON unused_of_network (count);
    INSERT INTO unused_of_network SELECT network, count(*) FROM client WHERE unused_until IS NOT NULL GROUP BY network;
    CREATE TRIGGER client_unused_added AFTER INSERT ON client WHEN new.unused_until IS NOT NULL BEGIN
        INSERT INTO unused_of_network VALUES (new.network, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER client_unused_removed AFTER DELETE ON client WHEN old.unused_until IS NOT NULL BEGIN
        UPDATE unused_of_network SET count = count - 1 WHERE network = old.network;
        DELETE FROM unused_of_network WHERE network = old.network AND count = 0;
    END;
    CREATE TRIGGER client_unused_used AFTER UPDATE OF unused_until ON client
        WHEN old.unused_until IS NOT NULL AND new.unused_until IS NULL BEGIN
        UPDATE unused_of_network SET count = count - 1 WHERE network = old.network;
        DELETE FROM unused_of_network WHERE network = old.network AND count = 0;
    END;
    """,
)

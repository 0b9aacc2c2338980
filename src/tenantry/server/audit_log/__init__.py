"""The audit log on disk: a SQLite file that can only grow, flushed at each commit, and its reading side."""

from tenantry.server.audit_log.proving import NotProvable, prove_growth, prove_record
from tenantry.server.audit_log.reading import (
    AuditLogUnreadable,
    Verdict,
    latest_checkpoint,
    matching,
    read,
    size_of,
    verify,
)
from tenantry.server.audit_log.schema import ADMIN_FILE_NAME, FILE_NAME, logs_in, path_of
from tenantry.server.audit_log.writing import AuditLog, AuditLogDamaged

__all__ = [
    "ADMIN_FILE_NAME",
    "FILE_NAME",
    "AuditLog",
    "AuditLogDamaged",
    "AuditLogUnreadable",
    "NotProvable",
    "Verdict",
    "latest_checkpoint",
    "logs_in",
    "matching",
    "path_of",
    "prove_growth",
    "prove_record",
    "read",
    "size_of",
    "verify",
]

"""People who are no longer in the directory: what they granted ends, as if somebody had revoked it.

Else somebody who gets the same name later would find it alive.
"""

from collections.abc import Callable

from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.policy import Directory
from tenantry.server.audit_writer import Recorder
from tenantry.server.store import Store


async def end_the_departed(store: Store, directory: Directory, *, audit: Recorder, clock: Callable[[], float]) -> None:
    """End the grants of everybody whom `directory` does not know, each with a record."""
    for tenant, subject in sorted(await store.endings.subjects()):
        now = clock()
        # Of several workers the first one finds something to end.
        if not directory.knows(tenant, subject) and await store.endings.subject(tenant, subject, now=now):
            entry = record.encode(Kind.SUBJECT_ENDED, time_us=int(now * 1_000_000), tenant=tenant, subject=subject)
            await audit.append(entry)

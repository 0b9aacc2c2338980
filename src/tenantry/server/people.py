"""Who exists: the configured people, and whom an operator added or disabled by command, service accounts too."""

from collections.abc import Callable

from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.policy import Directory, User
from tenantry.server.audit_writer import Recorder
from tenantry.server.changes import Changes
from tenantry.server.departures import end_the_departed
from tenantry.server.store import Store
from tenantry.server.store.clients import services
from tenantry.server.store.people import KnownTenant, Person, beside_the_configured


def peopled(configured: Directory, store: Store) -> Directory:
    """Add whom the store knows to the configured people, who go first where names are equal; leave out the disabled.

    Blocking, for some microseconds: for start-up and for changes.
    """
    added, disabled = store.announcements.ask(beside_the_configured)
    others = {
        person.name: User(
            tenant=person.tenant,
            scopes=frozenset(person.scopes) & configured.scopes_of(person.tenant),
            password_hash=person.password_hash,
        )
        for person in added
        if person.name not in configured.users and person.tenant in configured.tenants
    }
    accounts = {
        client_id: User(tenant=account.tenant, scopes=frozenset(account.scopes))
        for client_id, account in store.announcements.ask(services).items()
    }
    return configured.with_users({**others, **accounts}).without(disabled)


async def settle(changes: Changes, store: Store, *, audit: Recorder, clock: Callable[[], float]) -> None:
    """Let the command line know who is configured, and end the grants of those who left or have another password."""
    configured = changes.configured.directory
    tenants = [
        KnownTenant(name=name, title=tenant.title, scopes=tuple(sorted(configured.scopes_of(name))))
        for name, tenant in configured.tenants.items()
    ]
    people = [
        Person(name=name, tenant=user.tenant, scopes=tuple(sorted(user.scopes)), password_hash=user.password_hash)
        for name, user in configured.users.items()
    ]
    now = clock()
    for tenant, subject in await store.people.configure(tenants, people, now=now):
        fields = {"tenant": tenant, "subject": subject, "reason": "password_changed"}
        await audit.append(record.encode(Kind.SUBJECT_ENDED, time_us=int(now * 1_000_000), **fields))
    await end_the_departed(store, changes.world.directory, audit=audit, clock=clock)

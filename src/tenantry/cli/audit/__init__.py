"""`tenantry audit`: read the audit logs, check and prove them, beside a running server or without one."""

from cyclopts import App

from tenantry.cli.audit.checking import check, consistency, key, prove, verify
from tenantry.cli.audit.exporting import export
from tenantry.cli.audit.listing import list_records
from tenantry.cli.audit.pruning import prune
from tenantry.cli.audit.stats import stats
from tenantry.cli.audit.tail import tail

audit = App(name="audit", help="Read the audit logs, check and prove them.")
audit.command(list_records, name="list")
audit.command(tail)
audit.command(verify)
audit.command(prove)
audit.command(check)
audit.command(consistency)
audit.command(key)
audit.command(export)
audit.command(stats)
audit.command(prune)

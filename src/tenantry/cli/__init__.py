"""The command line: one `App`, one module a command."""

import sys

from cyclopts import App

from tenantry.cli.audit import audit
from tenantry.cli.bench import bench
from tenantry.cli.call import call
from tenantry.cli.clients import clients
from tenantry.cli.conformance import conformance
from tenantry.cli.grants import grants
from tenantry.cli.hash_password import hash_password
from tenantry.cli.keys import keys
from tenantry.cli.reload import reload
from tenantry.cli.serve import serve
from tenantry.cli.tenants import tenants
from tenantry.cli.users import users
from tenantry.version import __version__

app = App(name="tenantry", version=__version__, help="A multi-tenant MCP server with its own authorization server.")
app.command(serve)
app.command(audit)
app.command(users)
app.command(tenants)
app.command(clients)
app.command(grants)
app.command(hash_password)
app.command(keys)
app.command(reload)
app.command(call)
app.command(conformance)
app.command(bench)


def main() -> None:
    """Run the command line and end the process with its exit status."""
    sys.exit(app())

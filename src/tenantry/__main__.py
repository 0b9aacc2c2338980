"""`python -m tenantry`."""

from tenantry.cli import main

main()

"""`tenantry reload`."""

import os
import signal
import sys
from pathlib import Path

from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server.data_directory import process_serving


def reload(*, data: Path = DEFAULT_DATA) -> int:
    """Have the running server read its configuration again: tenants, people and which tools there are.

    Clients whose lists change are told so. A configuration that can't be served is refused, in the server's log,
    and the old one stays.

    Parameters
    ----------
    data
        The server's data directory.
    """
    process = process_serving(data)
    if process is None:
        print(f"tenantry: nobody serves from {data}", file=sys.stderr)
        return 1
    os.kill(process, signal.SIGHUP)
    return 0

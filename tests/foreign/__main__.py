"""Foreign clients, unmodified, from their registration to the login after a revocation.

    python -m tests.foreign [python] [typescript] [typescript-1]

What an SDK needs is installed where the project keeps its tools; a server of its own is started for each.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.foreign.clients import SDKS
from tests.foreign.scenario import run


def main() -> int:
    """Run what the command line names, all by default; 1 where a step failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", choices=[*SDKS, []], metavar="|".join(SDKS))
    parser.add_argument("--mode", choices=["dual", "stateless", "sessionful"], default="dual")
    flags = parser.parse_args()
    failed = False
    for name in flags.names or SDKS:
        sdk = SDKS[name]
        print(f"{name}: {sdk.package} {sdk.version}, {flags.mode}", flush=True)
        try:
            with tempfile.TemporaryDirectory() as data:
                for step in run(sdk, Path(data), mode=flags.mode):
                    print(f"  {step}", flush=True)
        except AssertionError as fault:
            print(f"  FAILED: {fault}", flush=True)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

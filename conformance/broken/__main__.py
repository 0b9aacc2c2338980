"""Start a server with one fault: `python -m conformance.broken NAME --upstream URL`, or `--list`."""

import argparse

from conformance.broken.faults import EVERYTHING, NONE
from conformance.broken.proxy import HONEST, Proxy


def main() -> None:
    """Serve until the process is ended; the first line on stdout is the URL."""
    parser = argparse.ArgumentParser(prog="python -m conformance.broken", description=__doc__)
    parser.add_argument("name", nargs="?", default=NONE, choices=[NONE, *EVERYTHING])
    parser.add_argument("--upstream", help="the endpoint of a server in good order")
    parser.add_argument("--list", action="store_true", help="print every fault and the clauses that must catch it")
    words = parser.parse_args()
    if words.list:
        for name, fault in EVERYTHING.items():
            print("\n    ".join([f"{name}: {fault.does}", *(fault.clauses or ["any"])]))
        return
    if words.upstream is None:
        parser.error("--upstream URL is needed")
    proxy = Proxy(words.upstream, EVERYTHING.get(words.name, HONEST))
    print(proxy.url, flush=True)
    proxy.serve_forever()


if __name__ == "__main__":
    main()

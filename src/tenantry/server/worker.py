"""One of several processes behind one port: `python -m tenantry.server.worker FD`, started by the supervisor."""

import json
import socket
import sys
from functools import partial
from pathlib import Path

import structlog
import trio

from tenantry.config import Config, ConfigError
from tenantry.jsonrpc import Object
from tenantry.server import runtime
from tenantry.server.bus import Bus, Link
from tenantry.server.logs import log_to_stderr
from tenantry.server.settings import Settings, StartError, load_offer
from tenantry.server.supervisor import READY

_log = structlog.get_logger()


async def work(sock: socket.socket) -> None:
    """Take what to serve from the supervisor, serve it, and say when that has begun."""
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    start = await _first(stream)
    structlog.contextvars.bind_contextvars(worker=start["number"])
    sys.path[:] = start["path"]
    settings = Settings(
        config=Config.model_validate_json(start["config"]),
        source=start["source"],
        data=Path(start["data"]),
        checkpoint_copy=None if start["checkpoint_copy"] is None else Path(start["checkpoint_copy"]),
        host=start["host"],
        port=start["port"],
        shares_port=True,
        host_profile=start["host_profile"],
        certificate=(Path(start["certificate"][0]), Path(start["certificate"][1])) if start["certificate"] else None,
    )
    link = Link(stream)
    await runtime.run(
        settings,
        load_offer(settings.config, source=settings.source),
        bus=Bus(start["life"], link, alive=start["alive"]),
        number=start["number"],
        on_ready=lambda _: link.send(READY, {}),
    )


async def _first(stream: trio.SocketStream) -> Object:
    # Read byte by byte: what follows the first line belongs to the bus.
    line = bytearray()
    while (byte := await stream.receive_some(1)) != b"\n":
        if not byte:
            raise StartError("the supervisor is gone")
        line += byte
    body: Object = json.loads(line)["body"]
    return body


def main() -> int:
    """Serve, and give the exit status: 2 where that could not begin, 1 after a fault."""
    log_to_stderr()
    try:
        trio.run(partial(work, socket.socket(fileno=int(sys.argv[1]))))
    except (ConfigError, StartError) as error:
        _log.error("can't start", reason=str(error))
        return 2
    except Exception as error:  # noqa: BLE001  # already logged where it rose
        _log.error("stopped by a fault", error=repr(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`tenantry serve`."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import structlog
import trio
from cyclopts import Parameter

from tenantry.config import Config, ConfigError, Mode, load
from tenantry.server.runtime import Settings, StartError
from tenantry.server.runtime import serve as run_server

DEFAULT_DATA = Path(".tenantry")


def serve(
    *,
    config: Path | None = None,
    demo: Annotated[bool, Parameter(negative="")] = False,
    host: str = "127.0.0.1",
    port: int = 3000,
    public_url: str | None = None,
    data: Path = DEFAULT_DATA,
    mode: Literal["sessionful", "stateless", "dual"] | None = None,
) -> int:
    """Serve until Ctrl-C or SIGTERM; then requests in flight are answered, and the audit log closes last.

    Parameters
    ----------
    config
        The TOML file with tenants, users and tools.
    demo
        Serve the built-in demo instead: tenant-a and tenant-b, alice, bob and carol, password "demo".
    host
        The address to listen on.
    port
        The port to listen on; 0 takes any free one.
    public_url
        Where clients reach the server, as in https://mcp.example.com; on this machine http://localhost:PORT.
    data
        The directory for keys, clients, sessions and the audit log.
    mode
        Which clients are served: those with MCP sessions, without, or both (dual, the default).
    """
    _log_to_stderr()
    try:
        chosen, source = _configuration(config, demo=demo)
        chosen = _with_flags(chosen, public_url=public_url, mode=mode)
        settings = Settings(config=chosen, source=source, data=data, host=host, port=port)
        trio.run(lambda: run_server(settings, on_ready=_say_ready))
    except (ConfigError, StartError) as error:
        print(f"tenantry: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # noqa: BLE001  # the audit log's own error, already logged where it rose
        print(f"tenantry: stopped by a fault: {error!r}", file=sys.stderr)
        return 1
    return 0


def _configuration(path: Path | None, *, demo: bool) -> tuple[Config, str]:
    if demo == (path is not None):
        raise StartError("say either --config FILE or --demo")
    if path is None:
        return load((files("tenantry.demo") / "demo.toml").read_text(), source="the demo"), "the demo"
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"can't be read: {error}"]) from None
    sys.path.insert(0, str(path.absolute().parent))  # a module of tools may lie beside its configuration
    return load(text, source=str(path)), str(path)


def _with_flags(config: Config, *, public_url: str | None, mode: str | None) -> Config:
    if mode is not None:
        config = config.model_copy(update={"mode": Mode(mode)})
    if public_url is not None:
        try:
            config = config.at(public_url)
        except ValueError as error:
            raise StartError(f"--public-url {public_url}: {error}") from None
    return config


def _say_ready(url: str) -> None:
    print(f"tenantry serves MCP at {url} - add it with: claude mcp add --transport http tenantry {url}", flush=True)


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )

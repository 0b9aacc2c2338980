"""`tenantry serve`."""

import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import trio
from cyclopts import Parameter, validators

from tenantry.config import Config, ConfigError, Mode, build, load
from tenantry.server import runtime
from tenantry.server.logs import log_to_stderr
from tenantry.server.management import DEFAULT_PORT
from tenantry.server.parts import fresh
from tenantry.server.settings import Settings, StartError, tls_of
from tenantry.server.supervisor import Supervisor

DEFAULT_DATA = Path(".tenantry")


def serve(
    *,
    config: Path | None = None,
    demo: Annotated[bool, Parameter(negative="")] = False,
    conformance: Annotated[bool, Parameter(negative="")] = False,
    host: str = "127.0.0.1",
    port: int = 3000,
    public_url: str | None = None,
    certfile: Path | None = None,
    keyfile: Path | None = None,
    trusted_proxy: list[str] | None = None,
    host_profile: Literal["lean", "stock"] = "lean",
    data: Path = DEFAULT_DATA,
    checkpoint_copy: Path | None = None,
    mode: Literal["sessionful", "stateless", "dual"] | None = None,
    workers: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=64))] = 1,
    management_port: int | Literal["off"] = DEFAULT_PORT,
) -> int:
    """Serve until Ctrl-C or SIGTERM; then requests in flight are answered, and the audit log closes last.

    Parameters
    ----------
    config
        The TOML file with tenants, users and tools.
    demo
        Serve the built-in demo instead: tenant-a and tenant-b, alice, bob and carol, password "demo".
    conformance
        Add to the demo the tenant "conformance" and its user tester, with what the official MCP conformance runner
        calls.
    host
        The address to listen on.
    port
        The port to listen on; 0 takes any free one.
    public_url
        Where clients reach the server, as in https://mcp.example.com; on this machine http://localhost:PORT, or https
        with --certfile.
    certfile
        The PEM file of a certificate and its chain: serve https, HTTP/2 included; with --keyfile.
    keyfile
        The PEM file of the certificate's key, without a password.
    trusted_proxy
        A network, as in 10.0.0.0/8, whose proxies are believed on where requests come from; may be said repeatedly.
    host_profile
        How HTTP/1.1 is spoken: in one task a connection (lean), or by hypercorn's own stream classes (stock), should
        the first ever be in doubt.
    data
        The directory for keys, clients, sessions and the audit log.
    checkpoint_copy
        A second place for the audit log's checkpoints, better on another machine's disk: what `tenantry audit verify`
        needs to notice that the log was cut or put back.
    mode
        Which clients are served: those with MCP sessions, without, or both (dual, the default).
    workers
        How many processes serve; each has an audit log of its own, and any of them answers any request.
    management_port
        Where /metrics, /health/live and /health/ready are, on this machine alone; "off" does without.
    """
    log_to_stderr()

    def read() -> tuple[Config, str]:
        chosen, source = _configuration(config, demo=demo, conformance=conformance)
        return _with_flags(chosen, public_url=public_url, mode=mode, proxies=trusted_proxy or []), source

    try:
        chosen, source = read()
        settings = Settings(
            config=chosen,
            source=source,
            data=data,
            checkpoint_copy=checkpoint_copy,
            host=host,
            port=port,
            host_profile=host_profile,
            certificate=_certificate(certfile, keyfile),
            shares_port=workers > 1,
            management_port=None if management_port == "off" else management_port,
            read_again=lambda: read()[0],
        )
        tls_of(settings)  # what is wrong with it is said before anything starts
        if workers == 1:
            trio.run(lambda: runtime.serve(settings, on_ready=_say_ready))
        else:
            supervisor = Supervisor(settings, count=workers, fresh=fresh)
            trio.run(lambda: supervisor.run(on_ready=_say_ready))
    except (ConfigError, StartError) as error:
        print(f"tenantry: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # noqa: BLE001  # the audit log's own error, already logged where it rose
        print(f"tenantry: stopped by a fault: {error!r}", file=sys.stderr)
        return 1
    return 0


def _configuration(path: Path | None, *, demo: bool, conformance: bool) -> tuple[Config, str]:
    if demo == (path is not None):
        raise StartError("say either --config FILE or --demo")
    if conformance and not demo:
        raise StartError("--conformance adds to the demo: say --demo --conformance")
    if path is None:
        names = ("demo.toml", "conformance.toml") if conformance else ("demo.toml",)
        return build(_together(*map(_demo_document, names)), source="the demo"), "the demo"
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"can't be read: {error}"]) from None
    sys.path.insert(0, str(path.absolute().parent))  # a module of tools may lie beside its configuration
    return load(text, source=str(path)), str(path)


def _demo_document(name: str) -> dict[str, object]:
    return tomllib.loads((files("tenantry.demo") / name).read_text())


def _together(*documents: dict[str, object]) -> dict[str, object]:
    """Merge documents by their tables; a list goes on with the next one's, anything else gives way to it."""
    merged: dict[str, object] = {}
    for document in documents:
        for name, value in document.items():
            known = merged.get(name)
            if isinstance(known, dict) and isinstance(value, dict):
                merged[name] = _together(known, value)
            elif isinstance(known, list) and isinstance(value, list):
                merged[name] = known + value
            else:
                merged[name] = value
    return merged


def _certificate(certfile: Path | None, keyfile: Path | None) -> tuple[Path, Path] | None:
    if certfile is None and keyfile is None:
        return None
    if certfile is None or keyfile is None:
        raise StartError("--certfile and --keyfile belong together")
    return certfile, keyfile


def _with_flags(config: Config, *, public_url: str | None, mode: str | None, proxies: list[str]) -> Config:
    if mode is not None:
        config = config.model_copy(update={"mode": Mode(mode)})
    if public_url is not None:
        try:
            config = config.at(public_url)
        except ValueError as error:
            raise StartError(f"--public-url {public_url}: {error}") from None
    try:
        config = config.behind(*proxies)
    except ValueError as error:
        raise StartError(f"--trusted-proxy: {error}") from None
    return config


def _say_ready(url: str) -> None:
    print(f"tenantry serves MCP at {url} - add it with: claude mcp add --transport http tenantry {url}", flush=True)

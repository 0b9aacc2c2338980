"""What `serve` is told, and what can be said of it before anything is served."""

import importlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tenantry.config import Config, ConfigError, is_loopback
from tenantry.mcp.offer import Offer
from tenantry.mcp.prompts import Prompt
from tenantry.mcp.resources import Resource
from tenantry.mcp.tools import Tool
from tenantry.server import host


class StartError(Exception):
    """The server can't start; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `serve` is told beside the configuration."""

    config: Config
    source: str
    """The configuration's name in errors."""
    read_again: Callable[[], Config] | None = None
    """Gives the configuration as it stands now; raises `ConfigError`."""
    data: Path
    checkpoint_copy: Path | None = None
    """A second place for the audit log's checkpoints."""
    host: str = "127.0.0.1"
    port: int = 3000
    management_port: int | None = None
    """On loopback; 0 takes any free one, None does without."""
    shares_port: bool = False
    """Whether other processes listen on the same port (SO_REUSEPORT)."""
    host_profile: str = "lean"
    """`lean`, or `stock` for hypercorn's own stream classes."""
    certificate: tuple[Path, Path] | None = None
    """The PEM files of the certificate chain and of its key; None to be spoken to in the clear."""


def load_offer(config: Config, *, source: str) -> Offer:
    """Import the configured modules and take what the configuration names.

    Raises `ConfigError` for a module that can't be imported and for a name that no module offers.
    """
    offered: list[Tool | Resource | Prompt] = []
    for name in config.tool_modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(source, [f"tool_modules: {name} can't be imported: {error}"]) from error
        offered += [item for item in vars(module).values() if isinstance(item, Tool | Resource | Prompt)]
    wanted = {Tool: config.tools, Resource: config.resources, Prompt: config.prompts}
    known = {(type(item), item.name) for item in offered}
    missing = [
        f"{table}.{name}: no module in tool_modules offers it"
        for table, kind in (("tools", Tool), ("resources", Resource), ("prompts", Prompt))
        for name in wanted[kind]
        if (kind, name) not in known
    ]
    if missing:
        raise ConfigError(source, missing)
    return Offer.of(item for item in offered if item.name in wanted[type(item)])


def reachable(settings: Settings, port: int) -> Config:
    """The configuration with its public URL; raises `StartError` where nobody said what that is."""
    if settings.config.public_url:
        if settings.certificate and not settings.config.secure:
            raise StartError(f"--certfile serves https, and the public URL is {settings.config.public_url}")
        return settings.config
    if not is_loopback(settings.host):
        raise StartError(f"--host {settings.host} is reached from elsewhere: say how with --public-url https://...")
    return settings.config.at(f"{scheme(settings)}://localhost:{port}")


def scheme(settings: Settings) -> str:
    return "http" if settings.certificate is None else "https"


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """What the listener needs for https, None where it is spoken to in the clear; raises `StartError`."""
    if settings.certificate is None:
        return None
    try:
        return host.tls_context(*settings.certificate)
    except host.TlsError as error:
        raise StartError(f"--certfile, --keyfile: {error}") from None


def reread(settings: Settings) -> Config:
    """Read the configuration again; raises `ConfigError` for one that can't be served."""
    if settings.read_again is None:
        raise ConfigError(settings.source, ["it can't be read again"])
    return reachable(replace(settings, config=settings.read_again()), settings.port)


def replaceable(settings: Settings) -> Config:
    config = reread(settings)
    changed = differing(settings.config, config)
    if changed:
        raise ConfigError(settings.source, [f"{name}: a change of this needs a restart" for name in changed])
    return config


def differing(before: Config, after: Config) -> list[str]:
    """What of a changed configuration can't be served without a restart."""
    changing = {"tenants", "users", "tools", "resources", "prompts"}
    fixed = [name for name in Config.model_fields.keys() - changing if getattr(before, name) != getattr(after, name)]
    shares = [{name: (it.weight, it.calls_per_s) for name, it in config.tenants.items()} for config in (before, after)]
    reshared = [f"tenants.{name}" for name in shares[0].keys() & shares[1].keys() if shares[0][name] != shares[1][name]]
    return [*fixed, *reshared]

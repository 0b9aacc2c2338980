"""What can't be used any more is forgotten from time to time; nothing depends on when."""

from collections.abc import Callable

import structlog
import trio

from tenantry.config import Config
from tenantry.server.store import Store
from tenantry.server.store.database import StoreUnavailable

EVERY_S = 600

_log = structlog.get_logger()


async def keep_tidy(store: Store, config: Config, *, clock: Callable[[], float]) -> None:
    """Purge the store now and every `EVERY_S` seconds, until cancelled; where it can't be done, the next time does it.

    `clock` gives seconds since the epoch.
    """
    lifetimes = config.lifetimes
    while True:
        try:
            await store.purge(now=clock(), family_s=lifetimes.refresh_absolute_s, idle_client_s=lifetimes.idle_client_s)
        except StoreUnavailable as error:
            _log.error("the store can't be tidied", reason=str(error))
        await trio.sleep(EVERY_S)

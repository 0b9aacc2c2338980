"""What a reload does where something fails behind it."""

from types import SimpleNamespace
from typing import Any

import pytest

from tenantry.server.audit_writer import AuditUnavailable
from tenantry.server.changes import World
from tenantry.server.runtime import _replace_world
from tenantry.server.store.database import StoreUnavailable
from tests.server.in_process import demo_config


@pytest.mark.parametrize("error", [AuditUnavailable("full"), StoreUnavailable("full")])
async def test_a_configuration_is_served_although_nothing_can_be_written_of_it(error):
    served: list[World] = []
    settings: Any = SimpleNamespace(source="demo")
    changes: Any = SimpleNamespace(replace=served.append)

    async def settled() -> None:
        raise error

    await _replace_world(settings, changes, settled, demo_config())
    assert ["alice" in world.directory.users for world in served] == [True]

"""The description of the endpoints: well-formed, and true of what is served.

That answers keep to it is asserted in `tests.oauth.flow` for every answer of every test that goes through it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantry import web
from tests.oauth.flow import World, config, undescribed


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


async def described(world: World) -> dict[str, Any]:
    return dict(json.loads((await world.send("GET", "/openapi.json")).body))


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_it_names_exactly_what_is_served(tmp_path, policy):
    world = World(tmp_path / "state.db", config(clients={"registration": policy}))
    served = {
        (path, method.lower())
        for path, methods in {**world.oauth.routes(), **world.login.routes()}.items()
        for method in methods
    }
    document = await described(world)
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == served
    assert (("/register", "post") in served) is (policy == "open")
    world.store.close()


async def test_every_reference_leads_somewhere_and_no_schema_is_left_over(world):
    document = await described(world)
    names = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert names == set(document["components"]["schemas"])
    schemes = {name for operation in operations(document) for each in operation.get("security", []) for name in each}
    assert schemes == set(document["components"]["securitySchemes"])


async def test_every_operation_has_a_name_of_its_own_a_summary_and_answers(world):
    document = await described(world)
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": world.config.issuer}]
    names = [operation["operationId"] for operation in operations(document)]
    assert len(set(names)) == len(names)
    for operation in operations(document):
        assert operation["summary"]
        assert {"403", "503"} < set(operation["responses"])
        for answer in operation["responses"].values():
            assert answer["description"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (web.Response(status=418), "answers 418"),
        (web.Response(status=200, headers={"content-type": "text/html"}), "in 'text/html'"),
        (web.Response(status=200), "in ''"),
        (web.Response(status=200, headers={"content-type": "application/json"}, body=b"{}"), "required property"),
    ],
)
def test_an_answer_that_is_not_described_is_found(world, answer, problem):
    assert any(problem in each for each in undescribed(world.description, "POST", "/token", answer))

"""The whole flow through the application, over a real store."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tenantry import web
from tenantry.oauth import pkce
from tenantry.server.audit_writer import AuditUnavailable
from tests.oauth.flow import (
    PASSWORD,
    REDIRECT,
    VERIFIER,
    Browser,
    World,
    authorization_url,
    config,
    error_of,
    query_of,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


async def test_the_whole_flow_gives_an_access_token_for_the_person_who_consented(world: World):
    client_id = await world.register()
    tokens = await world.tokens(client_id)
    principal = world.principal(tokens["access_token"])
    assert (principal.tenant, principal.subject, principal.client_id) == ("acme", "alice", client_id)
    assert principal.scopes == {"docs:read", "docs:export"}
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 600, "docs:export docs:read")
    assert world.audit.kinds() == ["client_registered", "login", "consent_granted", "token_issued"]
    assert world.audit.rows[-1] == {
        "kind": "token_issued",
        "time": int(world.now * 1_000_000),
        "tenant": "acme",
        "subject": "alice",
        "client": client_id,
        "family": principal.family_id,
        "scope": "docs:export docs:read",
        "peer": "192.0.2.1",
    }


async def test_the_answers_of_the_token_endpoint_are_never_stored(world: World):
    client_id = await world.register()
    good = await world.redeem(client_id, await world.code(client_id))
    bad = await world.redeem(client_id, "no such code")
    for answer in (good, bad):
        assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
        assert answer.headers["content-type"] == "application/json"


async def test_the_authorization_response_names_state_and_issuer(world: World):
    answer = await Browser(world).consent(authorization_url(await world.register(), state="ä&b=#%00"))
    assert answer.headers["location"].startswith(f"{REDIRECT}?code=")
    assert query_of(answer)["state"] == "ä&b=#%00"
    assert query_of(answer)["iss"] == world.config.issuer


async def test_scopes_are_narrowed_to_what_the_person_may_have(world: World):
    tokens = await world.tokens(await world.register(), scope="admin docs:read offline_access")
    assert tokens["scope"] == "docs:read"
    assert world.principal(tokens["access_token"]).scopes == {"docs:read"}


async def test_a_client_may_ask_for_more_than_it_registered(world: World):
    client_id = await world.register(scope="docs:read")
    assert (await world.tokens(client_id, scope="docs:export"))["scope"] == "docs:export"


# --- codes ---


async def test_a_code_redeemed_twice_revokes_its_family(world: World):
    client_id = await world.register()
    code = await world.code(client_id)
    tokens = json.loads((await world.redeem(client_id, code)).body)
    assert error_of(await world.redeem(client_id, code)) == (400, "invalid_grant")
    with pytest.raises(web.HttpError):
        world.principal(tokens["access_token"])
    assert error_of(await world.refresh(client_id, tokens["refresh_token"])) == (400, "invalid_grant")
    assert world.audit.kinds()[-1] == "code_reused"


@pytest.mark.parametrize(
    "change",
    [{"code_verifier": "w" * 43}, {"code_verifier": None}, {"redirect_uri": "http://localhost:51001/callback"}],
)
async def test_an_invalid_replay_revokes_nothing(world: World, change: dict[str, str | None]):
    client_id = await world.register()
    code = await world.code(client_id)
    tokens = json.loads((await world.redeem(client_id, code)).body)
    assert error_of(await world.redeem(client_id, code, **change)) == (400, "invalid_grant")
    assert world.principal(tokens["access_token"]).subject == "alice"
    assert "code_reused" not in world.audit.kinds()


async def test_another_client_can_neither_redeem_nor_burn_a_code(world: World):
    client_id, thief = await world.register(), await world.register()
    code = await world.code(client_id)
    assert error_of(await world.redeem(thief, code)) == (400, "invalid_grant")
    assert (await world.redeem(client_id, code)).status == 200
    assert error_of(await world.redeem(thief, code)) == (400, "invalid_grant")
    assert "code_reused" not in world.audit.kinds()


async def test_a_code_is_good_for_a_minute(world: World):
    client_id = await world.register()
    early, late = await world.code(client_id), await world.code(client_id)
    world.now += 59
    assert (await world.redeem(client_id, early)).status == 200
    world.now += 1
    assert error_of(await world.redeem(client_id, late)) == (400, "invalid_grant")


async def test_of_64_simultaneous_redemptions_one_succeeds_and_the_rest_count_as_replay(world: World):
    client_id = await world.register()
    for _ in range(3):
        code = await world.code(client_id)
        answers: list[web.Response] = []

        async def redeem(code: str = code, answers: list[web.Response] = answers) -> None:
            answers.append(await world.redeem(client_id, code))

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(redeem)
        assert sorted(answer.status for answer in answers) == [200] + [400] * 63
        (winner,) = [json.loads(answer.body) for answer in answers if answer.status == 200]
        assert error_of(await world.refresh(client_id, winner["refresh_token"])) == (400, "invalid_grant")
        with pytest.raises(web.HttpError):
            world.principal(winner["access_token"])


async def test_a_code_that_was_redeemed_stays_redeemed_over_a_restart(world: World):
    client_id = await world.register()
    code = await world.code(client_id)
    await world.redeem(client_id, code)
    world.restart()
    assert error_of(await world.redeem(client_id, code)) == (400, "invalid_grant")


# --- refresh tokens ---


async def test_a_refresh_token_is_rotated_and_the_first_access_token_lives_on(world: World):
    client_id = await world.register()
    first = await world.tokens(client_id)
    second = json.loads((await world.refresh(client_id, first["refresh_token"])).body)
    third = json.loads((await world.refresh(client_id, second["refresh_token"])).body)
    assert len({tokens["refresh_token"] for tokens in (first, second, third)}) == 3
    assert len({world.principal(tokens["access_token"]).family_id for tokens in (first, second, third)}) == 1
    assert world.audit.kinds()[-2:] == ["token_refreshed", "token_refreshed"]


async def test_sixteen_simultaneous_refreshes_get_one_successor(world: World):
    client_id = await world.register()
    refresh_token = (await world.tokens(client_id))["refresh_token"]
    answers: list[web.Response] = []

    async def refresh() -> None:
        answers.append(await world.refresh(client_id, refresh_token))

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(refresh)
    tokens = [json.loads(answer.body) for answer in answers]
    assert [answer.status for answer in answers] == [200] * 16
    assert len({each["refresh_token"] for each in tokens}) == 1
    assert len({world.principal(each["access_token"]).family_id for each in tokens}) == 1


async def test_within_the_grace_window_the_same_successor_comes_again_and_works(world: World):
    client_id = await world.register()
    old = (await world.tokens(client_id))["refresh_token"]
    first = json.loads((await world.refresh(client_id, old)).body)["refresh_token"]
    world.now += 119
    assert json.loads((await world.refresh(client_id, old)).body)["refresh_token"] == first
    assert (await world.refresh(client_id, first)).status == 200


async def test_a_rotated_refresh_token_used_after_the_grace_window_revokes_the_family(world: World):
    client_id = await world.register()
    old = (await world.tokens(client_id))["refresh_token"]
    new = json.loads((await world.refresh(client_id, old)).body)
    world.now += 120
    assert error_of(await world.refresh(client_id, old)) == (400, "invalid_grant")
    assert world.audit.kinds()[-1] == "refresh_reused"
    assert error_of(await world.refresh(client_id, new["refresh_token"])) == (400, "invalid_grant")
    with pytest.raises(web.HttpError):
        world.principal(new["access_token"])


async def test_a_refresh_token_belongs_to_its_client(world: World):
    client_id, thief = await world.register(), await world.register()
    refresh_token = (await world.tokens(client_id))["refresh_token"]
    assert error_of(await world.refresh(thief, refresh_token)) == (400, "invalid_grant")
    assert (await world.refresh(client_id, refresh_token)).status == 200


async def test_a_refresh_may_narrow_and_the_next_one_has_everything_again(world: World):
    client_id = await world.register()
    first = await world.tokens(client_id)
    narrow = json.loads((await world.refresh(client_id, first["refresh_token"], scope="docs:read")).body)
    assert narrow["scope"] == "docs:read"
    full = json.loads((await world.refresh(client_id, narrow["refresh_token"])).body)
    assert full["scope"] == first["scope"]


async def test_a_refresh_never_widens_and_leaves_the_refresh_token_unused(world: World):
    client_id = await world.register()
    refresh_token = (await world.tokens(client_id, scope="docs:read"))["refresh_token"]
    wider = await world.refresh(client_id, refresh_token, scope="docs:read docs:export")
    assert error_of(wider) == (400, "invalid_scope")
    elsewhere = await world.refresh(client_id, refresh_token, resource="http://localhost:3000/other")
    assert error_of(elsewhere) == (400, "invalid_target")
    world.now += 1000
    assert (await world.refresh(client_id, refresh_token)).status == 200


async def test_refresh_tokens_end_when_idle_and_families_when_old(tmp_path: Path):
    lifetimes = {"refresh_idle_s": 1000, "refresh_absolute_s": 1500}
    world = World(tmp_path / "state.db", config(lifetimes=lifetimes))
    client_id = await world.register()
    idle = (await world.tokens(client_id))["refresh_token"]
    used = (await world.tokens(client_id))["refresh_token"]
    world.now += 999
    used = json.loads((await world.refresh(client_id, used)).body)["refresh_token"]
    world.now += 1
    assert error_of(await world.refresh(client_id, idle)) == (400, "invalid_grant")
    last = json.loads((await world.refresh(client_id, used)).body)
    assert last["expires_in"] == 500
    world.now += 500
    assert error_of(await world.refresh(client_id, last["refresh_token"])) == (400, "invalid_grant")


async def test_who_is_gone_gets_no_more_tokens(world: World):
    client_id = await world.register()
    refresh_token = (await world.tokens(client_id))["refresh_token"]
    code = await world.code(client_id)
    people = {name: user for name, user in world.config.users.items() if name != "alice"}
    world.config = world.config.model_copy(update={"users": people})
    assert error_of(await world.refresh(client_id, refresh_token)) == (400, "invalid_grant")
    assert error_of(await world.redeem(client_id, code)) == (400, "invalid_grant")


async def test_a_client_that_wants_no_refresh_token_gets_none(world: World):
    client_id = await world.register(grant_types=["authorization_code"])
    tokens = await world.tokens(client_id)
    assert "refresh_token" not in tokens
    assert world.principal(tokens["access_token"]).subject == "alice"


# --- the token endpoint's manners ---


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({}, (400, "invalid_request")),
        ({"grant_type": "authorization_code"}, (400, "invalid_request")),
        ({"grant_type": "authorization_code", "client_id": "unknown"}, (401, "invalid_client")),
        ({"grant_type": "password", "client_id": "CLIENT"}, (400, "unsupported_grant_type")),
        ({"grant_type": "client_credentials", "client_id": "CLIENT"}, (400, "unauthorized_client")),
        ({"grant_type": "authorization_code", "client_id": "CLIENT"}, (400, "invalid_request")),
        ({"grant_type": "authorization_code", "client_id": "CLIENT", "code": "x" * 5000}, (400, "invalid_grant")),
        ({"grant_type": "refresh_token", "client_id": "CLIENT"}, (400, "invalid_request")),
        ({"grant_type": "refresh_token", "client_id": "CLIENT", "refresh_token": "\udcff"}, (400, "invalid_request")),
    ],
)
async def test_a_malformed_token_request_is_refused(world: World, form: dict[str, str], expected: tuple[int, str]):
    client_id = await world.register()
    sent = {name: client_id if value == "CLIENT" else value for name, value in form.items()}
    body = "&".join(f"{name}={value.replace(chr(0xDCFF), '%ff')}" for name, value in sent.items()).encode()
    answer = await world.send(
        "POST", "/token", body=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert error_of(answer) == expected


async def test_a_repeated_parameter_is_refused(world: World):
    body = b"grant_type=authorization_code&grant_type=refresh_token"
    answer = await world.send(
        "POST", "/token", body=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert error_of(answer) == (400, "invalid_request")


async def test_only_forms_are_taken_and_only_by_post(world: World):
    answer = await world.send("POST", "/token", body=b"{}", headers={"content-type": "application/json"})
    assert error_of(answer) == (415, "invalid_request")
    for path in ("/token", "/register", "/revoke", "/login", "/consent", "/logout"):
        refused = await world.send("GET", path)
        assert (refused.status, refused.headers["allow"]) == (405, "POST")


async def test_a_client_that_authenticates_by_basic_is_told_so(world: World):
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    answer = await world.post_form("/token", form, headers={"authorization": "Basic eDp5"})
    assert error_of(answer) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_a_form_that_is_too_long_is_refused(world: World):
    answer = await world.post_form("/token", {"code": "x" * 20_000})
    assert error_of(answer) == (413, "invalid_request")


# --- revocation ---


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoking_either_token_ends_the_family_at_once_and_for_good(world: World, kind: str):
    client_id = await world.register()
    tokens = await world.tokens(client_id)
    form = {"client_id": client_id, "token": tokens[kind], "token_type_hint": "nonsense"}
    assert (await world.post_form("/revoke", form)).status == 200
    assert world.audit.kinds()[-1] == "token_revoked"
    for _ in range(2):
        with pytest.raises(web.HttpError):
            world.principal(tokens["access_token"])
        assert error_of(await world.refresh(client_id, tokens["refresh_token"])) == (400, "invalid_grant")
        world.restart()


async def test_revoking_does_nothing_for_unknown_and_foreign_tokens(world: World):
    client_id, thief = await world.register(), await world.register()
    tokens = await world.tokens(client_id)
    for value in ("unknown", tokens["access_token"], tokens["refresh_token"]):
        assert (await world.post_form("/revoke", {"client_id": thief, "token": value})).status == 200
    assert world.principal(tokens["access_token"]).subject == "alice"
    assert (await world.refresh(client_id, tokens["refresh_token"])).status == 200
    assert "token_revoked" not in world.audit.kinds()


async def test_one_family_revoked_leaves_the_other_of_the_same_person(world: World):
    client_id = await world.register()
    first, second = await world.tokens(client_id), await world.tokens(client_id)
    await world.post_form("/revoke", {"client_id": client_id, "token": first["refresh_token"]})
    assert world.principal(second["access_token"]).subject == "alice"


# --- registration ---


async def test_registration_answers_all_metadata(world: World):
    body = json.dumps({"redirect_uris": [REDIRECT], "client_name": "Näme", "unknown": 1}).encode()
    answer = await world.send("POST", "/register", body=body, headers={"content-type": "application/json"})
    document = json.loads(answer.body)
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    assert document.pop("client_id")
    assert document == {
        "client_id_issued_at": int(world.now),
        "client_name": "Näme",
        "redirect_uris": [REDIRECT],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "docs:read docs:export admin",
    }


async def test_registrations_are_bounded_a_minute_and_peer(world: World):
    for _ in range(world.config.limits.registrations_per_minute):
        await world.register()
    body = json.dumps({"redirect_uris": [REDIRECT]}).encode()
    headers = {"content-type": "application/json"}
    refused = await world.send("POST", "/register", body=body, headers=headers)
    assert (refused.status, refused.headers["retry-after"]) == (429, "61")
    assert (await world.send("POST", "/register", body=body, headers=headers, peer="192.0.2.2")).status == 201
    world.now += 60
    assert (await world.send("POST", "/register", body=body, headers=headers)).status == 201


async def test_a_registration_that_is_too_long_is_refused(world: World):
    answer = await world.send("POST", "/register", body=b" " * 65_537, headers={"content-type": "application/json"})
    assert answer.status == 413


async def test_nothing_is_kept_of_a_refused_registration(world: World):
    body = json.dumps({"redirect_uris": ["javascript:alert(1)"]}).encode()
    answer = await world.send("POST", "/register", body=body, headers={"content-type": "application/json"})
    assert error_of(answer) == (400, "invalid_redirect_uri")
    assert world.audit.rows == []


# --- documents, restarts, secrets ---


async def test_metadata_and_keys_are_public_documents(world: World):
    server = await world.send("GET", "/.well-known/oauth-authorization-server")
    resource = await world.send("GET", "/.well-known/oauth-protected-resource/mcp")
    keys = await world.send("GET", "/jwks")
    for answer in (server, resource, keys):
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["cache-control"] == "public, max-age=300"
    assert json.loads(server.body)["code_challenge_methods_supported"] == ["S256"]
    assert json.loads(resource.body)["resource"] == "http://localhost:3000/mcp"
    (key,) = json.loads(keys.body)["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    for path in ("/.well-known/oauth-protected-resource", "/.well-known/openid-configuration"):
        assert (await world.send("GET", path)).status == 404


async def test_a_restart_keeps_clients_families_login_sessions_and_keys(world: World):
    client_id = await world.register()
    browser = Browser(world)
    code = query_of(await browser.consent(authorization_url(client_id)))["code"]
    tokens = json.loads((await world.redeem(client_id, code)).body)
    world.restart()
    assert world.principal(tokens["access_token"]).subject == "alice"
    assert (await world.refresh(client_id, tokens["refresh_token"])).status == 200
    page = await browser.get(authorization_url(client_id))
    assert b'name="decision"' in page.body


async def test_no_secret_is_in_audit_rows_or_in_the_store(world: World, capsys: pytest.CaptureFixture[str]):
    client_id = await world.register()
    browser = Browser(world)
    await browser.log_in(authorization_url(client_id), user="typed-into-the-wrong-field", password="a wrong password")
    code = query_of(await browser.consent(authorization_url(client_id)))["code"]
    tokens = json.loads((await world.redeem(client_id, code)).body)
    refreshed = json.loads((await world.refresh(client_id, tokens["refresh_token"])).body)
    await world.redeem(client_id, code)
    await world.post_form("/revoke", {"client_id": client_id, "token": refreshed["refresh_token"]})
    secrets = [
        *(PASSWORD, "a wrong password", "typed-into-the-wrong-field", VERIFIER, code),
        *(each[name] for each in (tokens, refreshed) for name in ("access_token", "refresh_token")),
        *browser.cookies.values(),
    ]
    world.store.close()
    kept = b"".join(path.read_bytes() for path in world.path.parent.iterdir())
    written = capsys.readouterr()
    rows = json.dumps(world.audit.rows)
    for secret in secrets:
        assert secret not in rows
        assert secret not in written.out + written.err
        assert secret.encode() not in kept
    assert client_id.encode() in kept
    assert client_id in rows


async def test_the_challenge_in_the_code_is_not_enough_to_redeem_it(world: World):
    client_id = await world.register()
    code = await world.code(client_id)
    answer = await world.redeem(client_id, code, code_verifier=pkce.challenge_of(VERIFIER))
    assert error_of(answer) == (400, "invalid_grant")


# --- no answer without its record ---


async def test_without_a_record_there_is_no_token_and_no_second_try(world: World, monkeypatch: pytest.MonkeyPatch):
    client_id = await world.register()
    code = await world.code(client_id)
    refresh_token = (await world.tokens(client_id))["refresh_token"]

    async def unavailable(_entry: bytes) -> None:
        raise AuditUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(world.audit, "append", unavailable)
        for answer in (
            await world.redeem(client_id, code),
            await world.refresh(client_id, refresh_token),
            await world.post_form("/revoke", {"client_id": client_id, "token": refresh_token}),
            await Browser(world).log_in(authorization_url(client_id)),
        ):
            assert answer.status == 503
            assert b"token" not in answer.body
            assert "location" not in answer.headers
    assert error_of(await world.redeem(client_id, code)) == (400, "invalid_grant")
    assert error_of(await world.refresh(client_id, refresh_token)) == (400, "invalid_grant")


async def test_the_resource_server_says_the_same_of_every_bad_token(world: World):
    client_id = await world.register()
    revoked, fine = await world.tokens(client_id), await world.tokens(client_id)
    await world.post_form("/revoke", {"client_id": client_id, "token": revoked["access_token"]})
    said = []
    for value in (revoked["access_token"], fine["access_token"][:-4] + "AAAA", "nonsense"):
        with pytest.raises(web.HttpError) as caught:
            world.principal(value)
        said.append((caught.value.status, caught.value.message, caught.value.headers))
    world.now += 605
    with pytest.raises(web.HttpError) as caught:
        world.principal(fine["access_token"])
    said.append((caught.value.status, caught.value.message, caught.value.headers))
    assert said == [said[0]] * 4
    assert said[0][0] == 401
    assert said[0][2]["www-authenticate"].startswith('Bearer error="invalid_token", ')

"""Attacks across the border between two tenants: acme's people reach for what is globex's."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.attacks.people import Client, Tokens, sign_in
from tests.attacks.speaker import Speaker, eras, legacy, modern, speaker, text_of
from tests.attacks.table import attack
from tests.attacks.target import Target
from tests.attacks.wire import Reply, eventually
from tests.running import free_port

FOREIGN = (b"canary-document-of-globex", b"ledger of globex", b"forecast for globex", b"report")
NEVER = "never-was-" + "x" * 33
Use = Callable[[str], Reply]


def uses_of_sessions(server: Target, victim: Tokens, thief: Tokens) -> Iterator[tuple[str, str, Use]]:
    """What can be done with ids that only servers with sessions give."""
    session = legacy(server, victim.access)
    own = legacy(server, thief.access)

    def stream(last_event_id: str) -> Reply:
        with own.listen(Last_Event_ID=last_event_id) as opened:
            return Reply(opened.status, [], opened.response.read())

    def standalone(id_: str) -> Reply:
        with Speaker(server, thief.access, modern=False, session=id_).listen() as opened:
            return Reply(opened.status, [], opened.response.read())

    params = {"name": "steps", "arguments": {"count": 1}, "_meta": {"progressToken": 1}}
    with session.stream("tools/call", params) as opened:
        name = next(event["id"] for event in opened.rest() if "id" in event).rpartition(".")[0]
    assert session.session is not None
    as_session = lambda id_: Speaker(server, thief.access, modern=False, session=id_)  # noqa: E731
    yield "session, listing", session.session, lambda id_: as_session(id_).ask("tools/list")
    yield "session, calling", session.session, lambda id_: as_session(id_).call("own_secret")
    yield "session, listening", session.session, standalone
    yield "session, ending", session.session, lambda id_: as_session(id_).end()
    yield "event", name, lambda id_: stream(f"{id_[:22]}.0")
    yield "subscription", "ledger://own", lambda uri: own.ask("resources/subscribe", {"uri": uri})


def uses_of_tasks(server: Target, victim: Tokens, thief: Tokens) -> Iterator[tuple[str, str, Use]]:
    """What can be done with the id of a task."""
    task = modern(server, victim.access).call("later", {"seconds": 0}).message["result"]["taskId"]
    own = modern(server, thief.access)

    def use(method: str) -> Use:
        return lambda id_: own.ask(method, {"taskId": id_, "inputResponses": {}})

    for method in ("tasks/get", "tasks/cancel", "tasks/update"):
        yield method, task, use(method)


def uses_of_names(own: Speaker) -> Iterator[tuple[str, str, Use]]:
    """What can be done with names that one tenant alone has."""
    yield "tool", "export_report", lambda name: own.call(name, {"report_id": "r"})
    yield "prompt", "forecast", lambda name: own.ask("prompts/get", {"name": name})
    yield "resource", "ledger://own", lambda uri: own.ask("resources/read", {"uri": uri})
    yield "completion", "forecast", lambda name: own.ask("completion/complete", referring("prompt", name=name))
    yield "completion", "ledger://own", lambda uri: own.ask("completion/complete", referring("resource", uri=uri))


def referring(kind: str, **reference: str) -> dict[str, object]:
    """What completion is asked with."""
    return {"ref": {"type": f"ref/{kind}", **reference}, "argument": {"name": "topic", "value": ""}}


def uses_of_grants(victim: Tokens, thief: Tokens) -> Iterator[tuple[str, str, Use]]:
    """What can be done with codes and tokens of a client of somebody else."""
    code = victim.client.code("carol")
    client = thief.client
    client.verifier = victim.client.verifier  # the thief has even that
    yield "code", code, client.redeem
    yield "refresh token", victim.refresh, client.refresh
    yield "revoking a refresh token", victim.refresh, client.revoke
    yield "revoking an access token", victim.access, client.revoke


@attack("TENANCY-01")
def test_what_belongs_to_another_tenant_looks_like_what_never_was(server):
    victim, thief = sign_in(server, "carol"), sign_in(server, "alice")
    uses = [*uses_of_grants(victim, thief)]
    if server.sessions:
        uses += uses_of_sessions(server, victim, thief)
    if server.modern:
        uses += uses_of_tasks(server, victim, thief)
    for spoken in eras(server, thief.access):
        uses += uses_of_names(spoken)
    foreign = len(server.records(tenant="globex"))
    for name, id_, use in uses:
        found, never = use(id_), use(NEVER)
        assert found.status == never.status, (name, found, never)
        assert found.body.replace(id_.encode(), b"") == never.body.replace(NEVER.encode(), b""), name
        assert not any(text in found.body for text in FOREIGN[:3]), name
    # What was tried stands in the tenant of who tried it, and nothing in the other's.
    assert len(server.records(tenant="globex")) == foreign
    assert server.records("tool_denied", tenant="acme", tool="export_report", reason="foreign")
    # And nothing of the victim's has suffered.
    ids = {name: id_ for name, id_, _ in uses}
    assert victim.client.redeem(ids["code"]).status == 200
    if server.sessions:
        owned = Speaker(server, victim.access, modern=False, session=ids["session, ending"])
        assert owned.ask("ping").status == 200
    assert victim.client.refresh(victim.refresh).status == 200
    assert text_of(speaker(server, victim.access).call("own_secret")) == "canary-document-of-globex"


@attack("TENANCY-02")
def test_a_hidden_tool_is_as_unknown_as_one_that_is_nowhere(server):
    for spoken in eras(server, sign_in(server, "alice").access):
        listed = [tool["name"] for tool in spoken.ask("tools/list").message["result"]["tools"]]
        assert "echo" in listed
        assert "export_report" not in listed
        before = len(server.records("tool_denied", tool="export_report", tenant="acme"))
        hidden, nowhere = spoken.call("export_report", {"report_id": "r"}), spoken.call("nowhere_tool")
        assert hidden.status == nowhere.status
        assert hidden.body.replace(b"export_report", b"") == nowhere.body.replace(b"nowhere_tool", b"")
        assert len(server.records("tool_denied", tool="export_report", tenant="acme")) == before + 1
        resources = spoken.ask("resources/list").text + spoken.ask("prompts/list").text
        assert "ledger" not in resources
        assert "forecast" not in resources


@attack("TENANCY-03")
def test_what_is_withdrawn_between_list_and_call_is_denied(start, mode):
    server = start(mode)
    config = server.running.data.parent / "server.toml"
    spoken, alice = (speaker(server, sign_in(server, user).access) for user in ("bob", "alice"))
    for allowed in (spoken, alice):  # what was decided for one call is no decision for the next
        assert "echo" in allowed.ask("tools/list").text
        assert text_of(allowed.call("echo", {"message": "still mine"})) == "still mine"
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(spoken.call, "pause", {"seconds": 1.0, "message": "done"}, 77)
        time.sleep(0.2)  # the call is under way; what it does then is said below
        text = config.read_text()
        bob = '[users.bob]\ntenant = "acme"\nscopes = ["tools:call"]'
        assert bob in text
        config.write_text(text.replace(bob, bob.replace('["tools:call"]', "[]")))
        os.kill(server.running.process.pid, signal.SIGHUP)
        withdrawn = time.monotonic()

        def denied() -> bool:
            reply = spoken.call("echo", {"message": "x"})
            return "Denied" in reply.text or reply.status in (401, 403)

        assert eventually(denied, within_s=5.0)
        assert time.monotonic() - withdrawn < 2.0
        # A call that had begun was decided on when it began: it ends as it will, and is recorded.
        under_way.result()
    assert server.records("tool_call", tool="pause", subject="bob")
    assert server.records("tool_denied", tool="echo", subject="bob")
    config.write_text(config.read_text().replace('tools = ["echo", "own_secret"', 'tools = ["own_secret"', 1))
    os.kill(server.running.process.pid, signal.SIGHUP)
    assert eventually(lambda: "echo" not in alice.ask("tools/list").text)
    assert alice.call("echo", {"message": "x"}).status >= 400 or alice.call("echo", {"message": "x"}).code is not None


@attack("TENANCY-05")
def test_no_tenant_is_chosen_by_a_request(server):
    access = sign_in(server, "alice").access
    spoken = speaker(server, access)
    for name in ("globex", "../globex", "%2e%2e/globex", "globex%00", "GLOBEX", "", "' OR 1=1 --", "\uff47lobex"):
        quoted = name.encode().decode("latin-1") if name.isascii() else "%EF%BD%87lobex"
        for path in (f"/{quoted}/mcp", f"/mcp/{quoted}", f"/mcp/../{quoted}", f"/tenants/{quoted}/mcp"):
            if " " not in path and path != "/mcp/":
                fields = {key: value for key, value in spoken.fields().items() if value is not None}
                assert server.ask("POST", path, headers=fields, body=b"{}").status == 404, path
        for more in ({"tenant": name}, {"_meta": {"tenant": name}}):
            reply = spoken.ask("tools/call", {"name": "own_secret", "arguments": {}, **more})
            assert "canary-document-of-globex" not in reply.text
        reply = spoken.call("own_secret", {"tenant": name})
        assert "canary-document-of-globex" not in reply.text
    for field in ("X-Tenant", "X-Tenant-Id", "Tenant", "X-Forwarded-User"):
        reply = spoken.ask("tools/call", {"name": "own_secret", "arguments": {}}, **{field.replace("-", "_"): "globex"})
        assert text_of(reply) == "canary-document-of-acme", field
    fields = {key: value for key, value in spoken.fields().items() if value is not None}
    body = json.dumps(spoken.message("tools/call", {"name": "own_secret", "arguments": {}})).encode()
    mirrored = {key: value for key, value in spoken.mirrored("tools/call", {"name": "own_secret"}).items() if value}
    reply = server.ask("POST", "/mcp?tenant=globex", headers={**fields, **mirrored}, body=body)
    assert "canary-document-of-globex" not in reply.text
    assert server.faults() == []


@attack("TENANCY-05", modes=())
def test_a_tenant_whose_name_is_a_path_is_refused_at_start(tmp_path):
    from tests.attacks.target import CONFIG, SERVED, tenantry

    folder = tmp_path / "served"
    shutil.copytree(SERVED, folder)  # with the tools: nothing but the name is wrong
    for name in ("../b", "a\\u0000b", ""):
        path = folder / "bad.toml"
        path.write_text(CONFIG.read_text().replace("[tenants.acme]", f'[tenants."{name}"]\n\n[tenants.acme]', 1))
        tried = tenantry("serve", "--config", str(path), "--port", "0", "--data", str(tmp_path / "data"))
        assert tried.returncode == 2, (name, tried)
        assert "bad.toml: tenants." in tried.stderr, (name, tried)


@attack("TENANCY-07")
def test_nothing_that_is_shared_holds_what_belongs_to_one_tenant(server, longer):
    users = ("alice", "carol", "bob", "dave")
    spoken = {user: eras(server, sign_in(server, user).access) for user in users}
    seen: dict[tuple[str, str, int], set[bytes]] = {}
    methods = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]
    for _ in range(longer(3, 5_000)):
        for user in users:
            tenant = "acme" if user in ("alice", "bob") else "globex"
            other = "globex" if tenant == "acme" else "acme"
            for number, one in enumerate(spoken[user]):
                for method in methods:
                    reply = one.ask(method)
                    assert reply.header("etag") is None
                    assert "public" not in (reply.header("cache-control") or "")
                    result = reply.message["result"]
                    assert result.get("cacheScope", "private") == "private", method
                    seen.setdefault((tenant, method, number), set()).add(reply.body)
                    if method == "tools/list":
                        assert ("export_report" in reply.text) is (tenant == "globex")
                reply = one.call("own_secret")
                assert f"canary-document-of-{other}" not in reply.text
                assert f"canary-document-of-{tenant}" in reply.text
                read = one.ask("resources/read", {"uri": "note://own"})
                assert f"canary-document-of-{tenant}" in read.text
                assert read.message["result"].get("cacheScope", "private") == "private"
                if one.modern:  # what may be shared is the same for all
                    discovered = one.ask("server/discover")
                    seen.setdefault(("all", "server/discover", number), set()).add(discovered.body)
    assert all(len(bodies) == 1 for bodies in seen.values())
    for path in ("/jwks", "/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp"):
        text = server.ask("GET", path).text
        assert not any(name in text for name in ("acme", "globex", "alice"))


@attack("TENANCY-09")
def test_names_that_clients_choose_do_not_swell_records_or_logs(server):
    spoken = speaker(server, sign_in(server, "bob").access)
    logged = len(server.running.logged())
    before = len(server.records())
    for length in (200, 9_000, 500_000):
        name = "n" * length
        fields = spoken.fields()
        body = json.dumps(spoken.message("tools/call", {"name": name, "arguments": {}})).encode()
        reply = spoken.post(body, fields | spoken.mirrored("tools/call", {"name": name[:9000]}))
        assert len(reply.body) < 1024
    client = Client.new(server, client_name="c" * 128)
    assert server.register(client_name="c" * 129).status == 400
    for path in ("/authorize?client_id=" + "c" * 7000, "/" + "p" * 7000):
        reply = client.browser.get(path)
        assert len(reply.body) < 8192
        assert b"c" * 500 not in reply.body
    server.form("/token", {"grant_type": "g" * 9000, "client_id": client.client_id})
    server.form("/token", {"grant_type": "refresh_token", "refresh_token": "r" * 9000, "client_id": "c" * 5000})
    assert all(len(json.dumps(record)) < 2048 for record in server.records()[before:])
    assert all(len(line) < 1024 for line in server.running.logged()[logged:].splitlines())


@attack("TENANCY-09")
def test_names_that_clients_choose_are_no_labels(start, mode):
    port = free_port()
    server = start(mode, "--management-port", str(port))
    spoken = speaker(server, sign_in(server, "bob").access)
    for number in range(20):
        spoken.call(f"chosen-name-{number}", {})
        spoken.ask("resources/read", {"uri": f"note://chosen-name-{number}"})
        server.ask("GET", f"/chosen-name-{number}")
    assert text_of(spoken.call("echo", {"message": "x"})) == "x"
    server.port, public = port, server.port
    try:
        figures = server.ask("GET", "/metrics").text
    finally:
        server.port = public
    assert "echo" in figures
    assert "chosen-name" not in figures


@attack("TENANCY-08")
def test_a_tenant_that_asks_for_too_much_waits_in_its_own_line(start, mode, longer):
    server = start(mode, edit=lambda text: text + "calls_at_once = 4\ncalls_waiting = 8\n")  # and 10 s to wait
    noisy = [speaker(server, sign_in(server, "alice").access) for _ in range(longer(40, 400))]
    victim = speaker(server, sign_in(server, "carol").access)
    with ThreadPoolExecutor(len(noisy)) as pool:
        flood = [pool.submit(spoken.call, "pause", {"seconds": 2.0, "message": "noise"}) for spoken in noisy]
        time.sleep(0.3)  # by now the noisy tenant has all that it may have
        served = [victim.call("echo", {"message": f"quiet {number}"}) for number in range(10)]
        still = sum(not call.done() for call in flood)
        replies = [call.result() for call in flood]
    assert [text_of(reply) for reply in served] == [f"quiet {number}" for number in range(10)]
    assert still  # it was there the while
    statuses = [reply.status for reply in replies]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 4 + 8  # there would be time for more of them, were the line longer
    assert all(reply.header("retry-after") for reply in replies if reply.status == 429)
    # Logins and registrations of strangers are bounded elsewhere (LOGIN-CONSENT-10, LOGIN-CONSENT-12).
    assert text_of(victim.call("own_secret")) == "canary-document-of-globex"

from hypothesis import given
from hypothesis import strategies as st

from tenantry.identity import Principal
from tenantry.policy import Allowed, Denied, Directory, Feature, Reason, Tenant, User, decide, visible

SCOPES = ["call", "admin", "extra"]
TOOLS = ["echo", "purge", "export", "ghost"]


def tool(name: str) -> Feature:
    return Feature("tool", name)


DIRECTORY = Directory(
    needed={
        tool("echo"): frozenset({"call"}),
        tool("purge"): frozenset({"call", "admin"}),
        tool("export"): frozenset({"call"}),
        Feature("prompt", "echo"): frozenset({"call", "admin"}),
    },
    tenants={
        "a": Tenant(features=frozenset({tool("echo"), tool("purge")})),
        "b": Tenant(features=frozenset({tool("echo"), tool("export")})),
    },
    users={
        "alice": User(tenant="a", scopes=frozenset({"call", "admin"})),
        "bob": User(tenant="a", scopes=frozenset({"call"})),
        "carol": User(tenant="b", scopes=frozenset({"call"})),
    },
)


def principal(subject: str, *scopes: str, tenant: str = "a") -> Principal:
    return Principal(
        tenant=tenant,
        subject=subject,
        client_id="client",
        scopes=frozenset(scopes),
        token_id="t",
        family_id="f",
        expires_at=0,
    )


def test_who_has_all_scopes_may_call():
    assert decide(principal("alice", "call", "admin"), tool("purge"), DIRECTORY) == Allowed()


def test_a_scope_that_could_be_granted_is_asked_for_with_all_the_tool_needs():
    decision = decide(principal("alice", "call"), tool("purge"), DIRECTORY)

    assert decision == Denied(reason=Reason.STEP_UP, needed=frozenset({"call", "admin"}))


def test_a_scope_that_can_not_be_granted_is_no_step_up():
    decision = decide(principal("bob", "call"), tool("purge"), DIRECTORY)

    assert decision == Denied(reason=Reason.NOT_GRANTABLE, needed=frozenset({"call", "admin"}))


def test_a_scope_taken_from_the_person_counts_no_longer_although_the_token_has_it():
    decision = decide(principal("bob", "call", "admin"), tool("purge"), DIRECTORY)

    assert isinstance(decision, Denied)
    assert decision.reason is Reason.NOT_GRANTABLE


def test_another_tenants_tool_is_as_hidden_as_one_that_does_not_exist():
    foreign = decide(principal("alice", "call", "admin"), tool("export"), DIRECTORY)
    unknown = decide(principal("alice", "call", "admin"), tool("nothing"), DIRECTORY)

    assert isinstance(foreign, Denied)
    assert isinstance(unknown, Denied)
    assert foreign.hides
    assert unknown.hides
    assert (foreign.reason, unknown.reason) == (Reason.FOREIGN, Reason.UNKNOWN)


def test_a_person_who_moved_to_another_tenant_has_nothing_left_in_the_old_one():
    decision = decide(principal("carol", "call", tenant="a"), tool("echo"), DIRECTORY)

    assert isinstance(decision, Denied)


@given(
    subject=st.sampled_from(["alice", "bob", "carol", "nobody"]),
    tenant=st.sampled_from(["a", "b", "c"]),
    scopes=st.sets(st.sampled_from(SCOPES)),
)
def test_the_list_is_exactly_what_the_decision_does_not_hide(subject, tenant, scopes):
    who = principal(subject, *scopes, tenant=tenant)
    listed = visible(who, "tool", TOOLS, DIRECTORY)

    for name in TOOLS:
        decision = decide(who, tool(name), DIRECTORY)
        assert (name in listed) == (isinstance(decision, Allowed) or not decision.hides)
        if name in listed:
            assert tool(name) in DIRECTORY.tenants[tenant].features
        if decision == Allowed():
            assert DIRECTORY.needed[tool(name)] <= scopes


def test_a_prompt_is_not_allowed_because_a_tool_of_its_name_is():
    assert decide(principal("bob", "call"), tool("echo"), DIRECTORY) == Allowed()
    assert isinstance(decide(principal("bob", "call"), Feature("prompt", "echo"), DIRECTORY), Denied)

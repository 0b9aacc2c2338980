from hypothesis import given
from hypothesis import strategies as st

from tenantry.identity import Principal
from tenantry.policy import Allowed, Denied, Directory, Reason, Tenant, User, decide, visible

SCOPES = ["call", "admin", "extra"]
TOOLS = ["echo", "purge", "export", "ghost"]
DIRECTORY = Directory(
    tool_scopes={"echo": frozenset({"call"}), "purge": frozenset({"call", "admin"}), "export": frozenset({"call"})},
    tenants={"a": Tenant(tools=frozenset({"echo", "purge"})), "b": Tenant(tools=frozenset({"echo", "export"}))},
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
    assert decide(principal("alice", "call", "admin"), "purge", DIRECTORY) == Allowed()


def test_a_scope_that_could_be_granted_is_asked_for_with_all_the_tool_needs():
    decision = decide(principal("alice", "call"), "purge", DIRECTORY)

    assert decision == Denied(reason=Reason.STEP_UP, needed=frozenset({"call", "admin"}))


def test_a_scope_that_can_not_be_granted_is_no_step_up():
    decision = decide(principal("bob", "call"), "purge", DIRECTORY)

    assert decision == Denied(reason=Reason.NOT_GRANTABLE, needed=frozenset({"call", "admin"}))


def test_a_scope_taken_from_the_person_counts_no_longer_although_the_token_has_it():
    decision = decide(principal("bob", "call", "admin"), "purge", DIRECTORY)

    assert isinstance(decision, Denied)
    assert decision.reason is Reason.NOT_GRANTABLE


def test_another_tenants_tool_is_as_hidden_as_one_that_does_not_exist():
    foreign = decide(principal("alice", "call", "admin"), "export", DIRECTORY)
    unknown = decide(principal("alice", "call", "admin"), "nothing", DIRECTORY)

    assert isinstance(foreign, Denied)
    assert isinstance(unknown, Denied)
    assert foreign.hides_tool
    assert unknown.hides_tool
    assert (foreign.reason, unknown.reason) == (Reason.FOREIGN_TOOL, Reason.UNKNOWN_TOOL)


def test_a_person_who_moved_to_another_tenant_has_nothing_left_in_the_old_one():
    decision = decide(principal("carol", "call", tenant="a"), "echo", DIRECTORY)

    assert isinstance(decision, Denied)


@given(
    subject=st.sampled_from(["alice", "bob", "carol", "nobody"]),
    tenant=st.sampled_from(["a", "b", "c"]),
    scopes=st.sets(st.sampled_from(SCOPES)),
)
def test_the_list_is_exactly_what_the_decision_does_not_hide(subject, tenant, scopes):
    who = principal(subject, *scopes, tenant=tenant)
    listed = visible(who, TOOLS, DIRECTORY)

    for tool in TOOLS:
        decision = decide(who, tool, DIRECTORY)
        assert (tool in listed) == (isinstance(decision, Allowed) or not decision.hides_tool)
        if tool in listed:
            assert tool in DIRECTORY.tenants[tenant].tools
        if decision == Allowed():
            assert DIRECTORY.tool_scopes[tool] <= scopes

import pytest

from tenantry.config import Config, ConfigError, Mode, build, load

HASH = "$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaA"
GOOD = f"""
public_url = "https://mcp.example.com"
mode = "stateless"
tool_modules = ["my_tools"]

[scopes]
"tools:call" = "Call tools"

[tools.echo]
scopes = ["tools:call"]

[tenants.a]
tools = ["echo"]

[users.alice]
tenant = "a"
scopes = ["tools:call"]
password_hash = "{HASH}"
"""


def reasons(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, source="tenantry.toml")
    assert str(caught.value).startswith("tenantry.toml: ")
    return caught.value.reasons


def test_a_good_file_is_read():
    config = load(GOOD, source="x")

    assert config.mode is Mode.STATELESS
    assert config.resource == "https://mcp.example.com/mcp"
    assert config.directory().grantable("a", "alice") == {"tools:call"}


@pytest.mark.parametrize(
    ("change", "key", "word"),
    [
        (("[tools.echo]", "[tool.echo]"), "tool", "not permitted"),
        (('tools = ["echo"]', 'tools = ["ecko"]'), "tenants.a.tools", "ecko"),
        (('tenant = "a"', 'tenant = "z"'), "users.alice.tenant", "z"),
        (('scopes = ["tools:call"]\npassword', 'scopes = ["admin"]\npassword'), "users.alice.scopes", "admin"),
        (('[tools.echo]\nscopes = ["tools:call"]', '[tools.echo]\nscopes = ["x"]'), "tools.echo.scopes", "x"),
        ((HASH, "demo"), "users.alice.password_hash", "match"),
        (("stateless", "sometimes"), "mode", "Mode"),
        (("https://mcp.example.com", "http://mcp.example.com"), "public_url", "https"),
        (("https://mcp.example.com", "https://mcp.example.com/"), "public_url", "host"),
        (("https://mcp.example.com", "https://MCP.example.com"), "public_url", "lower"),
        (('["my_tools"]', '"my_tools"'), "tool_modules", "tuple"),
        (("[users.alice]", '[users."a\\u0000b"]'), "users", "match"),
        (
            ("[tools.echo]", '[clients]\nprivate_schemes = ["javascript"]\n[tools.echo]'),
            "clients.private_schemes",
            "browser",
        ),
        (("[tools.echo]", '[clients]\nprivate_schemes = ["A:"]\n[tools.echo]'), "clients.private_schemes", "match"),
        (("[tools.echo]", '[clients]\nregistration = "shut"\n[tools.echo]'), "clients.registration", "Policy"),
        (
            ("[tools.echo]", '[clients]\nregistration = "initial_access_token"\n[tools.echo]'),
            "clients",
            "initial_access_tokens",
        ),
        (
            ("[tools.echo]", f'[clients]\ninitial_access_tokens = ["{"0" * 64}"]\n[tools.echo]'),
            "clients",
            "initial_access_tokens",
        ),
        (("tool_modules", 'trusted_proxies = ["10.0.0.1/8"]\ntool_modules'), "trusted_proxies", "host bits"),
        (("tool_modules", 'trusted_proxies = ["0.0.0.0/0"]\ntool_modules'), "trusted_proxies", "everybody"),
    ],
)
def test_a_contradiction_is_refused_with_its_key_and_reason(change, key, word):
    text = GOOD.replace(*change)
    assert text != GOOD

    assert any(reason.startswith(key) and word in reason for reason in reasons(text)), reasons(text)


def test_every_contradiction_is_said_at_once():
    text = GOOD.replace('tools = ["echo"]', 'tools = ["x"]').replace('tenant = "a"', 'tenant = "z"')

    assert len(reasons(text)) == 2


def test_what_is_no_toml_is_refused_with_its_line():
    assert "line 1" in reasons("mode = x")[0]


def test_on_loopback_every_spelling_of_this_machine_is_known():
    sites = Config().at("http://localhost:3000").sites(bound_port=3000, bound_to_loopback=True)

    assert sites.hosts == {"localhost:3000", "127.0.0.1:3000", "[::1]:3000"}


def test_elsewhere_only_the_public_name_is_known():
    sites = Config().at("https://mcp.example.com").sites(bound_port=3000, bound_to_loopback=False)

    assert sites.hosts == {"mcp.example.com", "mcp.example.com:443"}


def test_a_listener_with_tls_is_known_by_https():
    sites = Config().at("https://localhost:3000").sites(bound_port=3000, bound_to_loopback=True, scheme="https")

    assert "https://127.0.0.1:3000" in sites.origins
    assert "http://127.0.0.1:3000" not in sites.origins


@pytest.mark.parametrize(
    ("url", "wanted"),
    [("https://mcp.example.com", True), ("https://localhost:3000", False), ("http://localhost:3000", False)],
)
def test_only_a_name_of_its_own_is_told_to_use_https_for_good(url, wanted):
    assert Config().at(url).https_for_good is wanted


def test_proxies_of_the_file_and_of_the_command_line_are_trusted_both():
    proxies = Config(trusted_proxies=("10.0.0.0/8",)).behind("192.0.2.1").proxies

    assert proxies.trusts("10.1.2.3")
    assert proxies.trusts("192.0.2.1")
    assert not proxies.trusts("192.0.2.2")


@pytest.mark.parametrize("mode", list(Mode))
def test_a_mode_serves_at_least_one_kind_of_client(mode):
    assert mode.modern or mode.sessions


def test_the_scopes_fit_into_one_form():
    scopes = {f"scope{number}": "" for number in range(41)}
    with pytest.raises(ConfigError, match="at most 40"):
        build({"scopes": scopes}, source="test")
    del scopes["scope0"]
    assert len(build({"scopes": scopes}, source="test").scopes) == 40

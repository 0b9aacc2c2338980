"""What holds over TLS: versions, ciphers, URLs, cookies. A server of ours on http gets a twin with a certificate."""

import contextlib
import socket
import ssl
import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from conformance.authority import Authority
from conformance.certificates import self_signed
from conformance.clauses import clause
from conformance.client import NotApplicable
from conformance.peer import Site
from conformance.serving import PASSWORD, demo
from conformance.test_oauth_metadata import ENDPOINTS

NEW, OLD = ("TLSv1_2", "TLSv1_3"), ("TLSv1", "TLSv1_1")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Authority]]:
    """Servers with a certificate, by mode; each is started at its first use."""
    folder = tmp_path_factory.mktemp("tls")
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        certfile, keyfile = self_signed(folder)
        patch.setenv("SSL_CERT_FILE", str(certfile))

        class Twins(dict[str, Authority]):
            def __missing__(self, mode: str) -> Authority:
                flags = ("--certfile", str(certfile), "--keyfile", str(keyfile))
                server = stack.enter_context(demo(folder / mode, mode, *flags))
                self[mode] = Authority(server.url, (server.user, PASSWORD))
                return self[mode]

        yield Twins()


@pytest.fixture
def secure(site: Site, twins: dict[str, Authority]) -> Authority:
    """The server over https."""
    if site.url.startswith("https://"):
        return site.authority
    if site.server is None:
        raise NotApplicable("the server is reached by http, and is not ours to give it a certificate")
    return twins[site.mode]


def handshake(url: str, version: str) -> tuple[str, str]:
    """Shake hands in one version of TLS; give version and cipher."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the old versions are named to be refused
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if version in OLD:
        context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is the server who refuses
    with (
        socket.create_connection((parts.hostname or "", parts.port or 443), 10) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as wrapped,
    ):
        cipher = wrapped.cipher()
        assert cipher is not None
        return wrapped.version() or "", cipher[0]


@clause(
    "rfc8414:6.1:tls",
    "rfc8414:6.1:ciphers",
    "rfc9728:7.1:tls",
    "rfc7009:2:tls",
    "rfc7591:5:tls",
    "rfc7662:2:tls",
    "rfc7662:4:tls",
    "rfc6750:5.2:tls",
)
@pytest.mark.parametrize("version", NEW)
def test_tls_is_spoken_with_ciphers_that_keep_secrets(secure: Authority, version: str) -> None:
    spoken, cipher = handshake(secure.url, version)
    assert spoken == version.replace("_", ".")
    assert version == "TLSv1_3" or cipher.startswith(("ECDHE", "DHE"))
    assert not {"NULL", "RC4", "DES", "MD5", "EXP", "anon"} & set(cipher.replace("-", "_").split("_"))


@clause("rfc8414:6.1:tls", "rfc7591:5:tls", "rfc7662:4:tls")
@pytest.mark.parametrize("version", OLD)
def test_tls_of_old_is_refused(secure: Authority, version: str) -> None:
    assert handshake(secure.url, "TLSv1_2")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(secure.url, version)


@clause("own:https:urls")
def test_over_https_every_url_that_the_server_gives_is_https(secure: Authority) -> None:
    named = [secure.metadata[name] for name in ENDPOINTS if name in secure.metadata]
    named += [secure.issuer, secure.resource, secure.protected_url, secure.metadata["issuer"]]
    assert len(named) > 6
    assert not [url for url in named if not url.startswith("https://")]
    assert secure.code().response["iss"] == [secure.issuer]


@clause("own:https:cookies")
def test_over_https_every_cookie_is_bound_to_the_host_and_to_https(secure: Authority) -> None:
    cookies = list(secure.browser.cookies)
    assert cookies
    assert all(each.name.startswith("__Host-") for each in cookies)
    assert all(each.secure and each.path == "/" and not each.domain_specified for each in cookies)


@clause("own:https:whole-flow")
def test_over_https_tokens_are_given_and_taken(secure: Authority) -> None:
    grant = secure.grant()
    assert secure.opens(grant.access_token)
    assert secure.refresh(grant).status == 200

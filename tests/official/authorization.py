"""The official runner's scenarios for an authorization server: it prints a URL, and a person goes there."""

import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from tests.http_client import Browser, Client
from tests.official import runner
from tests.running import demo_with, free_port, running_server

SCENARIOS = ["authorization-server-metadata-endpoint", "authorization-code-grant"]


def run(out: Path, *, client_documents: bool) -> list[runner.Verdict]:
    """Let the runner be a client of a fresh server, and be the person whom it asks to sign in.

    `client_documents` says whether the server offers client ID metadata documents, which the runner wants to see.
    """
    package = runner.install(runner.NEWEST)
    out.mkdir(parents=True, exist_ok=True)
    section = f"[clients]\nclient_id_metadata_documents = {str(client_documents).lower()}"
    config = str(demo_with(out, section))
    with tempfile.TemporaryDirectory() as data, running_server(Path(data), "--config", config) as server:
        client = Client.register(server.issuer)
        flags = ("--client-id", client.client_id, "-p", str(free_port()), "-o", str(out))
        command = [*runner.command(package), "authorization", "--url", server.issuer, *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                for line in process.stdout or ():
                    print(line, end="")  # pytest shows it where the test fails
                    if line.startswith(f"{server.issuer}/authorize?"):
                        _sign_in(client.browser, line.strip())
                print(f"the runner ended with {process.wait(60)}")
            finally:
                process.kill()
    return runner.judge(out, SCENARIOS, leg="authorization-server")


def _sign_in(browser: Browser, url: str) -> None:
    """Do what a person does in a browser, and follow the way back to the runner."""
    back = browser.submit(browser.ask("GET", _local(url)), username="alice", password="demo")
    answer = browser.submit(browser.ask("GET", _local(back.headers["location"])), decision="allow")
    assert answer.status == 303, answer
    with build_opener(ProxyHandler({})).open(answer.headers["location"], timeout=30) as callback:
        callback.read()


def _local(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"

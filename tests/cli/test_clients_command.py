"""`tenantry clients invite`: what it prints admits to registration."""

import json
import re
import subprocess

from tests.http_client import REDIRECT_URI, Browser
from tests.running import TENANTRY, demo_with, running_server


def test_the_invitation_admits_and_its_digest_does_not(tmp_path):
    printed = subprocess.run([*TENANTRY, "clients", "invite"], check=True, capture_output=True, text=True).stdout
    token = re.search(r":  (\S{43})$", printed, re.MULTILINE)
    [digest] = re.findall(r"[0-9a-f]{64}", printed)
    assert token
    section = "[clients]\n" + "\n".join(printed.splitlines()[-2:])
    with running_server(tmp_path / "data", "--config", str(demo_with(tmp_path, section))) as server:
        browser = Browser(server.issuer)
        body = json.dumps({"redirect_uris": [REDIRECT_URI]})
        statuses = [
            browser.ask("POST", "/register", body, **{"content-type": "application/json", **header}).status
            for header in (
                {},
                {"authorization": f"Bearer {digest}"},
                {"authorization": f"Bearer {token[1]}"},
            )
        ]
    assert statuses == [401, 401, 201]

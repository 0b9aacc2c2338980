"""Races at the token endpoint of a running server: one code, one refresh token, many at once.

`python -m tests.races.token_races --rounds 200`; a short form runs with the other tests.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.http_client import Client, all_at_once, call_headers, call_message
from tests.running import running_server

REDEEMERS = 64
REFRESHERS = 64


def redeem_at_once(client: Client, redeemers: int = REDEEMERS) -> tuple[int, Counter[str]]:
    """Redeem one fresh code by many at once: how many got tokens, and the errors of the others."""
    code = client.authorize()
    answers = all_at_once(client.origin, "/token", client.code_form(code), redeemers)
    errors = Counter(f"{answer.status} {answer.json['error']}" for answer in answers if answer.status != 200)
    return sum(answer.status == 200 for answer in answers), errors


def refresh_at_once(client: Client, refresh_token: str, refreshers: int = REFRESHERS) -> tuple[set[str], list[int]]:
    """Refresh by one token many times at once: the successors that were given out, and the statuses."""
    answers = all_at_once(client.origin, "/token", client.refresh_form(refresh_token), refreshers)
    successors = {answer.json["refresh_token"] for answer in answers if answer.status == 200}
    return successors, [answer.status for answer in answers]


def may_call(client: Client, access_token: str) -> bool:
    """Whether the resource server takes the access token."""
    answer = client.browser.ask("POST", "/mcp", call_message(1).decode(), **call_headers(access_token))
    return answer.status == 200


def main() -> int:
    """Run the rounds and say what came of them; exit status 1 where a round had not exactly one winner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    winners: Counter[int] = Counter()
    losers: Counter[str] = Counter()
    successors: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as directory, running_server(Path(directory)) as server:
        client = Client.register(server.issuer)
        for _ in range(options.rounds):
            won, errors = redeem_at_once(client)
            winners[won] += 1
            losers += errors
        for _ in range(options.rounds):
            tokens = client.sign_in()
            given, statuses = refresh_at_once(client, tokens["refresh_token"])
            successors[len(given) if set(statuses) == {200} else -1] += 1
    print(f"codes: winners a round {dict(winners)}, the others {dict(losers)}")
    print(f"refresh tokens: successors a round {dict(successors)}")
    return 0 if set(winners) == {1} and set(successors) == {1} else 1


if __name__ == "__main__":
    sys.exit(main())

"""The official Python SDK as it is, led through standard input and output: see clients.py for the words.

python client.py URL
"""

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from mcp.shared.exceptions import MCPError

from mcp import Client

REDIRECT = "http://127.0.0.1/callback"
real_time = time.time


def say(**message: Any) -> None:
    """Write one message."""
    print(json.dumps(message), flush=True)


async def next_order() -> Any:
    """Read one order; None at the end."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


class Storage:
    """What an application keeps for the SDK."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        """Give what was kept."""
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        """Keep it."""
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        """Give what was kept."""
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        """Keep it."""
        self.client = client_info


async def main() -> None:
    """Carry out orders until there are no more."""
    url = sys.argv[1]
    storage, callbacks = Storage(), []

    async def go(authorization_url: str) -> None:
        say(authorize=authorization_url)
        callbacks.append(parse_qs(urlsplit((await next_order())["callback"]).query))

    async def come_back() -> AuthorizationCodeResult:
        answer = {name: values[0] for name, values in callbacks.pop().items()}
        return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))

    metadata = OAuthClientMetadata.model_validate(
        {
            "client_name": "Foreign Python client",
            "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }
    )
    provider = OAuthClientProvider(url, metadata, storage, go, come_back)
    order = await next_order()  # to connect is a part of the first one
    while order:
        async with (
            httpx2.AsyncClient(auth=provider, timeout=30) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            while order:
                # The SDK refreshes by its own clock: this one says that the token is over.
                time.time = (lambda: real_time() + 3500) if order.get("age") else real_time
                try:
                    result = await client.call_tool(order["call"]["name"], order["call"]["arguments"])
                except MCPError as error:
                    if "Session terminated" not in str(error):
                        raise
                    break  # the SDK leaves it to the application to connect again
                say(
                    answer=result.model_dump(mode="json", by_alias=True),
                    tokens=storage.tokens.model_dump(mode="json", exclude_none=True),
                    client_id=storage.client.client_id,
                )
                order = await next_order()


asyncio.run(main())

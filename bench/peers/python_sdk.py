"""An echo on the official Python SDK: stateless, JSON answers, a bearer check, no audit. Prints its URL."""

import os
import socket

import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from tokens import claims_of  # beside this file, which is run as a program


class Verifier:
    """What the SDK asks about an access token."""

    async def verify_token(self, token: str) -> AccessToken | None:
        """Give what the token stands for, None where it does not count."""
        claims = claims_of(token)
        if claims is None:
            return None
        return AccessToken(token=token, client_id=claims["client_id"], scopes=claims["scope"].split())


def echo(message: str) -> str:
    """Give the message back."""
    return message


settings = AuthSettings(
    issuer_url=os.environ["PEER_ISSUER"],
    resource_server_url=os.environ["PEER_AUDIENCE"],
    required_scopes=["tools:call"],
    validate_token_resource=False,
)
server = MCPServer("peer", token_verifier=Verifier(), auth=settings, log_level="WARNING")
server.add_tool(echo)
app = server.streamable_http_app(stateless_http=True, json_response=True)
sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(f"ready at http://127.0.0.1:{sock.getsockname()[1]}/mcp", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[sock])

"""An echo on FastMCP: stateless, JSON answers, a bearer check, no audit. Prints its URL."""

import socket

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth import AccessToken, TokenVerifier
from tokens import claims_of  # beside this file, which is run as a program


class Verifier(TokenVerifier):
    """What FastMCP asks about an access token."""

    async def verify_token(self, token: str) -> AccessToken | None:
        """Give what the token stands for, None where it does not count."""
        claims = claims_of(token)
        if claims is None:
            return None
        return AccessToken(token=token, client_id=claims["client_id"], scopes=claims["scope"].split())


def echo(message: str) -> str:
    """Give the message back."""
    return message


server = FastMCP("peer", auth=Verifier(required_scopes=["tools:call"]))
server.tool(echo)
app = server.http_app(path="/mcp", stateless_http=True, json_response=True)
sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(f"ready at http://127.0.0.1:{sock.getsockname()[1]}/mcp", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[sock])

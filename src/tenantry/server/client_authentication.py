"""Which client sends this request: asked alike at the token, revocation and introspection endpoints."""

from collections.abc import Mapping

from tenantry import web
from tenantry.oauth import client_authentication
from tenantry.oauth.clients import Client
from tenantry.server.store import Store


async def authenticated_client(store: Store, request: web.Request, form: Mapping[str, str]) -> Client:
    """The client that a request comes from; raises `OAuthError` invalid_request or invalid_client."""
    given = client_authentication.presented(form, request.headers.all("authorization"))
    return client_authentication.authenticated(await store.clients.find(given.client_id), given)

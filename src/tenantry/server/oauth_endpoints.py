"""The routes of the endpoints that programs talk to.

Metadata and keys are answered here, registration by `registration`, what concerns tokens by `token_endpoint`.
"""

from tenantry.oauth import metadata, openapi
from tenantry.server.introspection import Introspection
from tenantry.server.json_answers import Handler, answering_errors, document
from tenantry.server.registration import Registration
from tenantry.server.services import Services
from tenantry.server.token_endpoint import TokenEndpoint
from tenantry.version import __version__


class OAuthEndpoints:
    """Metadata and keys, and the way to the other endpoints."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._keys = services.keys
        self._registration = Registration(services)
        self._tokens = TokenEndpoint(services)
        self._introspection = Introspection(services)

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Path -> method -> handler."""
        config = self._config
        registration = self._registration.routes()
        server = metadata.authorization_server(
            issuer=config.issuer,
            scopes=config.scopes,
            registration=bool(registration),
            client_documents=config.clients.client_id_metadata_documents,
        )
        resource = metadata.protected_resource(resource=config.resource, issuer=config.issuer, scopes=config.scopes)
        description = openapi.describe(
            issuer=config.issuer,
            resource=config.resource,
            version=__version__,
            scopes=config.scopes,
            registration=bool(registration),
        )
        return {
            openapi.PATH: {"GET": document(lambda: description)},
            metadata.AUTHORIZATION_SERVER_PATH: {"GET": document(lambda: server)},
            metadata.protected_resource_path(config.resource): {"GET": document(lambda: resource)},
            "/jwks": {"GET": document(self._keys.document)},
            "/token": {"POST": answering_errors(self._tokens.give)},
            "/revoke": {"POST": answering_errors(self._tokens.revoke)},
            **self._introspection.routes(),
            **registration,
        }

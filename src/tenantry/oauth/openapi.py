"""The endpoints of the authorization server as an OpenAPI 3.1 document, for whoever generates a client or a test.

It says what holds for this configuration: an endpoint that is not served is not in it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tenantry.oauth import metadata

PATH = "/openapi.json"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
HTML = "text/html"

Object = dict[str, Any]

_TEXT: Object = {"type": "string"}
_URL: Object = {"type": "string", "format": "uri"}
_TEXTS: Object = {"type": "array", "items": _TEXT}
_MOMENT: Object = {"type": "integer", "description": "Seconds since the epoch."}


def describe(*, issuer: str, resource: str, version: str, scopes: Iterable[str], registration: bool) -> Object:
    """Build the document; `registration` says whether clients can register."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tenantry's authorization server",
            "version": version,
            "description": "OAuth 2.1 in front of one MCP endpoint: tokens, registration, and the pages for people.",
        },
        "servers": [{"url": issuer}],
        "paths": {
            metadata.AUTHORIZATION_SERVER_PATH: {"get": _document("serverMetadata", "RFC 8414", "ServerMetadata")},
            metadata.protected_resource_path(resource): {
                "get": _document("resourceMetadata", "RFC 9728", "ResourceMetadata")
            },
            "/jwks": {"get": _document("keys", "RFC 7517", "KeySet")},
            PATH: {"get": _document("thisDocument", "OpenAPI 3.1", "Description")},
            **({"/register": {"post": _registration()}} if registration else {}),
            "/token": {"post": _token(scopes)},
            "/revoke": {"post": _revocation()},
            "/introspect": {"post": _introspection()},
            "/authorize": {"get": _authorization()},
            "/login": {"post": _page_form("logIn", "Send the login page.", username=_TEXT, password=_TEXT)},
            "/logout": {"post": _page_form("logOut", "End the login session and begin again.")},
            "/consent": {"post": _page_form("consent", "Send the consent page.", decision={"enum": ["allow", "deny"]})},
            "/account": {
                "get": _page("account", "What the person granted and where they are logged in, or the login page."),
                "post": _page_form("changeAccount", "End a grant or a login session of the person's."),
            },
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "clientSecret": {"type": "http", "scheme": "basic", "description": "RFC 6749 section 2.3.1."},
                "initialAccess": {"type": "http", "scheme": "bearer", "description": "RFC 7591 section 3."},
            },
        },
    }


_CACHED = {"cache-control": "For how long it may be kept.", "etag": "Changes with the document."}
_HEADERS = {401: {"www-authenticate": "The challenge."}, 429: {"retry-after": "Seconds."}}


def _ref(name: str) -> Object:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Object | None = None, headers: Mapping[str, str] | None = None) -> Object:
    answer: Object = {"description": description}
    if schema is not None:
        answer["content"] = {JSON: {"schema": schema}}
    if headers:
        answer["headers"] = {name: {"description": text, "schema": _TEXT} for name, text in headers.items()}
    return answer


def _refusals(*statuses: int) -> Object:
    """What any of these endpoints may answer, and what these answer besides; the same members throughout."""
    reasons = {
        400: "The request is malformed, or refused for the reason in `error`.",
        401: "Who asks did not prove who it is.",
        403: "The Host or the Origin is not one of this server.",
        408: "The body came too slowly.",
        413: "The body is too long.",
        415: "The body is of another type.",
        429: "Too many requests; `Retry-After` says when to come again.",
        503: "The server can't keep a record; `Retry-After` says when to come again.",
    }
    return {
        str(status): _answer(reasons[status], _ref("Error"), _HEADERS.get(status, {}))
        for status in (403, 503, *statuses)
    }


def _document(name: str, text: str, schema: str) -> Object:
    return {
        "operationId": name,
        "summary": f"A public document ({text}).",
        "parameters": [{"name": "If-None-Match", "in": "header", "schema": _TEXT}],
        "responses": {
            "200": _answer("The document.", _ref(schema), _CACHED),
            "304": _answer("It has not changed.", headers=_CACHED),
            **_refusals(),
        },
    }


def _form(properties: Object, required: list[str]) -> Object:
    schema = {"type": "object", "properties": properties, "required": required}
    return {"required": True, "content": {FORM: {"schema": schema}}}


def _client(properties: Object) -> Object:
    # A client with a secret may also send both in the header.
    return {"client_id": _TEXT, "client_secret": _TEXT, **properties}


def _token(scopes: Iterable[str]) -> Object:
    properties = _client(
        {
            "grant_type": {"enum": [*metadata.GRANT_TYPES, metadata.CLIENT_CREDENTIALS]},
            "code": _TEXT,
            "code_verifier": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{43,128}$"},
            "redirect_uri": _URL,
            "refresh_token": _TEXT,
            "scope": {"type": "string", "description": f"Some of: {' '.join(scopes)}"},
            "resource": _URL,
        }
    )
    return {
        "operationId": "token",
        "summary": "Get tokens (OAuth 2.1 section 3.2, RFC 6749 sections 4.1.3, 4.4 and 6).",
        "security": [{}, {"clientSecret": []}],
        "requestBody": _form(properties, ["grant_type"]),
        "responses": {"200": _answer("Tokens.", _ref("Tokens")), **_refusals(400, 401, 408, 413, 415)},
    }


def _revocation() -> Object:
    properties = _client({"token": _TEXT, "token_type_hint": _TEXT})
    return {
        "operationId": "revoke",
        "summary": "End a token and all that came from the same consent (RFC 7009).",
        "security": [{}, {"clientSecret": []}],
        "requestBody": _form(properties, ["token"]),
        "responses": {
            "200": _answer("It has ended, or was none of the client's."),
            **_refusals(400, 401, 408, 413, 415),
        },
    }


def _introspection() -> Object:
    properties = _client({"token": _TEXT, "token_type_hint": _TEXT})
    return {
        "operationId": "introspect",
        "summary": "Ask what a token is good for (RFC 7662).",
        "security": [{}, {"clientSecret": []}],
        "requestBody": _form(properties, ["token"]),
        "responses": {"200": _answer("What it is.", _ref("Introspection")), **_refusals(400, 401, 408, 413, 415)},
    }


def _registration() -> Object:
    body = {"required": True, "content": {JSON: {"schema": _ref("ClientMetadata")}}}
    return {
        "operationId": "register",
        "summary": "Register a client (RFC 7591).",
        "security": [{}, {"initialAccess": []}],
        "requestBody": body,
        "responses": {
            "201": _answer("The client.", _ref("Client")),
            **_refusals(400, 401, 408, 413, 415, 429),
        },
    }


def _authorization() -> Object:
    parameters: dict[str, Object] = {
        "response_type": {"enum": list(metadata.RESPONSE_TYPES)},
        "client_id": _TEXT,
        "redirect_uri": _URL,
        "code_challenge": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
        "code_challenge_method": {"enum": ["S256"]},
        "state": _TEXT,
        "scope": _TEXT,
        "resource": _URL,
        "prompt": _TEXT,
    }
    required = {"response_type", "client_id", "code_challenge", "code_challenge_method"}
    page = _page("authorize", "Ask a person for a grant (OAuth 2.1 section 4.1.1).", 414)
    return page | {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in parameters.items()
        ]
    }


def _page(name: str, summary: str, *statuses: int) -> Object:
    html: Object = {"type": "string"}
    page = {"content": {HTML: {"schema": html}}}
    # A foreign Host or Origin, and a log that fails, are answered before there is a page.
    either = {"content": {HTML: {"schema": html}, JSON: {"schema": _ref("Error")}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "A page.", **page},
            "303": _answer("Go on.", headers={"location": "Where to."}),
            **{str(status): {"description": "A page that says why not.", **page} for status in (400, 429, *statuses)},
            **{str(status): {"description": "Why not.", **either} for status in (403, 503)},
        },
    }


def _page_form(name: str, summary: str, **fields: Object) -> Object:
    sealed = {"type": "string", "description": "What the page carried; without it nothing happens."}
    return _page(name, summary, 408, 413, 415) | {"requestBody": _form({"sealed": sealed, **fields}, ["sealed"])}


def _object(properties: Object, required: Iterable[str], **more: object) -> Object:
    return {"type": "object", "properties": properties, "required": list(required), **more}


_CLIENT_METADATA: Object = {
    "redirect_uris": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 10},
    "token_endpoint_auth_method": {"enum": list(metadata.AUTH_METHODS)},
    "grant_types": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 10},
    "response_types": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 10},
    "application_type": {"enum": ["native", "web"]},
    "client_name": {"type": "string", "minLength": 1, "maxLength": 128},
    "client_uri": _URL,
    "logo_uri": _URL,
    "tos_uri": _URL,
    "policy_uri": _URL,
    "scope": {"type": "string", "maxLength": 2048},
    "contacts": {"type": "array", "items": _TEXT, "maxItems": 10},
    "software_id": {"type": "string", "minLength": 1, "maxLength": 128},
    "software_version": {"type": "string", "minLength": 1, "maxLength": 128},
}
_GIVEN: Object = {
    "client_id": _TEXT,
    "client_id_issued_at": _MOMENT,
    "client_secret": _TEXT,
    "client_secret_expires_at": {"const": 0},
}
_KEY: Object = {
    "kty": {"const": "EC"},
    "crv": {"const": "P-256"},
    "alg": {"const": "ES256"},
    "use": {"const": "sig"},
    "kid": _TEXT,
    "x": _TEXT,
    "y": _TEXT,
}
_ENDPOINTS = ("authorization", "token", "revocation", "introspection")
_SCHEMAS: Object = {
    # Before a client is known, a bare `error` says for people what is wrong with the request.
    "Error": _object({"error": _TEXT, "error_description": _TEXT}, ["error"]),
    "Tokens": _object(
        {
            "access_token": _TEXT,
            "token_type": {"const": "Bearer"},
            "expires_in": {"type": "integer", "minimum": 1},
            "scope": _TEXT,
            "refresh_token": _TEXT,
        },
        ["access_token", "token_type", "expires_in", "scope"],
        additionalProperties=False,
    ),
    "Introspection": _object(
        {
            "active": {"type": "boolean"},
            "exp": _MOMENT,
            **dict.fromkeys(("token_type", "scope", "client_id", "sub", "tenant", "iss", "aud", "jti"), _TEXT),
        },
        ["active"],
        additionalProperties=False,
    ),
    "ClientMetadata": _object(_CLIENT_METADATA, ["redirect_uris"]),
    "Client": _object(
        {**_CLIENT_METADATA, **_GIVEN},
        [
            *("client_id", "client_id_issued_at", "redirect_uris"),
            *("token_endpoint_auth_method", "grant_types", "response_types"),
        ],
    ),
    "KeySet": _object(
        {"keys": {"type": "array", "minItems": 1, "items": _object(_KEY, _KEY, additionalProperties=False)}}, ["keys"]
    ),
    "ServerMetadata": _object(
        {
            "issuer": _URL,
            "jwks_uri": _URL,
            **{f"{name}_endpoint": _URL for name in (*_ENDPOINTS, "registration")},
            **{f"{name}_endpoint_auth_methods_supported": _TEXTS for name in _ENDPOINTS[1:]},
            "code_challenge_methods_supported": {"const": ["S256"]},
            "authorization_response_iss_parameter_supported": {"const": True},
        },
        ["issuer", "jwks_uri", *(f"{name}_endpoint" for name in _ENDPOINTS), "code_challenge_methods_supported"],
    ),
    "ResourceMetadata": _object(
        {"resource": _URL, "authorization_servers": _TEXTS, "scopes_supported": _TEXTS},
        ["resource", "authorization_servers"],
    ),
    "Description": _object({"openapi": {"const": "3.1.0"}}, ["openapi", "info", "paths"]),
}

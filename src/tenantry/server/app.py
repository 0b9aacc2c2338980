"""The route table, and the one place where an exception becomes an answer."""

from collections.abc import Callable, Mapping

import structlog

from tenantry import jsonrpc, web
from tenantry.server.audit_writer import AuditUnavailable
from tenantry.server.exchange import Answer, Exchange, Handler
from tenantry.server.store.database import StoreUnavailable
from tenantry.web import Sites

Routes = Mapping[str, Mapping[str, Handler]]
ANY = "*"
"""A handler under this name answers every method of its path."""

_log = structlog.get_logger()


class App:
    """Takes an exchange to its handler; Host and Origin are checked on every path, before anything else."""

    def __init__(self, routes: Routes, sites: Sites, *, answered: Callable[[str, int], None] = lambda *_: None) -> None:
        """`answered` is told the path, empty where there is none of that name, and the status of each answer."""
        self._routes = routes
        self._sites = sites
        self._answered = answered

    async def handle(self, exchange: Exchange) -> Answer:
        """Answer one exchange; no exception but a cancellation leaves."""
        answer: Answer
        try:
            answer = await exchange.request.once(self._handler)(exchange)
        except web.HttpError as error:
            answer = _error(error.status, error.message, error.headers)
        except AuditUnavailable as error:
            _log.error("the audit log is unavailable", reason=str(error))
            answer = _error(
                503, "the audit log is unavailable: nothing is done without its record", {"retry-after": "5"}
            )
        except StoreUnavailable as error:
            _log.error("the store is unavailable", reason=str(error), path=exchange.request.path[:200])
            answer = _error(503, "the store is unavailable: try again later", {"retry-after": "5"})
        except Exception:  # noqa: BLE001  # the client learns nothing of our fault; the log has all of it
            _log.exception("a handler failed", method=exchange.request.method, path=exchange.request.path[:200])
            answer = _error(500, "the server failed; its log says why", {})
        path = exchange.request.path
        self._answered(path if path in self._routes else "", answer.status if isinstance(answer, web.Response) else 200)
        return answer

    def _handler(self, request: web.Request) -> Handler:
        self._sites.check(request)
        methods = self._routes.get(request.path)
        if methods is None:
            raise web.HttpError(404, "there is nothing here")
        handler = methods.get(request.method) or methods.get(ANY)
        if handler is None:
            raise web.HttpError(405, f"{request.method} is not served here", headers={"allow": ", ".join(methods)})
        return handler


def _error(status: int, message: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        status=status,
        headers={"content-type": "application/json", "cache-control": "no-store", **headers},
        body=jsonrpc.encode({"error": message}),
    )

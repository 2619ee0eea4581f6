"""WSGI: `AutocronMiddleware(app, database="shop.db")` around any WSGI app, such as one of Falcon.

from autocron_web.wsgi import AutocronMiddleware

app = AutocronMiddleware(app, database="shop.db")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .origin import app_origin
from .settings import Settings
from .web.adapters import refuse_a_second, start
from .web.front import Front

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class AutocronMiddleware:
    """Starts the pool, or joins the running one, when it is made in a process that serves.

    app: the WSGI app. auth: called with the environment of a request for the status; whether the visitor
        may see more than a word of it, and "detail" for one who may also see arguments, output and
        tracebacks.
    settings: `database` (`<module of the app>.db`), `workers` (2), `status` (False), `url_prefix`
        (`/autocron`), `token` (None), `autostart` (True), `max_jobs` and `max_memory` (None).

    Raises `ConfigError` for a setting that cannot be.

        app = AutocronMiddleware(falcon.App(), database="shop.db", status=True)
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        auth: Callable[[WSGIEnvironment], object] | None = None,
        **settings: Any,
    ) -> None:
        refuse_a_second(app, AutocronMiddleware)
        self.app = app
        self._auth = auth
        words = Settings.of(settings)
        self._front = Front(words)
        start(words, app_origin())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path not in self._front.paths:
            return self.app(environ, start_response)
        allowed = self._auth is not None and self._auth(environ)
        authorization = environ.get("HTTP_AUTHORIZATION")
        status, headers, body = self._front.answer(environ["REQUEST_METHOD"], path, authorization, allowed)
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

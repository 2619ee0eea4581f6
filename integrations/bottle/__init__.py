"""Bottle: `app.install(AutocronPlugin(database="shop.db"))`; within tasks, the app is Bottle's default app.

from bottle import Bottle
from autocron_web.bottle import AutocronPlugin

app = Bottle()
app.install(AutocronPlugin(database="shop.db"))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import execution
from ..engine import engine
from ..errors import ConfigError
from ..origin import app_origin
from ..settings import Settings
from ..web.adapters import start
from ..web.front import Front

try:
    from bottle import Bottle, HTTPResponse, request
except ImportError as error:
    raise ImportError("autocron_web.bottle needs Bottle: pip install 'autocron-web[bottle]'") from error


class AutocronPlugin:
    """A plugin for one app, by Bottle's plugin API 2 (https://bottlepy.org/docs/stable/plugins/).

    auth: called during a request for the status; whether the visitor may see more than a word of it, and
        "detail" for one who may also see arguments, output and tracebacks.
    settings: `database` (`<module of the app>.db`), `workers` (2), `status` (False), `url_prefix`
        (`/autocron`), `token` (None), `autostart` (True), `max_jobs` and `max_memory` (None).

    Raises `ConfigError` for a setting that cannot be.
    """

    name = "autocron"
    api = 2

    def __init__(self, *, auth: Callable[[], object] | None = None, **settings: Any) -> None:
        self._auth = auth
        self._words = Settings.of(settings)

    def setup(self, app: Bottle) -> None:
        """Start the pool, or join the running one, if this process serves; called by `app.install`."""
        if any(isinstance(plugin, AutocronPlugin) for plugin in app.plugins):
            raise ConfigError("autocron-web is set up for this Bottle app already: install the plugin once")
        self._mount(app)
        execution.surroundings.append(lambda: app)
        start(self._words, app_origin())

    def apply(self, callback: Callable[..., Any], route: Any) -> Callable[..., Any]:
        """Requests are left as they are."""
        return callback

    def close(self) -> None:
        """Leave the pool; called by `app.close()`."""
        engine.leave()

    def _mount(self, app: Bottle) -> None:
        front = Front(self._words)
        taken = front.paths.keys() & {route.rule for route in app.routes}
        if taken:
            raise ConfigError(
                f"the app has a route {min(taken)} already:"
                f" give another url_prefix than {self._words.url_prefix!r}"
            )

        def view(path: str) -> HTTPResponse:
            allowed = self._auth is not None and self._auth()
            # Not get_header(), which raises UnicodeDecodeError for a header that is not UTF-8.
            authorization = request.environ.get("HTTP_AUTHORIZATION")
            status, headers, body = front.answer(request.method, path, authorization, allowed)
            return HTTPResponse(body, status, headers)

        for path in front.paths:
            # The path is given, as that of the request is another one where the app is mounted.
            app.route(path, "ANY", partial(view, path), skip=True)

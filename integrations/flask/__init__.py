"""Flask: `AutocronFlask(app)`, or `init_app(app)` in a factory, and every task runs in the app's context.

from flask import Flask
from autocron_web.flask import AutocronFlask

app = Flask(__name__)
app.config["AUTOCRON_DATABASE"] = "shop.db"
AutocronFlask(app)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from .. import execution
from ..engine import engine
from ..errors import ConfigError
from ..origin import app_origin, variable_of
from ..settings import Settings, check_names, default_database
from ..web.front import Front

try:
    from flask import Blueprint, Flask, Response, request
except ImportError as error:
    raise ImportError("autocron_web.flask needs Flask: pip install 'autocron-web[flask]'") from error


class AutocronFlask:
    """Background tasks for a Flask app.

    app: the app, or None if `init_app` follows.
    auth: called during a request for the status; whether the visitor may see more than a word of it, and
        "detail" for one who may also see arguments, output and tracebacks.
    settings: `database` (`<name of the app>.db`), `workers` (2), `status` (False), `url_prefix`
        (`/autocron`), `token` (None), `autostart` (True), `max_jobs` and `max_memory` (None); they go before
        the app's configuration `AUTOCRON_DATABASE`, `AUTOCRON_WORKERS` and so on.

    Raises `ConfigError` for a setting that cannot be.
    """

    def __init__(
        self, app: Flask | None = None, *, auth: Callable[[], object] | None = None, **settings: Any
    ) -> None:
        self._auth = auth
        self._keywords = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, **settings: Any) -> None:
        """Start the pool, or join the running one, if this process serves; for factories."""
        if "autocron" in app.extensions:
            raise ConfigError(
                f"autocron-web is set up for the Flask app {app.name!r} already:"
                " call AutocronFlask(app) or init_app(app) once for each app"
            )
        # An app may have taken the environment over, where AUTOCRON_HOME and the like stand.
        given = [key for key in app.config if key.startswith("AUTOCRON_") and key not in os.environ]
        check_names(given, [_spell(word) for word in Settings._fields])
        words = Settings.read(app.config.get, _spell, {**self._keywords, **settings})
        database = words.database or default_database(app.name, _spell("database"))
        for word, value in words._replace(database=database)._asdict().items():
            app.config.setdefault(_spell(word), value)
        self._mount(app, words)
        app.cli.add_command(_Commands(app), "autocron")
        app.extensions["autocron"] = self
        execution.surroundings.append(app.app_context)
        if app.testing:
            from ..testing import run_inline

            run_inline()
        if words.autostart:
            engine.start(database, **words.pool, app_id=app.name, loader=_loader(app))

    def _mount(self, app: Flask, words: Settings) -> None:
        """The pages of the status, as a blueprint."""
        front = Front(words)
        taken = front.paths.keys() & {rule.rule for rule in app.url_map.iter_rules()}
        if taken:
            raise ConfigError(
                f"the app has a route {min(taken)} already: give another {_spell('url_prefix')}"
                f" than {words.url_prefix!r}"
            )

        def view() -> Response:
            allowed = self._auth is not None and self._auth()
            path, authorization = request.path, request.headers.get("Authorization")
            status, headers, body = front.answer(request.method, path, authorization, allowed)
            return Response(body, status, headers)

        blueprint = Blueprint("autocron", __name__)
        for path, page in front.paths.items():
            blueprint.add_url_rule(path, page, view)
        if front.paths:
            app.register_blueprint(blueprint)


class _Commands(click.Command):
    """`flask autocron top`: the commands, which are imported when one of them is wanted."""

    def __init__(self, app: Flask) -> None:
        super().__init__("autocron", help="Look into the background tasks of this app, and end them.")
        self._app = app

    def make_context(self, *given: Any, **named: Any) -> click.Context:
        from ..cli import commands

        return commands(lambda: self._app.config[_spell("database")]).make_context(*given, **named)


def _loader(app: Flask) -> dict[str, Any] | None:
    """How a worker makes the app, and finds its context if this is called where no worker comes."""
    origin = app_origin()
    name = variable_of(origin, app)
    return origin if origin is None or name is None else {**origin, "context": [name, "app_context"]}


def _spell(word: str) -> str:
    return f"AUTOCRON_{word.upper()}"

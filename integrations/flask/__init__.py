"""Flask: `AutocronFlask(app)`, or `init_app(app)` in a factory, and every task runs in the app's context.

from flask import Flask
from autocron_web.flask import AutocronFlask

app = Flask(__name__)
app.config["AUTOCRON_DATABASE"] = "shop.db"
AutocronFlask(app)
"""

from __future__ import annotations

from typing import Any

from .. import execution
from ..engine import engine
from ..errors import ConfigError
from ..origin import app_origin
from ..settings import Settings, default_database

try:
    from flask import Flask
except ImportError as error:
    raise ImportError("autocron_web.flask needs Flask: pip install 'autocron-web[flask]'") from error


class AutocronFlask:
    """Background tasks for a Flask app.

    app: the app, or None if `init_app` follows.
    settings: `database` (`<name of the app>.db`), `workers` (2), `autostart` (True); they go before
        the app's configuration `AUTOCRON_DATABASE`, `AUTOCRON_WORKERS`, `AUTOCRON_AUTOSTART`.

    Raises `ConfigError` for a setting that cannot be.
    """

    def __init__(self, app: Flask | None = None, **settings: Any) -> None:
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
        words = Settings.read(app.config.get, _spell, {**self._keywords, **settings})
        database = words.database or default_database(app.name, _spell("database"))
        for word, value in words._replace(database=database)._asdict().items():
            app.config.setdefault(_spell(word), value)
        app.extensions["autocron"] = self
        execution.surroundings.append(app.app_context)
        if words.autostart:
            engine.start(database, words.workers, app_id=app.name, loader=app_origin())


def _spell(word: str) -> str:
    return f"AUTOCRON_{word.upper()}"

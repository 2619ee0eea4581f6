"""Tornado: `install(application, database="shop.db")`.

from tornado.web import Application
from autocron_web.tornado import install

application = Application(handlers)
install(application, database="shop.db")
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import ConfigError
from ..origin import app_origin
from ..settings import Settings
from ..web.adapters import start
from ..web.front import Front

try:
    from tornado.web import Application, RequestHandler
except ImportError as error:
    raise ImportError("autocron_web.tornado needs Tornado: pip install 'autocron-web[tornado]'") from error


def install(
    application: Application, *, auth: Callable[[RequestHandler], Any] | None = None, **settings: Any
) -> None:
    """Start the pool, or join the running one, if this process serves. Call it before the app listens.

    auth: called with the handler of a request for the status, may be a coroutine function; whether the
        visitor may see more than a word of it, and "detail" for one who may also see arguments, output and
        tracebacks.
    settings: `database` (`<module of the app>.db`), `workers` (2), `status` (False), `url_prefix`
        (`/autocron`), `token` (None), `autostart` (True), `max_jobs` and `max_memory` (None).

    Raises `ConfigError` for a setting that cannot be.
    """
    if "autocron" in application.settings:
        raise ConfigError(
            "autocron-web is set up for this Tornado application already: call install(application) once"
        )
    words = Settings.of(settings)
    front = Front(words)
    application.settings["autocron"] = words
    given = {"front": front, "auth": auth}
    application.add_handlers(".*", [(re.escape(path), _StatusHandler, given) for path in front.paths])
    start(words, app_origin())


class _StatusHandler(RequestHandler):
    def initialize(self, front: Front, auth: Callable[[RequestHandler], Any] | None) -> None:
        self._front = front
        self._may = auth

    async def prepare(self) -> None:
        """Answers requests of every method, so that none is left for the methods' own."""
        request = self.request
        allowed = self._may is not None and self._may(self)
        if isinstance(allowed, Awaitable):
            allowed = await allowed
        authorization = request.headers.get("Authorization")
        status, headers, body = await asyncio.to_thread(
            self._front.answer, request.method or "", request.path, authorization, allowed
        )
        self.set_status(status)
        for name, value in headers:
            self.set_header(name, value)
        await self.finish(body)

    def compute_etag(self) -> None:
        """What is of this moment is never the same."""

"""Starlette and FastAPI: `AutocronMiddleware`, or a lifespan that composes with the app's own.

from starlette.middleware import Middleware
from autocron_web.starlette import AutocronMiddleware

app = Starlette(middleware=[Middleware(AutocronMiddleware, database="shop.db")])
"""

from __future__ import annotations

from .. import asgi
from ..asgi import lifespan, lifespan_state
from ..web.lifespan import Scope

try:
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise ImportError(
        "autocron_web.starlette needs Starlette: pip install 'autocron-web[starlette]'"
    ) from error

__all__ = ["AutocronMiddleware", "lifespan", "lifespan_state"]


class AutocronMiddleware(asgi.AutocronMiddleware):
    """As `autocron_web.asgi.AutocronMiddleware`, and `auth` is called with a connection of Starlette.

    It has the user and the session, if the middleware for these stands before this one.

        Middleware(AutocronMiddleware, database="shop.db", status=True, auth=lambda conn: conn.user.is_admin)
    """

    def _visitor(self, scope: Scope) -> HTTPConnection:
        return HTTPConnection(scope)

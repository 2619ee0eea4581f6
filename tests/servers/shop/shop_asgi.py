"""The same app for ASGI servers."""

from __future__ import annotations

from a2wsgi import WSGIMiddleware
from shop import app

application = WSGIMiddleware(app)  # type: ignore[arg-type]  # another description of the same WSGI
